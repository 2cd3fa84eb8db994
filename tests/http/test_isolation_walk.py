"""Every endpoint and every word of the worker protocol, walked with another tenant's ids.

The walk is made from the route table and from the wire types, so that whoever adds to them is
walked too: a path parameter or a message field that names something has to be given here, or the
walk fails and says so.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, get_args

import attrs
import httpx
import msgspec
import pytest
import trio
import trio.lowlevel
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine
from jobengine.http.doors import Endpoint, open_doors
from jobengine.http.route import Route
from jobengine.http.streams import EVENT_STREAM
from jobengine.http.table import ROUTES
from jobengine.http.worker_calls import WorkerCalls, worker_routes
from jobengine.messages.session import EngineStops
from jobengine.messages.worker_reports import Attach
from jobengine.testing import memory_engine
from jobengine.wire.worker_messages import WorkerMessage
from tests.http.conftest import BASE, SIGNED
from tests.http.loopback import PLAIN
from tests.http.opened import Opened, hear, opened, say
from tests.http.stream_socket import handshake
from tests.http.test_streams import Reader
from tests.http.worker import working

ALL_ROUTES = (*ROUTES, *worker_routes(WorkerCalls(None, None)))  # type: ignore[arg-type]
MARK = "only-acme-knows-this"
AHEAD = {"kind": "one_off", "startAt": "2998-01-01T00:00:00Z", "endAt": "2998-01-02T00:00:00Z"}
LIMITS: dict[str, dict[str, Any]] = {
    "/sources": {"sourceId": MARK, "sourceType": "s", "host": "h", "ratePolicy": {"rpm": 1}},
    "/quotas": {"quotaId": MARK, "scope": "tenant", "maxActive": 9},
    "/blackouts": {"blackoutId": MARK, "scope": "tenant", "calendar": [AHEAD]},
}
UNOWNED = ("{queue}",)
"""Parameters that any name fits, of whatever tenant."""
NAMING = ("leaseId", "token", "leases", "resume", "followUps", "progress")
"""Fields of the protocol that may name a lease or a job, whether they are required or not."""


@attrs.frozen
class Node:
    """All doors of a node, in front of an engine in memory."""

    engine: Engine
    tokens: Tokens
    http_url: str
    client: httpx.AsyncClient

    def headers(self, tenant: str, scopes: Iterable[str] = tuple(Scope)) -> dict[str, str]:
        now_at = self.engine.clock.moment().at
        token = self.tokens.issue(tenant, scopes, "tester", 600, now_at)
        return {"Authorization": f"Bearer {token}", "X-Stella-Tenant": tenant}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    key = load_or_create_key(tmp_path / "key.pem")
    free = Endpoint("127.0.0.1", 0)
    async with (
        memory_engine() as engine,
        open_doors(engine, key, http=free, worker=free, drain_s=1.0) as doors,
        httpx.AsyncClient(trust_env=False, verify=PLAIN) as client,
    ):
        yield Node(engine, Tokens(key), doors.http_url, client)


@attrs.frozen
class Belongings:
    """What acme has, by the name of the path parameter or message field that names it."""

    ids: dict[str, str]


@pytest.fixture
async def acme(node: Node) -> Belongings:
    """A job of every fate, a key and a token of the tenant `acme`."""
    headers = node.headers(tenant="acme")
    made = await node.client.post(
        f"{node.http_url}{BASE}/jobs",
        json={"jobType": "scan", "payload": {"said": MARK}, "labels": {"a": MARK}},
        headers=headers,
    )
    assert made.status_code == 201
    job_id = made.json()["jobId"]
    key = await node.client.post(
        f"{node.http_url}{BASE}/apikeys",
        json={"label": MARK, "scopes": ["orch:read"]},
        headers={**headers, **SIGNED},
    )
    assert key.status_code == 201
    stored = await node.client.post(
        f"{node.http_url}{BASE}/artifacts", content=MARK.encode(), headers=headers
    )
    assert stored.status_code == 201
    redrive = await node.client.post(
        f"{node.http_url}{BASE}/deadletter:redrive",
        json={"filter": {"queue": MARK}},
        headers={**headers, **SIGNED},
    )
    assert redrive.status_code == 201
    for path, body in LIMITS.items():
        limit = await node.client.post(
            f"{node.http_url}{BASE}{path}", json=body, headers={**headers, **SIGNED}
        )
        assert limit.status_code == 201, limit.text
    run = await node.client.post(
        f"{node.http_url}{BASE}/runs",
        json={"runToken": MARK, "jobs": [{"key": MARK, "kind": "callback"}]},
        headers=headers,
    )
    assert run.status_code == 201, run.text
    await begin_pack_run(node, MARK, headers)
    dag = await node.client.post(
        f"{node.http_url}{BASE}/dags",
        json={"dagId": MARK, "jobs": [{"key": "a", "jobType": MARK}]},
        headers=headers,
    )
    assert dag.status_code == 201, dag.text
    webhook = await node.client.post(
        f"{node.http_url}{BASE}/webhooks",
        json={"url": f"https://{MARK}.example.com/", "types": ["run.*"], "description": MARK},
        headers={**headers, **SIGNED},
    )
    assert webhook.status_code == 201, webhook.text
    await attach(node, "acme", MARK)
    await settled(node, redrive.json()["redriveId"], run.json()["runId"])
    return Belongings(
        {
            "jobId": job_id,
            "runId": run.json()["runId"],
            "packId": MARK,
            "dagId": MARK,
            "deadLetterId": f"{job_id}.1",
            "leaseId": f"{job_id}.1",
            "apiKeyId": key.json()["apiKeyId"],
            "redriveId": redrive.json()["redriveId"],
            "workerId": MARK,
            "sourceId": MARK,
            "quotaId": MARK,
            "blackoutId": MARK,
            "webhookId": webhook.json()["webhookId"],
            "queue": "elsewhere",
            "digest": stored.json()["digest"],
        }
    )


async def begin_pack_run(node: Node, pack_id: str, headers: dict[str, str]) -> str:
    """The id of a run of a pack that waits for an approval."""
    step = {"key": "wait", "kind": "gate.approval", "message": pack_id}
    url, pack = f"{node.http_url}{BASE}", {"packId": pack_id, "steps": [step]}
    registered = await node.client.post(f"{url}/packs", json=pack, headers=headers)
    assert registered.status_code == 201, registered.text
    asked = {"packId": pack_id, "runToken": f"pack-{pack_id}", "projectId": pack_id}
    begun = await node.client.post(f"{url}/pack-runs", json=asked, headers=headers)
    assert begun.status_code == 201, begun.text
    run_id: str = begun.json()["runId"]
    return run_id


async def attach(node: Node, tenant_id: str, worker_id: str) -> None:
    """A worker of this name, until the node stops."""
    registry = node.engine.registry

    class Idle:
        def hear(self, message: Any) -> None:
            if isinstance(message, EngineStops):
                registry.dismiss(session_id)

        def tick(self, mono: float) -> None:
            pass

    session_id = registry.enlist(tenant_id, Idle())
    await registry.shard(tenant_id).tell(
        Attach(
            session_id=session_id,
            tenant_id=tenant_id,
            worker_id=worker_id,
            task_runner_id="r",
            queues=frozenset({"elsewhere"}),
            job_types=frozenset(),
            capacity=1,
        )
    )


async def settled(node: Node, redrive_id: str, run_id: str) -> None:
    """Until nothing more happens in the ledger of acme by itself."""
    store = node.engine.store
    with trio.fail_after(15):
        while True:
            found = await store.redrive("acme", redrive_id)
            (callback,) = await store.run_nodes("acme", run_id, None, 10)
            if found is not None and found.state == "completed" and callback.scheduled_at:
                return
            await trio.lowlevel.checkpoint()


def path_of(row: Route, ids: dict[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name == "version":
            return "1"
        assert name in ids, f"say what {{{name}}} of {row.name} is, in the fixture acme"
        return ids[name]

    return row.base + re.sub(r"\{(\w+)\}", fill, row.path)


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


async def ask(node: Node, row: Route, path: str, headers: dict[str, str]) -> httpx.Response:
    url = node.http_url + path
    said = {**headers, **SIGNED}
    if row.media_type == EVENT_STREAM:
        return await first_words(node, row, path, said)
    return await node.client.request(row.method, url, headers=said, content=body_of(row))


async def first_words(node: Node, row: Route, path: str, headers: dict[str, str]) -> httpx.Response:
    """What a stream begins with, or the whole refusal; then the connection is cut."""
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **headers}.items())
    url = httpx.URL(node.http_url)
    async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
        await stream.send_all(f"{row.method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        said = b""
        with trio.fail_after(15):
            while not re.search(rb"\r\n\r\n.*[\n}]", said, re.DOTALL):
                said += await stream.receive_some()
    status, _, body = said.partition(b"\r\n\r\n")
    return httpx.Response(int(status.split()[1]), content=body)


def body_of(row: Route) -> bytes | None:
    """The smallest body that the row accepts."""
    if row.body is None:
        return None
    if row.body_raw or row.body is bytes:
        return b"[]"
    given = {
        "jobType": "scan",
        "token": 1,
        "workerId": "thief",
        "error": {"class": "transient", "message": "m"},
        "label": "l",
        "scopes": ["orch:read"],
        "tokenId": "t",
        "priority": 9,
        "filter": {},
        "reason": "r",
        "sourceId": "s",
        "sourceType": "s",
        "host": "h",
        "scope": "tenant",
        "rate": None,
        "weight": None,
        "learnedPerMinute": None,
        "calendar": [AHEAD],
        "strategy": "unlimited",
        "key": MARK,
        "url": "https://hooks.example.com/",
    }
    said = {}
    for field in msgspec.structs.fields(row.body):
        if field.required:
            name = field.encode_name
            assert name in given, f"say what {name} in the body of {row.name} is, in body_of"
            said[name] = given[name]
    return msgspec.json.encode(said)


async def test_another_tenants_things_are_not_there(
    node: Node, acme: Belongings, subtests: pytest.Subtests
) -> None:
    for row in ALL_ROUTES:
        with subtests.test(row.name):
            await require_hidden(node, acme, row)


async def require_hidden(node: Node, acme: Belongings, row: Route) -> None:
    """From a tenant that nothing else was asked for, by what this row does with acme's ids."""
    mallory = f"mallory-{row.name}"
    path = path_of(row, acme.ids)
    before = await node.engine.store.heads(["acme"])
    answer = await ask(node, row, path, node.headers(tenant=mallory))
    assert MARK not in answer.text
    if any(parameter in row.path for parameter in UNOWNED):
        assert answer.status_code == 200
    elif "{" in row.path:
        nowhere = dict.fromkeys(acme.ids, "00000000-0000-7000-8000-000000000000")
        same = await ask(node, row, path_of(row, nowhere), node.headers(tenant=mallory))
        assert (answer.status_code, code_of(answer)) == (same.status_code, code_of(same))
        assert code_of(answer) in ("NOT_FOUND", "LEASE_LOST"), answer.text
    else:
        assert not any(value in answer.text for value in acme.ids.values())
    foreign = {**node.headers(tenant=mallory), "X-Stella-Tenant": "acme"}
    answer = await ask(node, row, path, foreign)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "TENANT_FORBIDDEN"
    assert await node.engine.store.heads(["acme"]) == before


