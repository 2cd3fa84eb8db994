"""A job's whole life over the real actors and the memory store, in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from jobengine.domain.errors import RefusedError
from jobengine.domain.job import Job, State
from jobengine.engine import Engine
from jobengine.messages.lease_shard import CancelJob, Operation, ReleaseJob, ReplayJob, RetryJob
from jobengine.messages.session import StopLease
from jobengine.messages.worker_reports import LeaseClaim
from jobengine.store.memory import MemoryStore
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, TENANT, BareWorker, new_job, submit


async def job_of(engine: Engine, job_id: str) -> Job:
    [job] = await engine.store.jobs(TENANT, [job_id])
    return job


async def history(engine: Engine, job_id: str) -> list[tuple[str | None, str | None]]:
    job = await job_of(engine, job_id)
    entries = await engine.store.entries(TENANT, job.seqs)
    return [(entry.from_, entry.to) for entry in entries if entry.to is not None]


def operation(kind: type[Any], job_id: str, **fields: Any) -> Callable[[int], Operation]:
    return lambda ask_id: kind(
        ask_id=ask_id, tenant_id=TENANT, job_id=job_id, actor=PRODUCER, **fields
    )


async def operate(engine: Engine, kind: type[Any], job_id: str, **fields: Any) -> Job:
    answer = await engine.gateway.operate(TENANT, operation(kind, job_id, **fields))
    assert answer.job is not None
    return answer.job


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_held_job_waits_until_it_is_released(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine, hold=True))
        assert (await job_of(engine, outcome.job_id)).state is State.PENDING
        await engine.gateway.operate(TENANT, operation(ReleaseJob, outcome.job_id))
        [grant] = await worker.leases(1)
        assert grant.job.job_id == outcome.job_id
        await worker.complete(grant, {"found": 3})
        job = await job_of(engine, outcome.job_id)
        assert (job.state, job.result) == (State.COMPLETED, b'{"found":3}')
        assert job.finished_at is not None
        assert await history(engine, outcome.job_id) == [
            (None, "pending"),
            ("pending", "scheduled"),
            ("scheduled", "running"),
            ("running", "completed"),
        ]


async def test_a_job_with_a_free_slot_is_created_and_leased_in_one_commit(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        commits = engine.gateway.ledger.commits_total
        await submit(engine, new_job(engine))
        assert engine.gateway.ledger.commits_total == commits + 1
        await worker.leases(1)


async def test_a_job_that_always_fails_runs_four_times_and_is_a_dead_letter(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(auto_credit=True)
        [outcome] = await submit(engine, new_job(engine, max_retries=3))
        for attempt in range(1, 5):
            grant = (await worker.leases(attempt))[-1]
            assert grant.token == attempt
            await worker.fail(grant)
        job = await job_of(engine, outcome.job_id)
        assert (job.state, job.failures, job.attempt) == (State.FAILED, 4, 4)
        steps = await history(engine, outcome.job_id)
        assert steps.count(("failed", "scheduled")) == 3
        letter = await engine.store.dead_letter(TENANT, f"{outcome.job_id}.4")
        assert letter is not None
        assert letter.state == "open"
        assert letter.class_ == "other"


async def test_a_non_retryable_failure_is_final_at_once(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        await worker.fail(grant, retryable=False)
        assert (await job_of(engine, outcome.job_id)).state is State.FAILED


async def test_an_operator_retries_a_dead_job_in_place(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(auto_credit=True)
        [outcome] = await submit(engine, new_job(engine, max_retries=0))
        [grant] = await worker.leases(1)
        await worker.fail(grant)
        await engine.gateway.operate(TENANT, operation(RetryJob, outcome.job_id))
        grant = (await worker.leases(2))[-1]
        await worker.complete(grant)
        assert (await job_of(engine, outcome.job_id)).state is State.COMPLETED
        letter = await engine.store.dead_letter(TENANT, f"{outcome.job_id}.1")
        assert letter is not None
        assert letter.state == "retried"


async def test_a_replay_is_a_new_job_and_closes_the_dead_letter(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(auto_credit=True)
        [outcome] = await submit(engine, new_job(engine, max_retries=0, payload={"a": 1}))
        [grant] = await worker.leases(1)
        await worker.fail(grant)
        [new_id] = engine.gateway.new_job_ids(1)
        replayed = await operate(engine, ReplayJob, outcome.job_id, new_job_id=new_id)
        assert replayed.job_id == new_id
        copy = await job_of(engine, new_id)
        assert copy.definition.replay_of == outcome.job_id
        assert (copy.payload, copy.definition.priority) == (b'{"a":1}', 8)
        letter = await engine.store.dead_letter(TENANT, f"{outcome.job_id}.1")
        assert letter is not None
        assert (letter.state, letter.replayed_as) == ("replayed", new_id)


async def test_a_completed_job_cannot_run_again(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        await worker.complete(grant)
        for kind in (RetryJob, ReleaseJob, CancelJob):
            with pytest.raises(RefusedError) as refused:
                await engine.gateway.operate(TENANT, operation(kind, outcome.job_id))
            assert refused.value.refusal.code == "ILLEGAL_TRANSITION"
            assert refused.value.refusal.details["from"] == "completed"


async def test_a_silent_workers_job_goes_to_another_within_a_second_of_its_lease(autojump_clock):
    async with memory_engine() as engine:
        silent, other = BareWorker(engine), BareWorker(engine, "w2")
        await silent.attach()
        [outcome] = await submit(engine, new_job(engine, lease_us=30_000_000))
        await silent.leases(1)
        started = trio.current_time()
        await silent.detach()
        await other.attach()
        [grant] = await other.leases(1)
        job = await job_of(engine, outcome.job_id)
        assert (grant.token, job.failures, job.crashes) == (2, 1, 1)
        entries = await engine.store.entries(TENANT, job.seqs)
        expired = next(entry for entry in entries if entry.reason == "lease_expired")
        assert expired.at - entries[2].at <= 31_000_000
        assert trio.current_time() - started <= 32 + 1


async def test_heartbeats_keep_a_lease_alive(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine, lease_us=10_000_000))
        [grant] = await worker.leases(1)
        for _ in range(20):
            await trio.sleep(6)
            await worker.beat()
        assert (await worker.complete(grant)).acks


async def test_a_report_after_its_lease_is_refused_and_kept(autojump_clock):
    async with memory_engine() as engine:
        slow, other = BareWorker(engine), BareWorker(engine, "w2")
        await slow.attach(capacity=1)
        [outcome] = await submit(engine, new_job(engine, lease_us=5_000_000))
        [old] = await slow.leases(1)
        await other.attach()
        [new] = await other.leases(1)
        settled = await slow.complete(old, "late")
        assert [nack.refusal.code for nack in settled.nacks] == ["LEASE_LOST"]
        await settle()
        blocks = await engine.store.blocks(TENANT, 0, 100, 1 << 20)
        assert any(b'"lease.refused"' in block.body for block in blocks)
        assert (await other.complete(new, "right")).acks
        assert (await job_of(engine, outcome.job_id)).result == b'"right"'


async def test_the_same_outcome_again_is_acknowledged_and_another_refused(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        assert (await worker.complete(grant, 1)).acks
        assert (await worker.complete(grant, 1)).acks
        assert (await worker.complete(grant, 2)).nacks


async def test_a_restart_keeps_leases_and_gives_them_a_full_period(autojump_clock):
    store = MemoryStore()
    async with memory_engine(store=store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine, lease_us=30_000_000))
        [grant] = await worker.leases(1)
        await trio.sleep(20)
    async with memory_engine(store=store) as engine:
        await trio.sleep(25)
        worker = BareWorker(engine)
        attached = await worker.attach(resume=[LeaseClaim(grant.lease_id, grant.token)])
        assert attached.resumed == [grant.lease_id]
        assert (await worker.complete(grant)).acks


async def test_the_same_outcome_is_acknowledged_even_after_a_restart(autojump_clock):
    store = MemoryStore()
    async with memory_engine(store=store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        await worker.complete(grant, {"n": 1})
    async with memory_engine(store=store) as engine:
        worker = BareWorker(engine)
        await worker.attach()
        assert (await worker.complete(grant, {"n": 1})).acks
        assert (await worker.complete(grant, {"n": 2})).nacks


async def test_a_running_job_is_cancelled_when_its_worker_confirms(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine))
        [grant] = await worker.leases(1)
        cancelled = await operate(engine, CancelJob, outcome.job_id)
        assert cancelled.state is State.RUNNING
        assert cancelled.cancel_requested_at
        stop = await worker.wait_for(lambda heard: [m for m in heard if isinstance(m, StopLease)])
        assert stop[0].lease_id == grant.lease_id
        assert (await worker.beat()).stop == [grant.lease_id]
        assert (await worker.release(grant)).acks
        job = await job_of(engine, outcome.job_id)
        assert (job.state, job.reason) == (State.CANCELLED, "user_cancelled")


async def test_a_cancel_that_nobody_confirms_takes_effect_when_the_grace_is_over(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        [outcome] = await submit(engine, new_job(engine, lease_us=3600_000_000))
        await worker.leases(1)
        await engine.gateway.operate(TENANT, operation(CancelJob, outcome.job_id))
        await trio.sleep(engine.settings.cancel_grace_s + 1)
        assert (await job_of(engine, outcome.job_id)).state is State.CANCELLED


async def test_a_waiting_job_is_cancelled_at_once_and_never_granted(autojump_clock):
    async with memory_engine() as engine:
        [outcome] = await submit(engine, new_job(engine))
        await engine.gateway.operate(TENANT, operation(CancelJob, outcome.job_id))
        worker = BareWorker(engine)
        await worker.attach()
        await trio.sleep(60)
        assert worker.granted() == []
        assert (await job_of(engine, outcome.job_id)).state is State.CANCELLED


async def test_a_job_is_not_granted_before_its_time(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach()
        due_at = engine.clock.moment().at + 90_000_000
        await submit(engine, new_job(engine, not_before=due_at))
        [grant] = await worker.leases(1)
        assert 0 <= (grant.job.started_at or 0) - due_at < 1_000_000


async def test_a_job_that_never_started_expires(autojump_clock):
    async with memory_engine() as engine:
        at = engine.clock.moment().at + 60_000_000
        [outcome] = await submit(engine, new_job(engine, expires_at=at))
        await trio.sleep(62)
        job = await job_of(engine, outcome.job_id)
        assert (job.state, job.reason) == (State.CANCELLED, "expired")


async def test_an_attempt_that_takes_too_long_is_timed_out_and_retried(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(auto_credit=True)
        await submit(engine, new_job(engine, timeout_us=10_000_000, lease_us=3600_000_000))
        grants = await worker.leases(2)
        assert [grant.token for grant in grants] == [1, 2]
        job = await job_of(engine, grants[0].job.job_id)
        entries = await engine.store.entries(TENANT, job.seqs)
        assert any(entry.reason == "timed_out" for entry in entries)


async def test_a_job_that_kills_its_workers_is_quarantined(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(capacity=100, auto_credit=True)
        [outcome] = await submit(engine, new_job(engine, lease_us=5_000_000, max_retries=50))
        await worker.leases(3)
        await trio.sleep(60)
        job = await job_of(engine, outcome.job_id)
        assert (job.state, job.crashes, job.attempt) == (State.FAILED, 3, 3)
        letter = await engine.store.dead_letter(TENANT, f"{outcome.job_id}.3")
        assert letter is not None
        assert letter.class_ == "crash_loop"


async def test_a_snoozed_job_comes_back_later_without_a_failure(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(auto_credit=True)
        await submit(engine, new_job(engine, max_retries=0))
        [grant] = await worker.leases(1)
        await worker.release(grant, delay_us=30_000_000)
        before = trio.current_time()
        grant = (await worker.leases(2))[-1]
        assert trio.current_time() - before == pytest.approx(30, abs=1)
        assert (grant.token, grant.job.failures) == (2, 0)


async def test_higher_priority_goes_first_and_waiting_counts(autojump_clock):
    async with memory_engine() as engine:
        await submit(engine, new_job(engine, priority=0, payload="old"))
        await trio.sleep(engine.settings.ageing_s * 6)
        await submit(
            engine,
            *(new_job(engine, priority=p, payload=f"p{p}") for p in (1, 9, 5)),
        )
        worker = BareWorker(engine)
        await worker.attach(capacity=1, auto_credit=True)
        order = []
        for count in range(1, 5):
            grant = (await worker.leases(count))[-1]
            order.append(grant.job.payload)
            await worker.complete(grant)
        assert order == [b'"p9"', b'"old"', b'"p5"', b'"p1"']


async def test_a_unique_key_gives_the_existing_job_until_it_is_final(autojump_clock):
    async with memory_engine() as engine:
        first, second = await submit(
            engine, new_job(engine, unique_key="k"), new_job(engine, unique_key="k")
        )
        [third] = await submit(engine, new_job(engine, unique_key="k"))
        assert [first.outcome, second.outcome, third.outcome] == ["created", "existing", "existing"]
        assert first.job_id == second.job_id == third.job_id
        worker = BareWorker(engine)
        await worker.attach()
        [grant] = await worker.leases(1)
        await worker.complete(grant)
        [fourth] = await submit(engine, new_job(engine, unique_key="k"))
        assert fourth.outcome == "created"


async def test_a_session_never_holds_more_than_its_credit_and_capacity(autojump_clock):
    async with memory_engine() as engine:
        worker = BareWorker(engine)
        await worker.attach(capacity=3, credit=2)
        await submit(engine, *(new_job(engine) for _ in range(10)))
        await settle()
        assert len(worker.granted()) == 2
        await worker.credit(5)
        await settle()
        assert len(worker.granted()) == 3


async def test_a_worker_that_comes_back_without_a_lease_frees_it_at_once(autojump_clock):
    async with memory_engine() as engine:
        lost = BareWorker(engine)
        await lost.attach()
        await submit(engine, new_job(engine, lease_us=3600_000_000))
        await lost.leases(1)
        await lost.detach()
        before = trio.current_time()
        again = BareWorker(engine)
        await again.attach()
        [grant] = await again.leases(1)
        assert (grant.token, grant.job.failures) == (2, 0)
        assert trio.current_time() - before < 1
