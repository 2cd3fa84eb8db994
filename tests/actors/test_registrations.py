"""Documents are registered and disabled through the whole engine, and a restart knows them."""

from typing import Any

from trio.testing import MockClock

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.engine import Engine
from jobengine.messages.runs import DisableDocument, RegisterDocument, RegistryAnswer
from jobengine.store.memory.store import MemoryStore
from jobengine.testing.memory import memory_engine
from tests.actors.bare_worker import TENANT
from tests.actors.run_harness import OPS

NAMED: dict[str, Any] = {"tenant_id": TENANT, "actor": OPS, "kind": "dag", "name": "nightly"}


async def register(engine: Engine, body: bytes, version: int | None = None) -> RegistryAnswer:
    given = {"digest": digest(body), "body": body, "version": version, **NAMED}

    def build(ask_id: int) -> RegisterDocument:
        return RegisterDocument(ask_id=ask_id, **given)

    return await engine.gateway.runs.document(TENANT, build)


def version_of(answer: RegistryAnswer) -> int:
    assert answer.row is not None
    return answer.row.version


async def disable(engine: Engine, version: int) -> RegistryAnswer | Refusal:
    try:
        return await engine.gateway.runs.document(
            TENANT, lambda ask_id: DisableDocument(ask_id=ask_id, version=version, **NAMED)
        )
    except RefusedError as refused:
        return refused.refusal


async def test_a_restart_goes_on_with_the_versions_that_there_are(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with memory_engine(store=store) as engine:
        assert version_of(await register(engine, b"1")) == 1
        assert version_of(await register(engine, b"5", 5)) == 5
    async with memory_engine(store=store) as engine:
        assert version_of(await register(engine, b"6")) == 6
        assert (await register(engine, b"5", 5)).existing
        disabled = await disable(engine, 5)
        assert isinstance(disabled, RegistryAnswer)
        assert disabled.row is not None
        assert disabled.row.disabled_at
        missing = await disable(engine, 4)
        assert isinstance(missing, Refusal)
        assert missing.code is ErrorCode.NOT_FOUND
