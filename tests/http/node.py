"""A node as it is composed in production, in this process: engine, doors, and a client with a token
for the tenant `demo` and every scope."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import open_database, open_engine
from jobengine.http.doors import Endpoint, open_doors
from jobengine.http.route import BASE
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from jobengine.store.port import Store
from tests.http.loopback import PLAIN

ANYWHERE = Endpoint("127.0.0.1", 0)


@asynccontextmanager
async def running_node(
    key_file: Path, conninfo: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Over this database, or in memory. The client is cut off from proxies and waits a minute."""
    key = load_or_create_key(key_file)
    settings = Settings(shards=2, ask_timeout_s=20.0)
    async with AsyncExitStack() as stack:
        store: Store = MemoryStore()
        if conninfo is not None:
            store = await stack.enter_async_context(open_database(settings, conninfo=conninfo))
        engine = await stack.enter_async_context(open_engine(store, settings))
        doors = await stack.enter_async_context(
            open_doors(engine, key, http=ANYWHERE, worker=ANYWHERE, drain_s=0.0)
        )
        token = Tokens(key).issue("demo", Scope, "tester", 3_600, engine.clock.moment().at)
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Stella-Tenant": "demo",
            "X-Stella-Operator-Reason": "a test",
            "X-Stella-Operator-Ticket": "T-1",
        }
        yield await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=doors.http_url + BASE,
                headers=headers,
                trust_env=False,
                timeout=60.0,
                verify=PLAIN,
            )
        )
