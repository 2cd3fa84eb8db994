"""The ledger's shell: commits of different tenants beside each other, over the real actors."""

import pytest
import trio
from trio.testing import MockClock

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.store_trouble import told_of, trouble_of
from jobengine.domain.change import CommitBatch
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.engine import Engine
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.settings import Settings
from jobengine.store.errors import (
    StoreBusyError,
    StoreFullError,
    StoreSilentError,
    StoreUnavailableError,
)
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, new_job
from tests.actors.faulty_store import Fault, FaultyStore, fail_call


async def submit_as(tenant_id: str, engine: Engine, done: list[str]) -> None:
    await engine.gateway.submit(tenant_id, PRODUCER, [new_job(engine)], None)
    done.append(tenant_id)


async def test_a_tenant_is_answered_while_the_commit_of_another_is_under_way(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        done: list[str] = []
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=5.0), first=slow)
        began_mono = trio.current_time()
        nursery.start_soon(submit_as, "loud", engine, done)
        await trio.sleep(1)
        nursery.start_soon(submit_as, "quiet", engine, done)
        await trio.sleep(1)
        assert done == ["quiet"]
        since_mono = engine.ledger.state.committing_since_mono
        assert since_mono is not None
        assert began_mono <= since_mono < began_mono + 1, "the oldest commit is the one to tell of"
        await trio.sleep(5)
        assert done == ["quiet", "loud"]
        assert engine.ledger.state.committing_since_mono is None


async def test_with_one_commit_at_a_time_a_tenant_waits_for_that_of_another(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    settings = Settings(commits_in_flight_max=1)
    async with (
        memory_engine(store=store, settings=settings) as engine,
        trio.open_nursery() as nursery,
    ):
        done: list[str] = []
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=5.0), first=slow)
        nursery.start_soon(submit_as, "loud", engine, done)
        await trio.sleep(1)
        nursery.start_soon(submit_as, "quiet", engine, done)
        await trio.sleep(1)
        assert done == []
        await trio.sleep(5)
        assert done == ["loud", "quiet"]


async def test_a_request_that_a_slow_commit_outlasts_is_told_so(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with (
        memory_engine(store=store, settings=Settings(ask_timeout_s=3)) as engine,
        trio.open_nursery() as nursery,
    ):
        slow = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(before_s=60.0), first=slow)
        with pytest.raises(UnavailableError, match=r"is slow: .* for 3 s; .* may still"):
            await submit_as("loud", engine, [])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("unknown", "told"), [(True, "a commit is in doubt"), (False, "the database is away")]
)
async def test_while_commits_wait_requests_are_told_why_and_later_nothing(
    autojump_clock: MockClock, unknown: bool, told: str
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine, trio.open_nursery() as nursery:
        done: list[str] = []
        first = store.calls["commit"] + 1
        sent = Fault(away=True, unknown=unknown)
        store.plan = lambda name, _: (
            sent if name in ("commit", "settled_heads") and store.calls["commit"] >= first else None
        )
        nursery.start_soon(submit_as, "acme", engine, done)
        await trio.sleep(1)
        with pytest.raises(UnavailableError, match=told) as caught:
            await submit_as("other", engine, [])
        assert caught.value.retry_after_s == 2
        store.plan = None
        await trio.sleep(5)
        assert done == ["acme"]
        assert engine.ledger.state.trouble is None
        await submit_as("other", engine, done)


class NarrowStore(FaultyStore):
    """Lets the time of a commit pass that holds more than two changes."""

    def __init__(self, error: StoreUnavailableError) -> None:
        super().__init__()
        self.error = error
        self.sizes: list[int] = []

    async def commit(self, batch: CommitBatch) -> None:
        self.sizes.append(len(batch.changes))
        if len(batch.changes) > 2:
            await trio.sleep(9)
            raise self.error
        await self.inner.commit(batch)


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("canceling statement due to statement timeout", sqlstate="57014"),
        StoreSilentError("no answer within 10 s", may_have_committed=True),
    ],
    ids=["told", "silent"],
)
async def test_a_batch_for_which_a_servers_time_is_too_short_goes_on_in_pieces(
    autojump_clock: MockClock, error: StoreUnavailableError
) -> None:
    store = NarrowStore(error)
    settings = Settings(ask_timeout_s=300)
    async with memory_engine(store=store, settings=settings) as engine:
        done: list[str] = []
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(submit_as, f"t{number}", engine, done)
        assert len(done) == 8
        assert max(store.sizes) > 2, "there was a batch to take apart"
        assert engine.ledger.state.trouble is None


ERRORS = (StoreUnavailableError, StoreSilentError, StoreFullError, StoreBusyError)


def test_each_failure_of_the_store_has_its_own_words() -> None:
    told = [told_of(trouble_of(error("any"))) for error in ERRORS]
    assert len({each.message for each in told}) == len(ERRORS)
    assert all(each.retry_after_s >= 1 for each in told)


@pytest.mark.parametrize("error", ERRORS)
async def test_a_request_that_a_shard_could_not_read_for_is_told_why(
    autojump_clock: MockClock, error: type[StoreUnavailableError]
) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine:
        store.plan = fail_call("claims", Fault(away=True, error=error))
        claim = IdempotencyClaim("key", "POST /jobs", "digest")
        with pytest.raises(RefusedError) as refused:
            await engine.gateway.submit("acme", PRODUCER, [new_job(engine)], claim)
        assert refused.value.refusal.code is ErrorCode.STORE_UNAVAILABLE
        assert refused.value.refusal.message == told_of(trouble_of(error("any"))).message
