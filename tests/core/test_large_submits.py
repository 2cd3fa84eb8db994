"""A submit of many jobs is created in slices, and still as if in one go."""

from typing import Any

import pytest

from jobengine.core.lease_shard import LeaseShard, ShardLimits
from jobengine.core.machine import Answer
from jobengine.domain.control import Quota
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import State
from jobengine.messages.admission import ChangeControl, ReadGates
from jobengine.messages.lease_shard import Actor, IdempotencyClaim, SubmitJobs
from jobengine.messages.planner_commands import CommitCancel
from jobengine.messages.runs import CarryOut
from jobengine.messages.session import Granted, Tell
from jobengine.messages.shard_commands import (
    Commit,
    Committed,
    LoadDelayed,
    LoadSubjects,
    RankedLoaded,
    Recovered,
    SubjectsLoaded,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Beat, Completed, Detach, Reports, SetCredit
from tests.core.shard_driver import EPOCH_AT, attach, job_id, new_job

SLICE = 4
MANY = 5 * SLICE
CLAIM = IdempotencyClaim("key", "/jobs:bulk", "digest")


class Shard:
    """A shard that is woken only when the test says so; ``commands`` gathers everything."""

    def __init__(self, **limits: Any) -> None:
        self.core = LeaseShard(0, ShardLimits(slice_jobs=SLICE, **limits))
        self.mono = 1000.0
        self.commands: list[Any] = []
        self.send(Recovered(leased=(), lanes=()))

    @property
    def now(self) -> Moment:
        return Moment(self.mono, EPOCH_AT + round(self.mono * 1e6))

    def send(self, message: Any) -> list[Any]:
        self.mono += 0.001
        commands = list(self.core.handle(message, self.now))
        self.commands += commands
        return commands

    @property
    def wants_to_go_on(self) -> bool:
        at = self.core.wakeup_at
        return at is not None and at <= self.mono

    def go_on(self) -> None:
        """Wake it until it has nothing to do now."""
        for _ in range(100):
            if not self.wants_to_go_on:
                return
            self.send(Wake())
        raise AssertionError("the core wants to be woken for ever")

    def submit(self, numbers: range, *, ask_id: int, tenant_id: str = "acme", **fields: Any) -> Any:
        definition = fields.pop("definition", {})
        jobs = [new_job(number, **definition) for number in numbers]
        return self.send(
            SubmitJobs(ask_id=ask_id, tenant_id=tenant_id, actor=Actor("p"), jobs=jobs, **fields)
        )

    def commits(self, tenant_id: str = "acme") -> list[Commit]:
        return [
            command
            for command in self.commands
            if isinstance(command, Commit) and command.changes.tenant_id == tenant_id
        ]

    def committed(self, commit: Commit) -> list[Any]:
        return self.send(Committed(stamp=commit.stamp, first_seq=1))

    def answer(self, ask_id: int) -> Any:
        [value] = [
            each.value
            for each in self.commands
            if isinstance(each, Answer) and each.ask_id == ask_id
        ]
        return value

    def answered(self, ask_id: int) -> bool:
        return any(isinstance(each, Answer) and each.ask_id == ask_id for each in self.commands)

    def grants(self) -> list[Any]:
        return [
            grant
            for each in self.commands
            if isinstance(each, Tell) and isinstance(each.message, Granted)
            for grant in each.message.leases
        ]


def quota(ask_id: int, **limits: Any) -> ChangeControl:
    return ChangeControl(
        ask_id=ask_id,
        tenant_id="acme",
        actor=Actor("operator"),
        event="quota.changed",
        kind="quota",
        name="tenant",
        control=Quota(**limits),
    )


def test_many_jobs_are_created_over_several_wake_ups_and_leave_in_one_commit() -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1)
    wake_ups = 0
    while shard.wants_to_go_on:
        assert shard.commits() == []
        shard.send(Wake())
        wake_ups += 1
    assert wake_ups == 4
    [commit] = shard.commits()
    assert [row.job_id for row in commit.changes.rows] == [new_job(n).job_id for n in range(MANY)]
    assert not shard.answered(1)
    shard.committed(commit)
    assert [each.outcome for each in shard.answer(1).outcomes] == ["created"] * MANY
    assert shard.core.backlog == MANY


