"""The published schema of events: where it is served, and that what is written keeps to it."""

from importlib import resources
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import trio
from trio_websocket import WebSocketConnection

from jobengine.domain.event import Event, events_of
from jobengine.domain.governance import SYSTEM_TENANT
from jobengine.http.routes.schemas import EVENT_SCHEMA_PATH
from jobengine.wire import event_schema
from jobengine.wire.event_types import EVENT_TYPES
from tests.http.conftest import SIGNED, Rest
from tests.http.opened import Opened, hear, opened, say

Lease = dict[str, Any]
CALENDAR = [{"kind": "one_off", "startAt": "2198-01-01T00:00:00Z", "endAt": "2198-01-02T00:00:00Z"}]
SOURCE = {"sourceId": "s", "sourceType": "t", "host": "h", "ratePolicy": {"rpm": 6000}}
STEP = {"key": "wait", "kind": "gate.approval", "message": "go?"}
EXPECTED = {
    each.name
    for each in EVENT_TYPES
    if each.origin == "ledger"
    and each.name.partition(".")[0] not in ("webhook", "incident", "load")
} - {
    "bucket.adapted",
    "blackout.began",
    "blackout.ended",
    "breaker.half_opened",
    "source.concurrency_adapted",
    "deadletter.redrive_paused",
    "deadletter.redrive_resumed",
    "deadletter.redrive_stopped",
    "deadletter.redrive_letter_failed",
}
"""What a life can bring about at once: the rest takes time, failures in a row or a stuck queue."""


async def test_the_schema_is_served_to_anyone_and_kept_by_clients(rest: Rest) -> None:
    url = f"http://127.0.0.1:{rest.port}{EVENT_SCHEMA_PATH}"
    async with httpx.AsyncClient(trust_env=False) as anyone:
        answer = await anyone.get(url)
        again = await anyone.get(url, headers={"If-None-Match": answer.headers["ETag"]})
        other = await anyone.get(url, headers={"If-None-Match": '"sha256:0"'})
    published = resources.files("jobengine.wire").joinpath(event_schema.SCHEMA_NAME).read_bytes()
    assert answer.content == other.content == published == event_schema.generate().encode()
    assert answer.headers["Content-Type"] == "application/schema+json"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]
    jsonschema_rs.meta.validate(answer.json())


def test_every_field_of_the_structs_is_described_and_no_other() -> None:
    for kind, described in event_schema.FIELDS.items():
        written = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert written == set(described), kind.__name__


async def test_a_rich_life_writes_nothing_that_the_schema_does_not_describe() -> None:
    async with opened() as node, node.worker() as worker:
        await work(node, worker)
        await limit(node)
        await run(node, worker)
        await administer(node, worker)
        events = [
            each for tenant in ("demo", SYSTEM_TENANT) for each in await written(node, tenant)
        ]
    strict = jsonschema_rs.Draft202012Validator(
        event_schema.schema(closed=True), validate_formats=True
    )
    published = jsonschema_rs.Draft202012Validator(event_schema.schema(), validate_formats=True)
    for event in events:
        shown = msgspec.json.decode(event.body)
        strict.validate(shown)
        published.validate({**shown, "later": 1, "actor": {**shown["actor"], "later": 1}})
        assert not published.is_valid({**shown, "seq": "1"})
    seen = {event.event_type for event in events}
    assert seen <= {each.name for each in EVENT_TYPES}
    assert not EXPECTED - seen


async def written(node: Opened, tenant_id: str) -> list[Event]:
    blocks = await node.engine.store.blocks(tenant_id, 0, 10_000, 1 << 30)
    return [event for block in blocks for event in events_of(block)]


async def ask(
    node: Opened, method: str, path: str, body: Any = None, *, tenant: str = "demo"
) -> Any:
    answer = await node.client.request(
        method, path, json=body, headers={**node.headers(tenant), **SIGNED}
    )
    assert answer.status_code < 300, f"{method} {path}: {answer.text}"
    return answer.json() if answer.content else None


async def lease(node: Opened, worker: WebSocketConnection, **job: Any) -> tuple[str, Lease]:
    """A job at work, and what names its lease."""
    await say(worker, {"op": "credit", "slots": 1})
    made = await ask(node, "POST", "/jobs", {"jobType": "scan", "queue": "q", **job})
    granted = await hear(worker, "lease")
    return made["jobId"], {"leaseId": granted["leaseId"], "token": granted["token"]}


async def told(worker: WebSocketConnection, op: str, answer: str = "ack", **fields: Any) -> None:
    await say(worker, {"op": op, "ref": op, **fields})
    await hear(worker, answer)


