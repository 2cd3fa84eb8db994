"""Who is let in, in which order the checks run, and that every refusal wears the envelope."""

import base64
import json
from typing import Any

import httpx
import jwt
import pytest

from jobengine import __version__
from tests.http.conftest import BASE, SIGNED, Rest

JOB = {"jobType": "scan"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error, after checking what every error must have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-JobEngine-Version"] == __version__
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert len(error["traceId"]) == 32
    return error


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "Bearer a.b.c", "Bearer x"])
async def test_a_missing_or_malformed_token_is_401(rest: Rest, header: str | None) -> None:
    del rest.client.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header}
    answer = await rest.client.get("/jobs", headers=headers)
    check(answer, 401, "TOKEN_INVALID")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_token_that_nobody_signed_is_401(rest: Rest) -> None:
    claims = jwt.decode(rest.token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", algorithm="none")
    answer = await rest.client.get("/jobs", headers={"Authorization": f"Bearer {unsigned}"})
    check(answer, 401, "TOKEN_INVALID")


async def test_a_token_with_changed_claims_is_401_and_is_not_repeated(rest: Rest) -> None:
    head, body, signature = rest.token(["orch:read"]).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["scope"] = "orch:operate"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    token = f"{head}.{forged}.{signature}"
    answer = await rest.client.get("/jobs", headers={"Authorization": f"Bearer {token}"})
    check(answer, 401, "TOKEN_INVALID")
    assert signature not in answer.text


async def test_an_expired_token_is_401_and_the_answer_says_since_when(rest: Rest) -> None:
    answer = await rest.client.get("/jobs", headers=rest.headers(ttl_s=60, age_s=120))
    assert "expired" in check(answer, 401, "TOKEN_INVALID")["message"]


async def test_the_tenant_must_be_named(rest: Rest) -> None:
    del rest.client.headers["X-Stella-Tenant"]
    error = check(await rest.client.get("/jobs"), 403, "TENANT_REQUIRED")
    assert error["details"] == [{"path": "X-Stella-Tenant"}]


async def test_a_tenant_that_the_token_is_not_for_is_forbidden(rest: Rest) -> None:
    answer = await rest.client.get("/jobs", headers={"X-Stella-Tenant": "other"})
    check(answer, 403, "TENANT_FORBIDDEN")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/jobs", "orch:read"),
        ("GET", "/deadletter", "orch:read"),
        ("GET", "/stream/events", "orch:read"),
        ("POST", "/jobs", "orch:submit"),
        ("POST", "/jobs:bulk", "orch:submit"),
        ("POST", "/jobs/x:cancel", "orch:operate"),
        ("POST", "/deadletter/x:discard", "orch:operate"),
    ],
)
async def test_a_missing_scope_is_named(rest: Rest, method: str, path: str, scope: str) -> None:
    answer = await rest.client.request(method, path, headers=rest.headers(scopes=["orch:work"]))
    error = check(answer, 403, "SCOPE_REQUIRED")
    assert scope in error["message"]
    assert scope in error["details"][0]["scopes"]


async def test_a_viewer_reads_and_changes_nothing(rest: Rest) -> None:
    viewer = rest.headers(scopes=["Orch.Viewer"])
    assert (await rest.client.get("/jobs", headers=viewer)).status_code == 200
    answer = await rest.client.post("/jobs", json=JOB, headers=viewer)
    check(answer, 403, "SCOPE_REQUIRED")


@pytest.mark.parametrize("missing", [list(SIGNED)[:1], list(SIGNED)[1:], list(SIGNED)])
async def test_an_operation_needs_reason_and_ticket(rest: Rest, missing: list[str]) -> None:
    job = await rest.submit(hold=True)
    said = {name: text for name, text in SIGNED.items() if name not in missing}
    answer = await rest.client.post(f"/jobs/{job['jobId']}:cancel", headers=said)
    error = check(answer, 400, "AUDIT_REASON_REQUIRED")
    assert [detail["path"] for detail in error["details"]] == missing
    unchanged = await rest.client.get(f"/jobs/{job['jobId']}")
    assert unchanged.json()["state"] == "pending"


@pytest.mark.parametrize(
    ("name", "length"),
    [("X-Stella-Operator-Reason", 257), ("X-Stella-Operator-Ticket", 129)],
)
async def test_reason_and_ticket_have_a_length(rest: Rest, name: str, length: int) -> None:
    answer = await rest.operate("/jobs/x:cancel", headers={name: "x" * length})
    assert check(answer, 400, "INVALID_FIELD")["details"] == [{"path": name}]


