"""How many jobs of a tenant wait, and what happens when that is too many.

The count is held against the store's own after every step of random histories and restarts.
"""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobengine.core.lease_shard.backlogs import Backlogs
from jobengine.domain.change import IdempotencyRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.ids import lease_id
from jobengine.domain.instant import SECOND
from jobengine.domain.job import State
from jobengine.messages.lease_shard import (
    Actor,
    CancelJob,
    IdempotencyClaim,
    PrioritizeJob,
    ReleaseJob,
    ReplayJob,
    RetryJob,
    SubmitAnswer,
)
from jobengine.messages.rate_bucket import Refund
from jobengine.messages.shard_commands import Commit, LoadSubjects, SubjectsLoaded
from jobengine.messages.worker_reports import Completed, Detach, Failed, GivenBack
from jobengine.store.memory.tables import Tables
from tests.core.shard_driver import ShardDriver, job_id, new_job, stored_job
from tests.core.stored_driver import StoredDriver
from tests.core.test_admission import OSV

TENANTS = ("acme", "globex")
SMALL = {"lane_jobs_max": 8, "window_jobs_max": 12, "due_jobs_max": 4, "ageing_us": SECOND}


def test_a_submit_that_would_exceed_the_cap_is_refused_whole_and_names_backlog_and_cap() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=3)
    driver.submit(new_job(1), new_job(2))
    driver.settle()
    driver.submit(new_job(3), new_job(4))
    refusal = driver.answers()[-1]
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.BACKLOG_FULL
    assert (refusal.details["backlog"], refusal.details["backlogMax"]) == (2, 3)
    assert "2 jobs of the tenant wait and at most 3 may" in refusal.message
    driver.submit(new_job(5))
    driver.settle()
    assert driver.answers()[-1].backlog == 3
    assert len(driver.all(Commit)) == 2


def test_every_tenant_has_a_cap_of_its_own() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=1)
    driver.submit(new_job(1))
    driver.submit(new_job(2), tenant_id="globex")
    driver.settle()
    assert [answer.backlog for answer in driver.answers()] == [1, 1]


def test_what_is_under_way_to_the_store_counts() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=2)
    driver.submit(new_job(1), new_job(2))
    driver.submit(new_job(3))
    assert isinstance(driver.answers()[-1], Refusal)


def test_a_job_that_starts_makes_room_and_one_given_back_takes_it_again() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=2)
    driver.submit(new_job(1), new_job(2))
    driver.settle()
    driver.attach(slots=2)
    driver.settle()
    assert driver.core.backlog == 0
    driver.report(GivenBack(ref=1, lease_id=lease_id(job_id(1), 1), token=1, delay_us=SECOND))
    driver.settle()
    assert driver.core.backlog == 1


def test_follow_ups_are_never_refused() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=1)
    driver.submit(new_job(1))
    driver.settle()
    driver.attach(slots=1)
    driver.settle()
    more = [new_job(number, job_type="later") for number in (2, 3, 4)]
    done = Completed(
        ref="r", lease_id=lease_id(job_id(1), 1), token=1, result=b"1", follow_ups=more
    )
    driver.report(done)
    driver.settle()
    assert [settled.acks for settled in driver.settled(1)] == [["r"]]
    assert driver.core.backlog == 3


def test_a_repeated_request_and_jobs_that_exist_are_answered_at_a_full_backlog() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=1, backlogs={"acme": 1})
    claim = IdempotencyClaim("key", "/jobs", "digest")
    driver.submit(new_job(1), claim=claim)
    row = IdempotencyRow(
        tenant_id="acme",
        key="key",
        path="/jobs",
        body_digest="digest",
        answer=msgspec.Raw(b"{}"),
        at=0,
    )
    stamp = driver.last(LoadSubjects).stamp
    driver.send(SubjectsLoaded(stamp=stamp, answers={("key", "/jobs"): row}))
    replayed = driver.answers()[-1]
    assert isinstance(replayed, SubmitAnswer)
    assert (replayed.replayed, replayed.backlog) == (True, 1)
    driver.submit(new_job(2, unique_key="u"), new_job(3, unique_key="u"))
    stamp = driver.last(LoadSubjects).stamp
    driver.send(SubjectsLoaded(stamp=stamp, holders={"u": stored_job(9, unique_key="u")}))
    assert [one.outcome for one in driver.answers()[-1].outcomes] == ["existing", "existing"]


def test_jobs_of_one_unique_key_count_once() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=1)
    driver.submit(new_job(2, unique_key="u"), new_job(3, unique_key="u"))
    driver.send(SubjectsLoaded(stamp=driver.last(LoadSubjects).stamp))
    driver.settle()
    assert [one.outcome for one in driver.answers()[-1].outcomes] == ["created", "existing"]