async def test_without_its_scope_a_route_names_it_and_does_nothing(
    node: Node, acme: Belongings, subtests: pytest.Subtests
) -> None:
    before = await node.engine.store.heads(["acme"])
    for row in ALL_ROUTES:
        with subtests.test(row.name):
            others = [scope for scope in Scope if scope not in row.scopes]
            path = path_of(row, acme.ids)
            answer = await ask(node, row, path, node.headers(tenant="acme", scopes=others))
            assert answer.status_code == 403
            error = answer.json()["error"]
            assert error["code"] == "SCOPE_REQUIRED"
            assert error["details"][0]["scopes"] == [str(scope) for scope in row.scopes]
            assert await node.engine.store.heads(["acme"]) == before


async def test_no_route_answers_without_a_bearer_or_a_tenant(
    node: Node, acme: Belongings, subtests: pytest.Subtests
) -> None:
    headers = node.headers(tenant="acme")
    del headers["X-Stella-Tenant"]
    for row in ALL_ROUTES:
        with subtests.test(row.name):
            path = path_of(row, acme.ids)
            assert (await ask(node, row, path, {})).status_code == 401
            answer = await ask(node, row, path, headers)
            assert answer.json()["error"]["code"] == row.tenantless


STREAMS = [row for row in ALL_ROUTES if row.media_type == EVENT_STREAM]
LOGS = [row for row in STREAMS if row.name == "streamJobLogs"]
EVENTS = [row for row in STREAMS if row not in LOGS]


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
async def test_no_socket_follows_what_is_another_tenants(
    node: Node, acme: Belongings, row: Route
) -> None:
    headers = node.headers(tenant="mallory")
    path = path_of(row, acme.ids).removeprefix(BASE)
    port = httpx.URL(node.http_url).port or 0
    foreign = await socket_words(port, path, {**headers, "X-Stella-Tenant": "acme"})
    assert foreign.startswith(b"HTTP/1.1 403")
    said = await socket_words(port, path, headers)
    assert said.startswith(b"HTTP/1.1 404" if "{" in row.path else b"HTTP/1.1 101")
    assert MARK.encode() not in said
    assert (await socket_words(port, path, {})).startswith(b"HTTP/1.1 401")