def test_a_small_submit_is_created_at_once() -> None:
    shard = Shard()
    shard.submit(range(2 * SLICE), ask_id=1)
    assert len(shard.commits()) == 1
    assert not shard.wants_to_go_on


def test_another_tenant_is_served_between_two_slices() -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1)
    shard.send(attach(7, tenant_id="quiet"))
    shard.send(SetCredit(session_id=7, slots=1))
    shard.submit(range(100, 101), ask_id=2, tenant_id="quiet")
    [commit] = shard.commits("quiet")
    shard.committed(commit)
    assert shard.answered(2)
    [grant] = shard.grants()
    done = Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null")
    shard.send(Reports(session_id=7, reports=[done]))
    assert len(shard.commits("quiet")) == 2
    assert shard.commits() == []


def test_two_tenants_take_turns_slice_by_slice() -> None:
    shard = Shard()
    shard.submit(range(10 * MANY), ask_id=1)
    shard.submit(range(1000, 1000 + MANY), ask_id=2, tenant_id="other")
    for _ in range(10):
        shard.send(Wake())
    assert len(shard.commits("other")) == 1
    assert shard.commits() == []


def test_what_its_own_tenant_sends_meanwhile_is_handled_behind_it_and_in_order() -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1)
    shard.submit(range(100, 101), ask_id=2)
    shard.submit(range(200, 200 + MANY), ask_id=3)
    shard.submit(range(300, 301), ask_id=4)
    assert shard.commits() == []
    shard.go_on()
    firsts = [commit.changes.rows[0].job_id for commit in shard.commits()]
    assert firsts == [new_job(number).job_id for number in (0, 100, 200, 300)]


def test_recorded_instants_never_go_back_along_a_tenants_commits() -> None:
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=6))
    shard.submit(range(100, 101), ask_id=1)
    shard.submit(range(MANY), ask_id=2)
    shard.send(Reports(session_id=1, reports=[]))
    shard.submit(range(300, 301), ask_id=3)
    shard.go_on()
    ats = [entry.at for commit in shard.commits() for entry in commit.changes.entries]
    assert ats == sorted(ats)
    [bulk] = [commit for commit in shard.commits() if len(commit.changes.rows) == MANY]
    assert len({entry.at for entry in bulk.changes.entries}) == 1
    started = [row for row in bulk.changes.rows if row.state is State.RUNNING]
    assert {row.started_at for row in started} == {bulk.changes.entries[0].at}


def test_jobs_of_every_slice_start_as_far_as_there_are_slots_and_in_order() -> None:
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=3 * SLICE + 1))
    shard.submit(range(MANY), ask_id=1)
    shard.go_on()
    [commit] = shard.commits()
    states = [row.state for row in commit.changes.rows]
    running = 3 * SLICE + 1
    assert states == [State.RUNNING] * running + [State.SCHEDULED] * (MANY - running)
    shard.committed(commit)
    shard.go_on()
    assert len(shard.grants()) == running


def test_a_report_of_its_tenant_frees_no_place_for_a_later_slice() -> None:
    """The places of a quota, as the ledger alone tells of them, are never exceeded."""
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=50))
    shard.send(quota(90, max_active=1))
    shard.committed(shard.commits()[-1])
    shard.submit(range(100, 101), ask_id=1)
    shard.committed(shard.commits()[-1])
    [grant] = shard.grants()
    shard.submit(range(MANY), ask_id=2)
    done = Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null")
    shard.send(Reports(session_id=1, reports=[done]))
    shard.go_on()
    bulk, report = shard.commits()[-2:]
    assert {row.state for row in bulk.changes.rows} == {State.SCHEDULED}
    assert report.changes.rows[0].job_id == grant.job.job_id


