"""The doors put together, in front of an engine in memory."""

from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine
from jobengine.http.doors import Doors, Endpoint, open_doors
from jobengine.http.server import AddressUnavailableError, listen
from jobengine.http.worker_door import ListenFailedError
from jobengine.sdk import AsyncClient, JobContext, Worker
from jobengine.testing import memory_engine

ANY = Endpoint("127.0.0.1", 0)


@pytest.fixture
def key(tmp_path: Path) -> Ed25519PrivateKey:
    return load_or_create_key(tmp_path / "key.pem")


async def _a_job_is_done(engine: Engine, doors: Doors, key: Ed25519PrivateKey, url: str) -> None:
    """Submit over REST and work at `url`, with one token."""
    now_at = engine.clock.moment().at
    token = Tokens(key).issue("demo", Scope, "tester", 60, now_at)
    worker = Worker(url, token, "demo", capacity=1)

    @worker.handler("echo")
    async def echo(job: JobContext) -> object:
        return job.payload

    async with (
        AsyncClient(doors.http_url, token=token, tenant="demo") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker.run_async)
        job = await client.submit("echo", {"said": "hello"})
        assert (await client.wait(job.job_id, 20)).state == "completed"
        worker.drain()


async def test_jobs_come_in_by_rest_and_are_worked_on_through_either_port(
    key: Ed25519PrivateKey,
) -> None:
    with trio.fail_after(60):
        async with memory_engine() as engine, _open(engine, key) as doors:
            await _a_job_is_done(engine, doors, key, doors.worker_url)
            http_port = f"{doors.http_url}/api/v1/jobengine/worker"
            await _a_job_is_done(engine, doors, key, http_port)


async def test_probes_and_metrics_answer_without_a_token(key: Ed25519PrivateKey) -> None:
    async with (
        memory_engine() as engine,
        _open(engine, key) as doors,
        httpx.AsyncClient(base_url=doors.http_url) as client,
    ):
        ready = await client.get("/readyz")
        assert ready.status_code == 200, ready.text
        names = {check["name"] for check in ready.json()["checks"]}
        assert names == {"database", "migrations", "ledger", "backlog", "load"}
        assert "jobengine_mailbox_depth" in (await client.get("/metrics")).text


async def test_a_node_whose_actors_do_not_keep_up_is_not_ready(key: Ed25519PrivateKey) -> None:
    stuck: Mailbox[str] = Mailbox("stuck", capacity=1)
    stuck.put_nowait("a message that nobody takes")
    async with memory_engine() as engine:
        engine = attrs.evolve(
            engine,
            mailboxes=(*engine.mailboxes, stuck),
            settings=attrs.evolve(engine.settings, ask_timeout_s=0.1),
        )
        async with (
            _open(engine, key) as doors,
            httpx.AsyncClient(base_url=doors.http_url) as client,
        ):
            with trio.fail_after(15):
                while (ready := await client.get("/readyz")).status_code != 503:
                    await trio.lowlevel.checkpoint()
    assert "backlog: the oldest message of stuck waits" in ready.json()["error"]["message"]


async def test_a_taken_address_is_named(key: Ed25519PrivateKey) -> None:
    with closing(listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with memory_engine() as engine:
            with pytest.raises(BaseExceptionGroup) as caught:
                async with _open(engine, key, http=Endpoint("127.0.0.1", port)):
                    pytest.fail("the block must not be entered")
            assert caught.group_contains(AddressUnavailableError, match=f"127.0.0.1:{port}")
            with pytest.raises(BaseExceptionGroup) as caught:
                async with _open(engine, key, worker=Endpoint("127.0.0.1", port)):
                    pytest.fail("the block must not be entered")
            assert caught.group_contains(
                ListenFailedError, match=f"port {port} on 127.0.0.1 is taken"
            )


async def test_leaving_ends_streams_and_takes_no_more_requests(key: Ed25519PrivateKey) -> None:
    async with memory_engine() as engine, trio.open_nursery() as nursery:
        ended = trio.Event()
        following = trio.Event()

        async def follow(doors: Doors, headers: dict[str, str]) -> None:
            path = "/api/v1/jobengine/stream/events"
            async with (
                httpx.AsyncClient(base_url=doors.http_url) as client,
                client.stream("GET", path, headers=headers, timeout=20) as stream,
            ):
                async for _ in stream.aiter_lines():
                    following.set()
            ended.set()

        with trio.fail_after(20):
            async with _open(engine, key) as doors:
                now_at = engine.clock.moment().at
                token = Tokens(key).issue("demo", ["orch:read"], "tester", 60, now_at)
                headers = {"Authorization": f"Bearer {token}", "X-Stella-Tenant": "demo"}
                nursery.start_soon(follow, doors, headers)
                await following.wait()
            await ended.wait()
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient() as client:
                    await client.get(f"{doors.http_url}/livez")


def _open(
    engine: Engine, key: Ed25519PrivateKey, *, http: Endpoint = ANY, worker: Endpoint = ANY
) -> AbstractAsyncContextManager[Doors]:
    return open_doors(engine, key, http=http, worker=worker, drain_s=2.0)