async def socket_words(port: int, path: str, headers: dict[str, str]) -> bytes:
    """What a handshake is answered with."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(handshake(path, headers))
        with trio.fail_after(15):
            return await stream.receive_some()


@pytest.mark.parametrize("row", LOGS, ids=lambda row: row.name)
@pytest.mark.parametrize("cursor", [{}, {"after": "0.0"}, {"Last-Event-ID": "0.0"}])
async def test_a_log_from_any_cursor_shows_its_own_job_only(
    node: Node, acme: Belongings, row: Route, cursor: dict[str, str]
) -> None:
    own = node.headers(tenant="mallory")
    job_ids: dict[str, str] = {}
    for tenant_id in ("acme", "mallory"):
        url = f"{node.http_url}{BASE}/jobs"
        job = {"jobType": "logs", "queue": "logs"}
        made = await node.client.post(url, json=job, headers=node.headers(tenant=tenant_id))
        job_ids[tenant_id] = made.json()["jobId"]
        async with working(node.engine, tenant_id) as worker:
            while (grant := await worker.take()).job.job_id != job_ids[tenant_id]:
                pass
            text = MARK if tenant_id == "acme" else "own"
            await worker.log(grant, json.dumps([{**LINE, "text": text}]).encode())
            await worker.complete(grant)
    path = path_of(row, {"jobId": job_ids["mallory"]})
    begun = path + ("?after=0.0" if "after" in cursor else "")
    given = own if "after" in cursor else {**own, **cursor}
    with trio.fail_after(15):
        answer = await node.client.get(node.http_url + begun, headers=given)
    assert '"text":"own"' in answer.text
    assert MARK not in answer.text


LINE = {"at": "2026-01-01T00:00:00.000Z", "level": "info"}


@pytest.mark.parametrize("row", EVENTS, ids=lambda row: row.name)
@pytest.mark.parametrize("cursor", [{"after": "0"}, {"Last-Event-ID": "0"}])
async def test_a_stream_from_any_cursor_shows_its_own_tenant_only(
    node: Node, acme: Belongings, row: Route, cursor: dict[str, str]
) -> None:
    own = node.headers(tenant="mallory")
    made = await node.client.post(
        f"{node.http_url}{BASE}/jobs", json={"jobType": "own"}, headers=own
    )
    run_id = await begin_pack_run(node, "own", own)
    path = path_of(row, {**acme.ids, "jobId": made.json()["jobId"], "runId": run_id})
    url = httpx.URL(node.http_url)
    async with await trio.open_tcp_stream(url.host, url.port or 0) as connection:
        reader = Reader(connection)
        begun = path + ("?after=0" if "after" in cursor else "")
        await reader.begin(begun, own if "after" in cursor else {**own, **cursor})
        seen = [event.data for event in await reader.take(2)]
    assert MARK not in str(seen)
    assert [one["tenantId"] for one in seen] == ["mallory", "mallory"]


def message(kind: type[msgspec.Struct], lease: dict[str, Any], job_id: str) -> dict[str, Any]:
    """The smallest message of a kind that names this lease and its job wherever it can."""
    said: dict[str, Any] = {"op": kind.__struct_config__.tag, "ref": 1}
    given = {
        **lease,
        "jobs": [{"jobType": "scan", "dependsOn": [job_id]}],
        "followUps": [{"jobType": "scan", "dependsOn": [job_id]}],
        "progress": {lease["leaseId"]: {"percent": 1}},
        "error": {"class": "transient", "message": "m"},
        "lines": [{"text": "m"}],
        "artifact": {"name": "a", "uri": "file:///a"},
        "name": "a",
        "uri": "file:///a",
        "httpStatus": 429,
        "sourceId": "s",
        "position": "7",
        "windowStart": "2026-01-01T00:00:00Z",
        "windowEnd": "2026-01-02T00:00:00Z",
        "reason": "r",
        "slots": 1,
        "capacity": 1,
        "workerId": "thief",
        "leases": [lease],
        "resume": [lease],
        "percent": 1,
    }
    for field in msgspec.structs.fields(kind):
        if field.required or field.encode_name in NAMING:
            if field.encode_name == "ref":
                continue
            assert field.encode_name in given, (
                f"say what {field.encode_name} of {kind.__name__} is, in this function"
            )
            said[field.encode_name] = given[field.encode_name]
    return said


MESSAGES: tuple[Any, ...] = get_args(WorkerMessage)
PORTS = ("worker", "http")


def worker_url(node: Opened, port: str) -> str | None:
    return (
        f"{node.doors.http_url.replace('http', 'ws', 1)}{BASE}/worker" if port == "http" else None
    )


@pytest.mark.parametrize("port", PORTS)
async def test_no_worker_comes_in_for_a_tenant_that_its_token_is_not_for(port: str) -> None:
    async with opened() as node:
        headers = {**node.headers("mallory"), "X-Stella-Tenant": "acme"}
        statuses: list[int] = []
        try:
            async with node.worker(headers, url=worker_url(node, port)):
                pytest.fail("the handshake must be refused")
        except* ConnectionRejected as group:
            statuses += [error.status_code for error in group.exceptions]  # type: ignore[union-attr]
        assert statuses == [403]


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
async def test_no_word_of_the_worker_protocol_reaches_another_tenants_lease(
    kind: type[msgspec.Struct], port: str
) -> None:
    async with opened() as node:
        url = worker_url(node, port)
        async with (
            node.worker(node.headers("acme"), url=url) as holder,
            node.worker(node.headers("mallory"), url=url) as thief,
        ):
            hello = {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 2}
            job = {"jobType": "scan", "queue": "q", "payload": {"said": MARK}}
            await say(holder, hello)
            await hear(holder, "welcome")
            await say(holder, {"op": "submit", "jobs": [job]}, {"op": "credit", "slots": 1})
            lease = await hear(holder, "lease")
            named = {"leaseId": lease["leaseId"], "token": lease["token"]}
            said = message(kind, named, lease["jobId"])
            if said["op"] != "hello":
                await say(thief, hello)
                await hear(thief, "welcome")
            await say(thief, said, {"op": "heartbeat", "ref": "end"})
            heard = await until_end(thief)
            assert heard
            assert MARK not in str(heard)
            leased = {one.get("leaseId") for one in heard if one["op"] == "lease"}
            assert lease["leaseId"] not in leased
            # The lease is as it was: its holder, and nobody else, completes it.
            await say(holder, {"op": "complete", "ref": "done", "result": None, **named})
            while (await hear(holder, "ack")).get("ref") != "done":
                pass
        (job_row,) = await node.engine.store.jobs("acme", [lease["jobId"]])
        assert (job_row.state, job_row.attempt) == ("completed", 1)


async def until_end(connection: WebSocketConnection) -> list[dict[str, Any]]:
    """All that is heard up to the answer with the ref `end`, or to the end of the connection."""
    heard: list[dict[str, Any]] = []
    with trio.fail_after(15):
        try:
            while not any(one.get("ref") == "end" for one in heard):
                frame = msgspec.json.decode(await connection.get_message())
                heard += frame if isinstance(frame, list) else [frame]
        except ConnectionClosed:
            pass
    return heard