def test_a_control_that_comes_meanwhile_is_recorded_behind_the_starts_it_did_not_stop() -> None:
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=50))
    shard.submit(range(MANY), ask_id=1)
    shard.send(quota(2, max_active=1))
    shard.go_on()
    bulk, control = shard.commits()
    assert {row.state for row in bulk.changes.rows} == {State.RUNNING}
    assert control.changes.controls


def test_what_falls_due_of_its_tenant_between_two_slices_is_recorded_behind_it() -> None:
    shard = Shard()
    [delayed] = [each for each in shard.commands if isinstance(each, LoadDelayed)]
    shard.send(RankedLoaded(stamp=delayed.stamp, rows=()))
    shard.submit(range(500, 501), ask_id=1, definition={"not_before": shard.now.at + 10_000})
    shard.committed(shard.commits()[-1])
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=50))
    shard.submit(range(MANY), ask_id=2)
    shard.mono += 1
    shard.send(Wake())
    shard.go_on()
    _, bulk, due = shard.commits()
    assert len(bulk.changes.rows) == MANY
    assert [row.job_id for row in due.changes.rows] == [new_job(500).job_id]
    assert due.changes.entries[0].at > bulk.changes.entries[0].at


def test_a_repeat_that_comes_between_two_slices_takes_no_effect() -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1, claim=CLAIM)
    [wanted] = [each for each in shard.commands if isinstance(each, LoadSubjects)]
    shard.send(SubjectsLoaded(stamp=wanted.stamp, tenant_id="acme"))
    assert shard.wants_to_go_on
    shard.submit(range(500, 500 + MANY), ask_id=2, claim=CLAIM)
    shard.go_on()
    [commit] = shard.commits()
    assert len(commit.changes.rows) == MANY
    assert len(commit.changes.idempotency) == 1
    assert shard.answer(2).code is ErrorCode.IDEMPOTENCY_IN_PROGRESS
    shard.committed(commit)
    assert len(shard.answer(1).outcomes) == MANY


def test_a_unique_key_named_in_two_slices_makes_one_job() -> None:
    shard = Shard()
    jobs = [new_job(n, unique_key=f"k{n % (2 * SLICE)}") for n in range(MANY)]
    shard.send(SubmitJobs(ask_id=1, tenant_id="acme", actor=Actor("p"), jobs=jobs))
    [wanted] = [each for each in shard.commands if isinstance(each, LoadSubjects)]
    shard.send(SubjectsLoaded(stamp=wanted.stamp, tenant_id="acme"))
    shard.go_on()
    [commit] = shard.commits()
    assert len(commit.changes.rows) == 2 * SLICE
    shard.committed(commit)
    outcomes = [each.outcome for each in shard.answer(1).outcomes]
    assert outcomes == ["created"] * 2 * SLICE + ["existing"] * (MANY - 2 * SLICE)


def test_a_worker_that_goes_between_two_slices_is_let_go_behind_them() -> None:
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=MANY))
    shard.submit(range(MANY), ask_id=1)
    shard.send(Detach(session_id=1))
    shard.go_on()
    [commit] = shard.commits()
    shard.committed(commit)
    shard.go_on()
    assert shard.grants() == []
    given_back = shard.commits()[1:]
    assert sum(len(each.changes.rows) for each in given_back) == MANY


def test_a_session_that_comes_between_two_slices_is_served_in_its_order() -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1)
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=MANY))
    assert shard.core.sessions == 0
    shard.go_on()
    shard.committed(shard.commits()[0])
    shard.go_on()
    shard.committed(shard.commits()[1])
    assert len(shard.grants()) == MANY