async def test_reason_and_ticket_are_kept_in_the_ledger(rest: Rest) -> None:
    job = await rest.submit(hold=True)
    reason = "Überlast"
    await rest.operate(
        f"/jobs/{job['jobId']}:cancel", headers={"X-Stella-Operator-Reason": reason.encode()}
    )
    entries = await rest.engine.store.entries("demo", [1, 2])
    assert (entries[-1].reason_given, entries[-1].ticket) == (reason, "T-1")


async def test_whoever_may_create_a_held_job_may_release_it(rest: Rest) -> None:
    job = await rest.submit(hold=True)
    path = f"/jobs/{job['jobId']}:release"
    operator = rest.headers(scopes=["orch:operate"])
    check(await rest.client.post(path, headers=operator), 400, "AUDIT_REASON_REQUIRED")
    producer = rest.headers(scopes=["orch:submit"])
    answer = await rest.client.post(path, headers=producer)
    assert answer.json()["state"] == "scheduled"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/jobs/", 404, "NOT_FOUND"),
        ("GET", "//jobs", 404, "NOT_FOUND"),
        ("POST", "/jobs/x:explode", 404, "NOT_FOUND"),
        ("DELETE", "/jobs", 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/jobs", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/jobs:bulk", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_an_unknown_path_or_method_wears_the_envelope(
    shared: Rest, method: str, path: str, status: int, code: str
) -> None:
    answer = await shared.client.request(method, path)
    check(answer, status, code)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/jobs", "text/xml"),
        ("/jobs", "application/x-www-form-urlencoded"),
        ("/jobs", "application/x-ndjson"),
        ("/jobs:bulk", "text/plain"),
    ],
)
async def test_another_media_type_is_415(rest: Rest, path: str, media_type: str) -> None:
    answer = await rest.client.post(path, content=b"{}", headers={"Content-Type": media_type})
    check(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_charset_and_a_missing_media_type_are_fine(rest: Rest) -> None:
    for headers in ({"Content-Type": "application/json; charset=utf-8"}, {}):
        answer = await rest.client.post("/jobs", content=json.dumps(JOB).encode(), headers=headers)
        assert answer.status_code == 201


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_and_the_connection_goes_on(
    rest: Rest, size: int, chunked: bool
) -> None:
    async def pieces() -> Any:
        for _ in range(size // 65_536 + 1):
            yield b"x" * 65_536

    content = pieces() if chunked else b"x" * size
    answer = await rest.client.post(
        "/jobs:bulk", content=content, headers={"Content-Type": "application/json"}
    )
    check(answer, 413, "PAYLOAD_TOO_LARGE")
    assert (await rest.client.get("/jobs")).status_code == 200


async def test_a_body_that_does_not_arrive_is_408(rest: Rest) -> None:
    said = await rest.raw(
        b"POST %s/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nX-Stella-Tenant: demo\r\nContent-Length: 10\r\n\r\n{"
        % (BASE.encode(), rest.token().encode())
    )
    assert said.startswith(b"HTTP/1.1 408")
    assert b'"REQUEST_TIMEOUT"' in said


async def test_an_error_is_part_of_the_trace_that_the_client_began(rest: Rest) -> None:
    answer = await rest.client.get("/nothing", headers={"traceparent": TRACEPARENT})
    error = check(answer, 404, "NOT_FOUND")
    assert error["traceId"] == TRACEPARENT.split("-")[1]


async def test_what_nobody_foresaw_is_500_and_shows_nothing_of_the_inside(
    rest: Rest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(rest.engine.store, "job_counts", broken)
    capsys.readouterr()
    answer = await rest.client.get("/jobs/summary", headers={"traceparent": TRACEPARENT})
    error = check(answer, 500, "INTERNAL")
    assert "secret" not in answer.text
    logged = capsys.readouterr().out + caplog.text
    assert logged.count("http_request_failed") == 1
    assert error["traceId"] in logged


async def test_a_field_of_a_body_that_may_be_absent_is_still_checked(rest: Rest) -> None:
    answer = await rest.operate("/jobs/x:cancel", json={"force": True})
    assert check(answer, 400, "INVALID_FIELD")["details"] == [{"path": "force"}]


async def test_a_websocket_to_an_unknown_path_wears_the_envelope(rest: Rest) -> None:
    said = await rest.raw(
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert b"x-jobengine-version: " in head
    assert json.loads(body)["error"]["code"] == "NOT_FOUND"
