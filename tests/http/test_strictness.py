"""What is too deep, too much, twice, out of range or no text at all is refused, never a 5xx."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.http.conftest import BASE, SIGNED, Rest

DEEP = 10_000
LONG = "x" * 4_000


@pytest.fixture
def rest(shared: Rest) -> Rest:
    """One for all: what is refused leaves nothing behind."""
    return shared


def refused(answer: httpx.Response, code: str, path: str | None = None) -> dict[str, Any]:
    """The error of a 4xx, after checking that it names what it is about."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code, error
    if path is not None:
        assert error["details"][0]["path"] == path, error
    return error


async def post(rest: Rest, body: bytes | str, path: str = "/jobs") -> httpx.Response:
    headers = {"Content-Type": "application/json", **SIGNED}
    return await rest.client.post(path, content=body, headers=headers)


def of_job(field: str, text: str) -> str:
    """A job with one field given as JSON text."""
    return f'{{"jobType": "scan", "{field}": {text}}}'


@pytest.mark.parametrize("null", ["null", "Null"])
async def test_a_parameter_that_is_null_is_refused(rest: Rest, null: str) -> None:
    job_id = (await rest.submit())["jobId"]
    answer = await rest.client.get(f"/jobs/{job_id}/logs", params={"tail": null})
    refused(answer, "INVALID_FIELD", "tail")


@pytest.mark.parametrize("opened", ["[", '{"a":'])
@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/jobs", "%s"),
        ("/jobs", '{"jobType": "scan", "payload": %s}'),
        ("/jobs", '{"jobType": "scan", "labels": %s}'),
        ("/jobs/00000000-0000-7000-8000-000000000000:replay", '{"priority": %s}'),
    ],
)
async def test_json_that_is_ten_thousand_deep_is_refused(
    rest: Rest, opened: str, path: str, around: str
) -> None:
    closed = "]" if opened == "[" else "}"
    deep = opened * DEEP + "1" + closed * DEEP
    for body in (around % deep, opened * DEEP):
        answer = await post(rest, body, path)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] in ("BAD_JSON", "INVALID_FIELD")


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_a_deep_item_of_a_bulk_is_rejected_and_spoils_no_other(
    rest: Rest, media_type: str
) -> None:
    deep = of_job("payload", "[" * DEEP + "]" * DEEP)
    good = '{"jobType": "scan"}'
    ndjson = media_type.endswith("ndjson")
    body = f"{good}\n{deep}\n" if ndjson else f"[{good}, {deep}]"
    answer = await rest.client.post(
        "/jobs:bulk", content=body, headers={"Content-Type": media_type}
    )
    if ndjson:
        outcomes = [item["outcome"] for item in answer.json()["items"]]
        assert outcomes == ["created", "rejected"]
    else:
        refused(answer, "BAD_JSON")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dependsOn", ["x"] * 1_001),
        ("labels", {f"l{n}": "" for n in range(33)}),
        ("labels", {"x" * 65: ""}),
        ("labels", {"a": "x" * 257}),
        ("jobType", "x" * 129),
        ("correlationId", "x" * 257),
        ("uniqueKey", ""),
        ("queue", "a b"),
        ("queue", "a\n"),
    ],
)
async def test_counts_and_lengths_are_bounded(rest: Rest, field: str, value: object) -> None:
    job = {"jobType": "scan", field: value}
    refused(await post(rest, json.dumps(job)), "INVALID_FIELD")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("priority", "9007199254740993"),
        ("priority", "1e400"),
        ("priority", "5.5"),
        ("priority", "true"),
        ("maxRetries", "-1"),
        ("timeoutSeconds", "-1"),
        ("timeoutSeconds", "0"),
        ("leaseSeconds", "-30"),
        ("leaseSeconds", "99999999999999999999"),
        ("cost", "-1"),
        ("backoff", '{"baseSeconds": -0.5}'),
        ("backoff", '{"maxSeconds": 1e300}'),
        ("backoff", '{"maxSeconds": NaN}'),
        ("payload", "9007199254740993"),
        ("payload", '{"n": -9007199254740993}'),
        ("payload", "1e999"),
        ("payload", "NaN"),
    ],
)
async def test_numbers_out_of_range_are_refused(rest: Rest, field: str, text: str) -> None:
    answer = await post(rest, of_job(field, text))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("BAD_JSON", "INVALID_FIELD")