def test_the_backlog_is_checked_for_the_second_large_submit_when_the_first_is_counted() -> None:
    shard = Shard(tenant_backlog_jobs_max=MANY + 1)
    shard.submit(range(MANY), ask_id=1)
    shard.submit(range(100, 100 + MANY), ask_id=2)
    shard.go_on()
    assert len(shard.commits()) == 1
    assert shard.answer(2).code is ErrorCode.BACKLOG_FULL


def test_one_submit_too_many_of_a_busy_tenant_is_refused_and_others_are_not() -> None:
    shard = Shard(line_messages_max=3)
    shard.submit(range(MANY), ask_id=1)
    for number in range(4):
        shard.submit(range(100 + number, 101 + number), ask_id=10 + number)
    refused = shard.answer(13)
    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.OVERLOADED
    shard.submit(range(200, 201), ask_id=20, tenant_id="quiet")
    assert len(shard.commits("quiet")) == 1
    shard.go_on()
    assert len(shard.commits()) == 4


def test_no_request_of_a_busy_tenant_waits_beyond_the_bound_but_what_its_runs_ask() -> None:
    shard = Shard(line_messages_max=1)
    shard.submit(range(MANY), ask_id=1)
    shard.send(quota(10, max_active=1))
    shard.send(quota(11, max_active=2))
    shard.send(ReadGates(ask_id=12, tenant_id="acme"))
    cancel = CommitCancel(stamp=1, tenant_id="acme", run_id="r", actor=Actor("operator"))
    shard.send(CarryOut(ask_id=13, tenant_id="acme", command=cancel))
    assert [shard.answer(ask_id).code for ask_id in (11, 12)] == [ErrorCode.OVERLOADED] * 2
    assert not shard.answered(10)
    assert not shard.answered(13)


def busy_with_a_lease_that_ends() -> Shard:
    """The tenant is closed, and what waits in its line takes several turns."""
    shard = Shard()
    shard.send(attach(1))
    shard.send(SetCredit(session_id=1, slots=1))
    shard.submit(range(90, 91), ask_id=1)
    shard.committed(shard.commits()[0])
    shard.commands.clear()
    shard.mono += 29.9
    shard.submit(range(MANY), ask_id=2)
    for number in range(3 * SLICE):
        shard.submit(range(100 + number, 101 + number), ask_id=10 + number)
    return shard


def has_expired(shard: Shard) -> bool:
    rows = [row for commit in shard.commits() for row in commit.changes.rows]
    return job_id(90) in [row.job_id for row in rows]


def test_a_lease_does_not_expire_while_its_heartbeat_waits_in_the_line_of_its_tenant() -> None:
    shard = busy_with_a_lease_that_ends()
    shard.send(Beat(session_id=1))
    while not shard.commits():
        shard.send(Wake())
    shard.mono += 0.2
    shard.go_on()
    assert not has_expired(shard)


def test_a_lease_expires_in_its_turn_however_long_its_tenant_stays_busy() -> None:
    shard = busy_with_a_lease_that_ends()
    shard.mono += 0.2
    for number in range(10, 50):
        shard.submit(range(number * MANY, (number + 1) * MANY), ask_id=100 + number)
        shard.send(Wake())
    assert shard.wants_to_go_on
    assert has_expired(shard)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_a_shard_that_ends_between_two_slices_leaves_nothing_of_them(slices: int) -> None:
    shard = Shard()
    shard.submit(range(MANY), ask_id=1, claim=CLAIM)
    [wanted] = [each for each in shard.commands if isinstance(each, LoadSubjects)]
    shard.send(SubjectsLoaded(stamp=wanted.stamp, tenant_id="acme"))
    for _ in range(slices):
        shard.send(Wake())
    assert shard.commits() == []
    again = Shard()
    again.submit(range(MANY), ask_id=1, claim=CLAIM)
    [wanted] = [each for each in again.commands if isinstance(each, LoadSubjects)]
    again.send(SubjectsLoaded(stamp=wanted.stamp, tenant_id="acme"))
    again.go_on()
    [commit] = again.commits()
    assert len(commit.changes.rows) == MANY
