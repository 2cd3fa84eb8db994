"""Both doors over an engine in memory, or over another store, opened as a node opens them."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx
import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio_websocket import WebSocketConnection, wrap_client_stream

from jobengine.actors.runtime.clock import Clock
from jobengine.auth.keys import KeyRing
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine
from jobengine.http.callbacks import Callbacks
from jobengine.http.doors import Doors, Endpoint, open_doors
from jobengine.http.security import Cors
from jobengine.http.tls import TlsFiles
from jobengine.settings import Settings
from jobengine.store.port import Store
from jobengine.testing import memory_engine
from jobengine.wire.frames import SUBPROTOCOL
from tests.http.loopback import PLAIN

ANY = Endpoint("127.0.0.1", 0)
BASE = "/api/v1/jobengine"


@attrs.frozen
class Opened:
    """`client` has every scope for the tenant `demo`."""

    engine: Engine
    doors: Doors
    key: Ed25519PrivateKey
    client: httpx.AsyncClient

    def headers(self, tenant: str = "demo", subject: str = "tester") -> dict[str, str]:
        now_at = self.engine.clock.moment().at
        token = Tokens(self.key).issue(tenant, tuple(Scope), subject, 600, now_at)
        return {"Authorization": f"Bearer {token}", "X-Stella-Tenant": tenant}

    @asynccontextmanager
    async def worker(
        self,
        headers: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        url: str | None = None,
    ) -> AsyncIterator[WebSocketConnection]:
        given = self.headers() if headers is None else headers
        parts = urlsplit(url or f"{self.doors.worker_url}/worker")
        assert parts.port is not None
        tcp = await trio.open_tcp_stream("127.0.0.1", parts.port)
        stream = tcp if tls is None else trio.SSLStream(tcp, tls, server_hostname="127.0.0.1")
        try:
            async with trio.open_nursery() as nursery:
                yield await wrap_client_stream(
                    nursery,
                    stream,
                    parts.netloc,
                    parts.path,
                    subprotocols=[SUBPROTOCOL],
                    extra_headers=[
                        (name.encode(), value.encode()) for name, value in given.items()
                    ],
                )
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(tcp)


async def say(connection: WebSocketConnection, *messages: dict[str, Any]) -> None:
    await connection.send_message(msgspec.json.encode(messages).decode())


async def hear(connection: WebSocketConnection, op: str) -> dict[str, Any]:
    """The next message of this op; others on the way are dropped."""
    with trio.fail_after(15):
        while True:
            frame = msgspec.json.decode(await connection.get_message())
            for message in frame if isinstance(frame, list) else [frame]:
                if message["op"] == op:
                    found: dict[str, Any] = message
                    return found


@asynccontextmanager
async def opened(
    settings: Settings | None = None,
    *,
    cors: Cors | None = None,
    tls: TlsFiles | None = None,
    verify: ssl.SSLContext | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Opened]:
    key = Ed25519PrivateKey.generate()
    ring = KeyRing(key)
    callbacks = Callbacks(lambda: ring)
    with trio.fail_after(60):
        async with (
            memory_engine(
                settings=settings, store=store, clock=clock, sign_callback=callbacks.address
            ) as engine,
            open_doors(
                engine,
                key,
                http=ANY,
                worker=ANY,
                drain_s=0.1,
                cors=cors,
                tls=tls,
                callbacks=callbacks,
            ) as doors,
            httpx.AsyncClient(
                base_url=doors.http_url + BASE, trust_env=False, verify=verify or PLAIN
            ) as client,
        ):
            found = Opened(engine, doors, key, client)
            client.headers.update(found.headers())
            yield found