@pytest.mark.parametrize("field", ["notBefore", "expiresAt"])
@pytest.mark.parametrize(
    "instant",
    [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "10000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-21T10:00:00",
        "2026-11-21",
        "now",
        "",
    ],
)
async def test_an_instant_out_of_range_or_without_its_offset_is_refused(
    rest: Rest, field: str, instant: str
) -> None:
    refused(await post(rest, of_job(field, json.dumps(instant))), "INVALID_FIELD")


@pytest.mark.parametrize("name", ["createdFrom", "createdBefore"])
@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1", ""])
async def test_an_instant_of_a_filter_is_held_to_the_same(
    rest: Rest, name: str, instant: str
) -> None:
    refused(await rest.client.get("/jobs", params={name: instant}), "INVALID_FIELD", name)


@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800", "\\udfff\\ud800"])
@pytest.mark.parametrize(
    "job",
    [
        '{"jobType": "s%s"}',
        '{"jobType": "scan", "payload": "%s"}',
        '{"jobType": "scan", "payload": {"%s": 1}}',
        '{"jobType": "scan", "labels": {"a": "%s"}}',
        '{"jobType": "scan", "labels": {"%s": "a"}}',
        '{"jobType": "scan", "correlationId": "%s"}',
        '{"jobType": "scan", "uniqueKey": "%s"}',
        '{"jobType": "scan", "runId": "%s"}',
        '{"jobType": "scan", "dependsOn": ["%s"]}',
        '{"jobType": "scan", "projectId": "%s"}',
        '{"jobType": "scan", "%s": 1}',
    ],
)
async def test_nul_and_lone_surrogates_are_refused_in_every_string(
    rest: Rest, job: str, bad: str
) -> None:
    answer = await post(rest, job % bad)
    assert answer.status_code == 400, answer.text
    bulk = await post(rest, f"[{job % bad}]", "/jobs:bulk")
    assert bulk.status_code == 400 or bulk.json()["rejected"] == 1


@pytest.mark.parametrize("body", [b"\xff", b'{"jobType": "\xed\xa0\x80"}', b"\xef\xbb\xbf{}", b""])
async def test_bytes_that_are_no_text_are_refused(rest: Rest, body: bytes) -> None:
    refused(await post(rest, body), "BAD_JSON")


@pytest.mark.parametrize("segment", ["%00", "%ff", "%ed%a0%80", "%0d%0aX: 1", "%F0%9F%92%A9", LONG])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{}"),
        ("GET", "/jobs/{}/logs"),
        ("POST", "/jobs/{}:cancel"),
        ("GET", "/deadletter/{}"),
        ("POST", "/deadletter/{}:discard"),
        ("GET", "/stream/jobs/{}"),
    ],
)
async def test_any_bytes_in_a_path_are_answered_as_unknown(
    rest: Rest, method: str, path: str, segment: str
) -> None:
    said = await rest.raw(
        f"{method} {BASE}{path.format(segment.replace(' ', '%20'))} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {rest.token()}\r\nX-Stella-Tenant: demo\r\nConnection: close\r\n"
        "X-Stella-Operator-Reason: r\r\nX-Stella-Operator-Ticket: t\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    assert said.startswith(b"HTTP/1.1 404"), said[:400]
    assert b'"NOT_FOUND"' in said


FILTERS = ("jobType", "queue", "runId", "sourceId", "project", "label")


@pytest.mark.parametrize("raw", ["%00", "a%00b", "%ff", "%ed%a0%80", "", "x" * 257])
@pytest.mark.parametrize("name", [*FILTERS, "state", "pageToken", "createdFrom"])
async def test_filters_take_text_only(rest: Rest, name: str, raw: str) -> None:
    value = f"a:{raw}" if name == "label" and raw else raw
    answer = await rest.client.get(f"/jobs?{name}={value}")
    refused(answer, "INVALID_FIELD")


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs/summary", "/deadletter", "/stream/events", "/jobs/x/history"]
)
async def test_an_unknown_query_parameter_is_refused_by_name(rest: Rest, path: str) -> None:
    answer = await rest.client.get(path, params={"pagesize": "5"})
    refused(answer, "INVALID_FIELD", "pagesize")


async def test_an_unknown_query_parameter_of_a_post_is_refused_too(rest: Rest) -> None:
    refused(await post(rest, '{"jobType": "scan"}', "/jobs?dryRun=1"), "INVALID_FIELD", "dryRun")


