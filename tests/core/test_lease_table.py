"""The lease table: lease time, and when a lease falls due."""

from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.lease_shard.leases import Lease, LeaseTable, Phase
from jobengine.core.lease_shard.sessions import Session
from jobengine.domain.ids import lease_id
from jobengine.domain.job import State
from tests.core.shard_driver import stored_job

SECONDS = st.floats(0.0, 1e6, allow_nan=False)


def lease(number: int, renewed_s: float, timeout_s: float | None = None) -> Lease:
    job = stored_job(number, State.RUNNING, attempt=1)
    return Lease(
        job=job,
        lease_id=lease_id(job.job_id, 1),
        attempt=1,
        session=None,
        worker_id="w",
        task_runner_id="r",
        renewed_s=renewed_s,
        timeout_s=timeout_s,
        phase=Phase.LIVE,
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=5), SECONDS, SECONDS)
def test_whoever_wakes_when_the_table_asks_finds_a_lease_due(aways, ran_s, timeout_s) -> None:
    table = LeaseTable()
    mono = 0.0
    for ran, away in aways:
        mono += ran
        table.stop_clock(mono)
        assert table.wakeup_at is None
        mono += away
        table.start_clock(mono)
    table.add(lease(1, table.now_s(mono), table.now_s(mono) + timeout_s))
    wakeup_at = table.wakeup_at
    assert wakeup_at is not None
    assert [found.job.job_id[-1] for found in table.pop_due(wakeup_at)] == ["1"]
    assert table.wakeup_at is None


def test_lease_time_stands_still_while_the_ledger_is_away() -> None:
    table = LeaseTable()
    table.stop_clock(10.0)
    assert table.now_s(500.0) == table.now_s(10.0) == 10.0
    table.stop_clock(400.0)
    table.start_clock(510.0)
    table.start_clock(600.0)
    assert table.now_s(600.0) == 100.0


def test_a_table_does_not_ask_to_be_woken_for_a_lease_that_has_ended() -> None:
    table = LeaseTable()
    ended, held = lease(1, 0.0), lease(2, 7.0)
    for each in (ended, held):
        table.add(each)
    table.remove([ended])
    assert table.wakeup_at == held.due_s()
    table.remove([held])
    assert table.wakeup_at is None


def test_a_renewed_lease_is_looked_at_when_it_falls_due_now() -> None:
    table = LeaseTable()
    held = lease(1, 0.0)
    table.add(held)
    held.renewed_s = 20.0
    assert table.pop_due(30.0) == []
    assert table.wakeup_at == 50.0
    held.timeout_s = 40.0
    table.watch(held)
    assert table.wakeup_at == 40.0
    assert table.pop_due(40.0) == [held]


def test_a_lease_whose_change_is_under_way_is_looked_at_again_shortly() -> None:
    table = LeaseTable()
    held = lease(1, 0.0)
    held.phase = Phase.SETTLING
    table.add(held)
    assert table.pop_due(30.0) == []
    assert table.wakeup_at == 30.5
    held.phase = Phase.LIVE
    assert table.pop_due(30.5) == [held]


def test_leases_of_a_table_that_overslept_get_one_more_period_once() -> None:
    table = LeaseTable()
    due, later = lease(1, 0.0), lease(2, 15.0)
    table.add(due)
    table.add(later)
    assert table.pop_due(32.0) == []
    assert table.wakeup_at == 45.0
    assert table.pop_due(45.0) == []
    assert table.wakeup_at == 62.0
    later.renewed_s = 50.0
    assert table.pop_due(70.0) == [due]
    table.remove([due])
    assert table.pop_due(99.9) == []
    assert table.pop_due(100.0) == [later]


def test_a_job_that_ran_too_long_while_the_table_slept_is_not_spared() -> None:
    table = LeaseTable()
    held = lease(1, 0.0, timeout_s=20.0)
    table.add(held)
    assert table.pop_due(32.0) == [held]


def test_leases_that_nobody_holds_are_found_by_their_worker_until_a_session_takes_them() -> None:
    table, session = LeaseTable(), session_of("w")
    first, second = lease(1, 0.0), lease(2, 0.0)
    for each in (first, second):
        table.add(each)
    assert table.unheld_of("acme", "w") == (first, second)
    assert table.unheld_of("acme", "v") == table.unheld_of("globex", "w") == ()
    table.hand_to(session, first)
    table.remove([second])
    assert table.unheld_of("acme", "w") == ()
    assert list(session.leases.values()) == [first]
    later = session_of("w")
    table.hand_to(later, first)
    assert (session.leases, list(later.leases.values())) == ({}, [first])
    later.beat_s = 7.0
    table.let_go_of(later)
    assert (later.leases, first.session, first.renewed_s) == ({}, None, 7.0)
    assert table.unheld_of("acme", "w") == (first,)


def session_of(worker_id: str) -> Session:
    return Session(
        session_id=1,
        tenant_id="acme",
        worker_id=worker_id,
        task_runner_id="r",
        queues=frozenset(),
        job_types=frozenset({"scan"}),
        capacity=10,
        auto_credit=False,
        beat_s=0.0,
        connected_at=0,
        heard_at=0,
    )