async def work(node: Opened, worker: WebSocketConnection) -> None:
    hello = {"workerId": "w", "queues": ["q"], "capacity": 9, "taskRunnerId": "host"}
    await say(worker, {"op": "hello", **hello})
    await hear(worker, "welcome")
    _, held = await lease(node, worker, correlationId="c", projectId="p", labels={"a": "b"})
    await told(worker, "progress", percent=50, message="half", **held)
    await told(worker, "log", lines=[{"at": "2026-11-22T10:00:00Z", "level": "info", "text": "x"}],
               **held)  # fmt: skip
    await told(worker, "artifact", name="sbom", uri="file:///a", mime="text/plain", **held)
    await told(worker, "throttled", sourceId="s", httpStatus=429, **held)
    await told(worker, "complete", result={"n": 1}, **held)
    await told(worker, "fail", "nack", error={"class": "late", "message": "m"}, **held)
    job_id, held = await lease(node, worker)
    await told(worker, "release", reason="drain", delaySeconds=60, **held)
    await ask(node, "POST", f"/jobs/{job_id}:cancel", {})
    error = {"class": "http", "message": "m", "httpStatus": 503, "stack": "s"}
    job_id, held = await lease(node, worker, maxRetries=1)
    await told(worker, "fail", error=error, **held)
    await ask(node, "POST", f"/jobs/{job_id}:cancel", {})
    _, held = await lease(node, worker, maxRetries=0)
    await told(worker, "fail", error=error, **held)
    await ask(node, "POST", f"/deadletter/{held['leaseId']}:discard", {})
    job_id, held = await lease(node, worker)
    await ask(node, "POST", f"/jobs/{job_id}:cancel", {})
    waits = await ask(node, "POST", "/jobs", {"jobType": "scan", "queue": "elsewhere"})
    await ask(node, "POST", f"/jobs/{waits['jobId']}:prioritize", {"priority": 9})
    await ask(node, "POST", f"/jobs/{waits['jobId']}:cancel", {})


async def limit(node: Opened) -> None:
    quota = {"quotaId": "k", "scope": "tenant", "maxActive": 9}
    blackout = {"blackoutId": "b", "scope": "tenant", "calendar": CALENDAR}
    for path, body, change in (
        ("/sources", SOURCE, {"maxActive": 9}),
        ("/quotas", quota, {"maxActive": 8}),
        ("/blackouts", blackout, {"drain": True}),
    ):
        await ask(node, "POST", path, body)
        name = next(iter(body.values()))
        await ask(node, "PATCH", f"{path}/{name}", change)
    for rate in ({"rpm": 6000}, None):
        await ask(node, "POST", "/sources/s:throttle", rate or {"rate": None})
        await ask(node, "PUT", "/throttles", {"scope": "tenant", "rate": rate})
    for weight in (2, None):
        await ask(node, "PUT", "/weights", {"jobType": "scan", "weight": weight})
    for verb in ("pause", "resume"):
        for path in ("/sources/s:", "/quotas/k/", "/tenant:", "/queues/q:"):
            await ask(node, "POST", path + verb, {})
    for verb in ("open", "close", "release"):
        await ask(node, "POST", f"/breakers/s:{verb}", {})
    await ask(node, "PUT", "/sources/s/bucket", {"learnedPerMinute": 60})
    for path in ("/sources/s", "/quotas/k", "/blackouts/b"):
        await ask(node, "DELETE", path)
    await ask(node, "PUT", "/governance", {"strategy": "unlimited"}, tenant=SYSTEM_TENANT)


async def run(node: Opened, worker: WebSocketConnection) -> None:
    jobs = [{"key": "a", "jobType": "scan", "queue": "elsewhere"}, {"key": "b", "kind": "callback"}]
    await ask(node, "POST", "/dags", {"dagId": "d", "jobs": jobs})
    await ask(node, "POST", "/packs", {"packId": "k", "steps": [STEP]})
    for path in ("/dags/d/1:", "/packs/k/1:"):
        await ask(node, "POST", path + "disable", {})
        await ask(node, "POST", path + "enable", {})
    begun = await ask(node, "POST", "/runs", {"runToken": "r", "jobs": jobs})
    more = {"jobs": [{"key": "c", "jobType": "scan", "queue": "elsewhere"}]}
    await ask(node, "POST", f"/runs/{begun['runId']}:extend", more)
    await until(node, "run.node_opened")
    await ask(node, "POST", f"/runs/{begun['runId']}:cancel", {})
    await until(node, "run.cancelled")
    for verb, end in (("approve", "run.completed"), ("reject", "run.failed")):
        asked = {"packId": "k", "runToken": verb, "projectId": "p"}
        run_id = (await ask(node, "POST", "/pack-runs", asked))["runId"]
        await opened_node(node, run_id)
        await ask(node, "POST", f"/runs/{run_id}:{verb}", {"key": "wait"})
        await until(node, end)


async def opened_node(node: Opened, run_id: str) -> None:
    with trio.fail_after(30):
        while not (await node.engine.store.run_nodes("demo", run_id, None, 9))[0].scheduled_at:
            await trio.lowlevel.checkpoint()


async def administer(node: Opened, worker: WebSocketConnection) -> None:
    made = await ask(node, "POST", "/apikeys", {"label": "l", "scopes": ["orch:read"]})
    await ask(node, "POST", f"/apikeys/{made['apiKeyId']}:revoke", {})
    await ask(node, "POST", "/tokens:revoke", {"tokenId": "t"})
    await node.client.post("/artifacts", content=b"bytes")
    await ask(node, "POST", "/deadletter:redrive", {"filter": {"queue": "none"}})
    await until(node, "deadletter.redrive_completed")
    await ask(node, "POST", "/workers/w:drain", {})


async def until(node: Opened, event_type: str) -> None:
    with trio.fail_after(30):
        while event_type not in {event.event_type for event in await written(node, "demo")}:
            await trio.lowlevel.checkpoint()