@pytest.mark.parametrize("size", ["0", "-1", "501", "9007199254740993", "1.5", "ten", ""])
async def test_a_page_size_is_1_to_500(rest: Rest, size: str) -> None:
    refused(await rest.client.get("/jobs", params={"pageSize": size}), "INVALID_FIELD", "pageSize")


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "X-Stella-Tenant",
        "X-Stella-Project",
        "X-Stella-Operator-Reason",
        "X-Stella-Operator-Ticket",
        "X-Correlation-Id",
        "Idempotency-Key",
        "Content-Type",
    ],
)
async def test_a_header_that_is_given_twice_is_refused(rest: Rest, name: str) -> None:
    base = {**dict(rest.headers()), "Content-Type": "application/json", **SIGNED}
    first = base.get(name, "a")
    given = [*base.items(), *([] if name in base else [(name, first)]), (name.lower(), first)]
    answer = await rest.client.request(
        "POST", "/jobs", content=b'{"jobType": "scan"}', headers=clean(rest, given)
    )
    refused(answer, "INVALID_FIELD", name)


async def test_two_different_tenants_in_one_request_are_refused(rest: Rest) -> None:
    given = [*rest.headers().items(), ("X-Stella-Tenant", "other")]
    answer = await rest.client.get("/jobs", headers=clean(rest, given))
    refused(answer, "INVALID_FIELD", "X-Stella-Tenant")


@pytest.mark.parametrize("name", ["X-Stella-Project", "X-Correlation-Id", "Idempotency-Key"])
async def test_headers_have_a_length(rest: Rest, name: str) -> None:
    answer = await rest.client.post("/jobs", json={"jobType": "a"}, headers={name: "x" * 257})
    refused(answer, "INVALID_FIELD", name)


@pytest.mark.parametrize("name", ["X-Stella-Tenant", "Authorization", "Last-Event-ID"])
async def test_a_header_of_any_length_and_bytes_is_no_fault(rest: Rest, name: str) -> None:
    for value in (b"x" * 4_000, b"\xff\xfe", "ü".encode(), b"a\tb"):
        answer = await rest.client.get("/jobs/summary", headers=[(name.encode(), value)])
        assert answer.status_code < 500, answer.text


def clean(rest: Rest, given: list[tuple[str, str]]) -> httpx.Headers:
    """Exactly these headers: the client's own of the same names are left out."""
    for name, _ in given:
        rest.client.headers.pop(name, None)
    return httpx.Headers(given)


async def test_a_page_token_is_good_for_its_tenant_list_project_and_filter_only(
    rest: Rest,
) -> None:
    for _ in range(3):
        await rest.submit()
    page = await rest.client.get("/jobs", params={"pageSize": 1, "queue": "scan"})
    token = page.json()["nextPageToken"]
    assert token
    good = {"pageSize": 2, "queue": "scan", "pageToken": token}
    assert len((await rest.client.get("/jobs", params=good)).json()["items"]) == 2
    elsewhere: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
        ("/jobs", {**good, "queue": "other"}, {}),
        ("/jobs", {"pageToken": token}, {}),
        ("/deadletter", {"queue": "scan", "pageToken": token}, {}),
        ("/jobs", good, rest.headers(tenant="other")),
        ("/jobs", good, {"X-Stella-Project": "alpha"}),
        ("/jobs", {**good, "pageToken": token[:-1] + "!"}, {}),
        ("/jobs", {**good, "pageToken": token + "A"}, {}),
        ("/jobs", {**good, "pageToken": quote(token) * 40}, {}),
    )
    for path, params, headers in elsewhere:
        answer = await rest.client.get(path, params=params, headers=headers)
        refused(answer, "INVALID_FIELD", "pageToken")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/runs", r'{"runToken": "a\u0000", "jobs": [{"key": "a", "jobType": "x"}]}', "runToken"),
        (
            "/runs",
            r'{"runToken": "a", "jobs": [{"key": "a\u0000", "jobType": "x"}]}',
            "jobs[0].key",
        ),
        (
            "/runs/00000000-0000-7000-8000-000000000000:retryFailed",
            r'{"runToken": "\u0000"}',
            "runToken",
        ),
    ],
)
async def test_a_body_that_names_nul_is_refused(
    rest: Rest, path: str, body: str, field: str
) -> None:
    refused(await post(rest, body, path), "INVALID_FIELD", field)


async def test_an_escaped_backslash_before_u0000_is_text(rest: Rest) -> None:
    answer = await post(
        rest, r'{"runToken": "\\u0000", "jobs": [{"key": "a", "jobType": "x"}]}', "/runs"
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["runToken"] == r"\u0000"
