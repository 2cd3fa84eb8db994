"""What browsers are told, and that no secret is kept that came in at a door."""

from typing import Any

import pytest

from jobengine.domain.redaction import stand_in
from jobengine.http.security import Cors, origins_of
from jobengine.settings import Settings
from tests.http.opened import hear, opened, say

ORIGIN = "https://console.example.com"
GITHUB = "ghp_" + "a1B2" * 9
OTHER = "glpat-" + "x9" * 12
PEM = "-----BEGIN PRIVATE KEY-----\n" + "aB3/" * 16 + "\nc2hvcnQ=\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/livez", 200), ("/nothing", 404), ("/api/v1/jobengine/jobs", 401), ("/console", 200)],
)
async def test_every_answer_says_what_a_browser_may_do_with_it(path: str, status: int) -> None:
    async with opened() as node:
        answer = await node.client.get(
            node.doors.http_url + path, headers={"Authorization": "", "Origin": ORIGIN}
        )
        assert answer.status_code == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
        assert "Set-Cookie" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "Vary" not in answer.headers


async def test_the_workers_listener_says_it_too() -> None:
    async with opened() as node:
        answer = await node.client.get(
            node.doors.worker_url.replace("ws", "http") + "/worker",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        )
        assert answer.status_code == 400
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_page_of_an_allowed_origin_may_ask_and_read() -> None:
    async with opened(cors=Cors(frozenset({ORIGIN}))) as node:
        asks = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-stella-tenant",
        }
        client = node.client
        granted = await client.options("/jobs", headers={**asks, "Authorization": ""})
        assert granted.status_code == 204
        assert granted.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in granted.headers["Access-Control-Allow-Methods"]
        assert "X-Stella-Tenant" in granted.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in granted.headers
        answer = await client.get("/jobs", headers={"Origin": ORIGIN})
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "X-RateLimit-Remaining" in answer.headers["Access-Control-Expose-Headers"]
        refused = await client.get("/jobs", headers={"Origin": ORIGIN, "Authorization": ""})
        assert (refused.status_code, refused.headers["Vary"]) == (401, "Origin")
        assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", [ORIGIN + ".evil.org", "http://console.example.com", "null"])
async def test_a_page_of_another_origin_gets_nothing(origin: str) -> None:
    async with opened(cors=Cors(frozenset({ORIGIN}))) as node:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = await node.client.options("/jobs", headers=asks)
        assert preflight.status_code == 405
        answer = await node.client.get("/jobs", headers={"Origin": origin})
        for one in (preflight, answer):
            assert one.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Origin" not in one.headers


def test_origins_are_exact() -> None:
    assert origins_of(f"{ORIGIN}, http://localhost:3000") == {ORIGIN, "http://localhost:3000"}
    assert origins_of("") == frozenset()
    for wrong in ("*", "https://*.example.com", f"{ORIGIN}/", "console.example.com", "null"):
        with pytest.raises(ValueError, match="is no origin"):
            origins_of(wrong)


async def _run_one(node: Any, job: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Create a job, lease it to a worker, which says what `report` holds; the lease."""
    created = await node.client.post("/jobs", json=job, headers={"Idempotency-Key": GITHUB})
    assert created.status_code == 201, created.text
    async with node.worker() as worker:
        await say(
            worker,
            {"op": "hello", "workerId": "w", "jobTypes": ["scan"], "capacity": 1},
            {"op": "credit", "slots": 1},
        )
        lease = await hear(worker, "lease")
        of_lease = {"leaseId": lease["leaseId"], "token": lease["token"]}
        at = "2026-11-21T00:00:00Z"
        texts = [f"cloning with {GITHUB}", *PEM.splitlines()]
        lines = [{"at": at, "level": "info", "text": text} for text in texts]
        await say(
            worker,
            {"op": "progress", **of_lease, "percent": 1, "message": f"token={OTHER} {PEM}"},
            {"op": "log", **of_lease, "lines": lines},
            {"op": "artifact", **of_lease, "uri": f"https://bob:{OTHER}@host/a", "name": "a"},
            {"ref": 7, **of_lease, **report},
        )
        assert (await hear(worker, "ack"))["ref"] == 7
    return lease


def _everything(node: Any) -> str:
    """All that the store keeps, as text: rows, ledger and stored answers."""
    return repr(_plain(node.engine.store, set()))


def _plain(value: Any, seen: set[int]) -> Any:
    if isinstance(value, str | bytes | int | float | None):
        return value
    if id(value) in seen:
        return None
    seen.add(id(value))
    if isinstance(value, dict):
        return [(_plain(one, seen), _plain(other, seen)) for one, other in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, seen) for one in value]
    names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]
    names += getattr(type(value), "__struct_fields__", ())
    return [_plain(getattr(value, name, None), seen) for name in names]


async def test_no_secret_but_those_of_payload_and_result_is_kept() -> None:
    error = {
        "class": "HTTPError",
        "message": f"401 for https://bob:{OTHER}@git.example.com",
        "stack": f"File x\n  Authorization: Bearer {GITHUB}\n{PEM}",
        "retryable": False,
    }
    async with opened() as node:
        job = {
            "jobType": "scan",
            "labels": {"api_key": GITHUB, "team": "alpha"},
            "correlationId": f"c-{GITHUB}",
            "uniqueKey": f"repo {GITHUB}",
            "payload": {"token": "for the worker"},
        }
        lease = await _run_one(node, job, {"op": "fail", "error": error})
        assert lease["payload"] == {"token": "for the worker"}
        kept = (await node.client.get(f"/jobs/{lease['jobId']}")).json()
        assert kept["labels"] == {"api_key": stand_in(GITHUB), "team": "alpha"}
        letters = (await node.client.get("/deadletter")).json()["items"]
        assert stand_in(OTHER) in letters[0]["error"]["message"]
        signed = {
            "X-Stella-Operator-Reason": f"with {GITHUB}",
            "X-Stella-Operator-Ticket": f"https://bob:{OTHER}@tickets/1",
        }
        path = f"/deadletter/{letters[0]['deadLetterId']}:discard"
        assert (await node.client.post(path, headers=signed)).status_code == 200
        everything = _everything(node)
        assert stand_in(GITHUB) in everything
        assert "for the worker" in everything
        assert GITHUB not in everything
        assert OTHER not in everything
        assert stand_in(PEM) in everything
        assert not [line for line in PEM.splitlines() if line in everything]


async def test_equal_secrets_are_still_the_same_unique_key() -> None:
    async with opened() as node:
        job = {"jobType": "scan", "uniqueKey": f"repo {GITHUB}"}
        first, second = [await node.client.post("/jobs", json=job) for _ in range(2)]
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["jobId"] == second.json()["jobId"]


async def test_payloads_and_results_are_redacted_when_that_is_asked_for() -> None:
    async with opened(Settings(redact_payloads="on")) as node:
        job = {"jobType": "scan", "payload": {"password": "hunter2", "repo": "x"}}
        done = {"op": "complete", "result": {"session": {"token": OTHER}, "n": 1}}
        lease = await _run_one(node, job, done)
        assert lease["payload"] == {"password": stand_in("hunter2"), "repo": "x"}
        everything = _everything(node)
        assert "hunter2" not in everything
        assert OTHER not in everything
