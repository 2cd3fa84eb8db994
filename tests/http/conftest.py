"""A real engine in memory behind the real server on a free port of loopback."""

from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from jobengine.actors.runtime.clock import Clock, SystemClock
from jobengine.auth.keys import KeyRing, load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine
from jobengine.http.app import create_app
from jobengine.http.callbacks import Callbacks
from jobengine.http.direct import DirectFirst
from jobengine.http.front import Front, FrontLimits
from jobengine.http.routes.health import readiness_of
from jobengine.http.server import ServerLimits, listen, serve
from jobengine.http.table import ROUTES
from jobengine.testing import memory_engine
from tests.http.loopback import PLAIN

BASE = "/api/v1/jobengine"
SIGNED = {"X-Stella-Operator-Reason": "a test", "X-Stella-Operator-Ticket": "T-1"}


@attrs.frozen
class Rest:
    """The front as its users reach it; `client` has every scope for the tenant `demo`."""

    engine: Engine
    front: Front
    port: int
    client: httpx.AsyncClient

    def token(
        self,
        scopes: Iterable[str] = tuple(Scope),
        *,
        tenant: str = "demo",
        ttl_s: int = 600,
        age_s: int = 0,
    ) -> str:
        now_at = self.engine.clock.moment().at - age_s * 1_000_000
        return self.front.tokens.issue(tenant, scopes, "tester", ttl_s, now_at)

    def headers(self, tenant: str = "demo", **token: Any) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token(tenant=tenant, **token)}",
            "X-Stella-Tenant": tenant,
        }

    async def submit(self, **job: Any) -> dict[str, Any]:
        """A job created over REST, as answered."""
        answer = await self.client.post("/jobs", json={"jobType": "scan", **job})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def operate(self, path: str, **options: Any) -> httpx.Response:
        """An operation, with a reason and a ticket."""
        headers = {**SIGNED, **options.pop("headers", {})}
        return await self.client.post(path, headers=headers, **options)

    async def raw(self, data: bytes) -> bytes:
        """All that the server says to these bytes until it closes the connection."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(data)
            answer = b""
            with trio.fail_after(30):
                async for chunk in stream:
                    answer += chunk
        return answer


async def _metrics() -> bytes:
    return b"jobengine_up 1\n"


@asynccontextmanager
async def open_rest(directory: Path, clock: Clock | None = None) -> AsyncIterator[Rest]:
    key = load_or_create_key(directory / "key.pem")
    ring = KeyRing(key)
    callbacks = Callbacks(lambda: ring)
    async with (
        memory_engine(sign_callback=callbacks.address, clock=clock) as engine,
        trio.open_nursery() as nursery,
    ):
        front = Front(
            gateway=engine.gateway,
            tokens=Tokens(key),
            readiness=readiness_of(engine.gateway),
            render_metrics=_metrics,
            callbacks=callbacks,
            limits=FrontLimits(body_bytes_max=1 << 20, body_s=2.0, heartbeat_s=0.05),
        )
        app = DirectFirst(front, ROUTES, create_app(front))
        bound = await nursery.start(
            partial(
                serve,
                app,
                listen("127.0.0.1", 0),
                ServerLimits(graceful_s=60.0, head_bytes_max=8_192),
                stopping=front.stopping,
            )
        )
        callbacks.serve_at(f"http://127.0.0.1:{bound.port}", front.tokens.ring)
        async with open_client(engine, front, bound.port) as rest:
            yield rest
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(engine: Engine, front: Front, port: int) -> AsyncIterator[Rest]:
    """The front with a client of this loop."""
    url = f"http://127.0.0.1:{port}{BASE}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=PLAIN) as client:
        rest = Rest(engine, front, port, client)
        client.headers.update(rest.headers())
        yield rest


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path) as rest:
        yield rest


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """A front that serves all tests of a module, on a loop in a thread of its own."""
    opened: Future[Rest] = Future()
    stopping = trio.Event()
    loops: list[trio.lowlevel.TrioToken] = []

    async def stand() -> None:
        # The loops of the tests have other instants, but for the machine's own.
        async with open_rest(tmp_path_factory.mktemp("standing"), SystemClock()) as rest:
            loops.append(trio.lowlevel.current_trio_token())
            opened.set_result(rest)
            await stopping.wait()

    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(trio.run, stand)
        # Where it ends before it serves, `ended` says why.
        ended.add_done_callback(lambda _: opened.cancel())
        with suppress(CancelledError):
            yield opened.result()
            loops[0].run_sync_soon(stopping.set)
        ended.result()


@pytest.fixture
async def shared(standing: Rest) -> AsyncIterator[Rest]:
    """What `rest` is, for tests that can neither see nor disturb what others have done."""
    async with open_client(standing.engine, standing.front, standing.port) as rest:
        yield rest
