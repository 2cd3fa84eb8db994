"""A real engine in memory behind the real server on a free port of loopback."""

from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

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


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    key = load_or_create_key(tmp_path / "key.pem")
    ring = KeyRing(key)
    callbacks = Callbacks(lambda: ring)
    async with (
        memory_engine(sign_callback=callbacks.address) as engine,
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
                own_socket=app.is_stream,
            )
        )
        url = f"http://127.0.0.1:{bound.port}"
        callbacks.serve_at(url, front.tokens.ring)
        async with httpx.AsyncClient(base_url=url + BASE, trust_env=False, verify=PLAIN) as client:
            rest = Rest(engine, front, bound.port, client)
            client.headers.update(rest.headers())
            yield rest
        nursery.cancel_scope.cancel()