def test_a_refused_request_lets_go_of_its_keys_and_gives_tokens_back() -> None:
    driver = ShardDriver(tenant_backlog_jobs_max=1, backlogs={"acme": 1})
    driver.control("source", "osv", OSV)
    driver.attach()
    driver.submit(new_job(1, source_id="osv"))
    assert isinstance(driver.answers()[-1], Refusal)
    assert sum(len(refund.requests) for refund in driver.all(Refund)) == 1
    claim = IdempotencyClaim("key", "/jobs", "digest")
    for _ in range(2):
        driver.submit(new_job(2), claim=claim)
        driver.send(SubjectsLoaded(stamp=driver.last(LoadSubjects).stamp))
        assert driver.answers()[-1].code is ErrorCode.BACKLOG_FULL


def test_a_tenant_without_a_backlog_costs_no_memory() -> None:
    backlogs = Backlogs()
    backlogs.restore({"a": 2})
    backlogs.grow("a", -2)
    backlogs.grow("b", 1)
    backlogs.grow("b", -1)
    assert (backlogs._counts, backlogs.total) == ({}, 0)


class Histories(RuleBasedStateMachine):
    """One shard and its store through submits, work, operators, time and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.sessions: list[int] = []
        self.life = 1
        self.driver = StoredDriver(Tables(), 1000.0, self.life, **SMALL)

    def fresh(self) -> int:
        self.numbers += 1
        return self.numbers

    @rule(
        tenant_id=st.sampled_from(TENANTS),
        count=st.integers(1, 5),
        hold=st.booleans(),
        delay_s=st.sampled_from([0, 0, 0, 5]),
        expires_s=st.sampled_from([None, None, 8]),
    )
    def submit(
        self, tenant_id: str, count: int, hold: bool, delay_s: int, expires_s: int | None
    ) -> None:
        now_at = self.driver.now.at
        fields: dict[str, Any] = {"hold": hold, "max_retries": count % 3}
        if delay_s:
            fields["not_before"] = now_at + delay_s * SECOND
        if expires_s:
            fields["expires_at"] = now_at + expires_s * SECOND
        jobs = [new_job(self.fresh(), **fields) for _ in range(count)]
        self.driver.submit(*jobs, tenant_id=tenant_id)

    @rule(tenant_id=st.sampled_from(TENANTS), slots=st.integers(0, 4))
    def a_worker_comes(self, tenant_id: str, slots: int) -> None:
        self.sessions.append(len(self.sessions) + 1)
        self.driver.attach(self.sessions[-1], tenant_id=tenant_id, slots=slots)

    @rule(data=st.data())
    def a_worker_goes(self, data: st.DataObject) -> None:
        if self.sessions:
            self.driver.send(Detach(session_id=data.draw(st.sampled_from(self.sessions))))

    @rule(data=st.data(), end=st.sampled_from(["done", "follow", "fail", "back"]))
    def a_job_ends(self, data: st.DataObject, end: str) -> None:
        live = self.driver.core._state.leases
        held = sorted(
            job_id
            for (_, job_id) in self.driver.tables.leases
            if (lease := live.of_job(job_id)) is not None and lease.session is not None
        )
        if not held:
            return
        lease = live.of_job(data.draw(st.sampled_from(held)))
        assert lease is not None
        assert lease.session is not None
        named: dict[str, Any] = {"ref": 1, "lease_id": lease.lease_id, "token": lease.attempt}
        report: Any
        if end == "fail":
            error = Failure(class_="Boom", message="no", retryable=True)
            report = Failed(error=error, **named)
        elif end == "back":
            report = GivenBack(delay_us=SECOND, **named)
        else:
            more = [new_job(self.fresh())] if end == "follow" else []
            report = Completed(result=b"1", follow_ups=more, **named)
        self.driver.report(report, session_id=lease.session.session_id)

    @rule(
        data=st.data(),
        kind=st.sampled_from([CancelJob, ReleaseJob, RetryJob, ReplayJob, PrioritizeJob]),
    )
    def an_operator_acts(self, data: st.DataObject, kind: Any) -> None:
        jobs = sorted(self.driver.tables.jobs)
        if not jobs:
            return
        tenant_id, of = data.draw(st.sampled_from(jobs))
        also: dict[str, Any] = {"priority": 9} if kind is PrioritizeJob else {}
        if kind is ReplayJob:
            also["new_job_id"] = job_id(self.fresh())
        self.driver.send(
            kind(
                ask_id=self.driver.ask_id(),
                tenant_id=tenant_id,
                job_id=of,
                actor=Actor("op"),
                **also,
            )
        )

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.wait(seconds)

    @rule()
    def the_engine_restarts(self) -> None:
        self.life += 1
        self.sessions = []
        mono = self.driver.mono + 1.0
        self.driver = StoredDriver(self.driver.tables, mono, self.life, **SMALL)

    @invariant()
    def the_count_is_that_of_the_store_when_commits_have_returned(self) -> None:
        self.driver.settle()
        core, tables = self.driver.core, self.driver.tables
        waiting = [job for job in tables.jobs.values() if job.state in _WAITING]
        assert core.backlog == len(waiting)
        counts = {tenant_id: core._state.backlogs.of(tenant_id) for tenant_id in TENANTS}
        stored = tables.backlog.counts(0)
        assert counts == {tenant_id: stored.get(tenant_id, 0) for tenant_id in TENANTS}


_WAITING = (State.PENDING, State.SCHEDULED)
Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase
