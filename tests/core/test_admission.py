"""Admission in the shard: each gate keeps what it should, opens when it should, and says so."""

import sys
from typing import Any

import msgspec
import pytest

from jobengine.domain.blackout import Blackout, BlackoutScope, OneOff
from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Quota,
    RatePolicy,
    Source,
    Throttle,
)
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.ids import lease_id
from jobengine.domain.job import State
from jobengine.domain.records import LeasedJob
from jobengine.messages.admission import ControlAnswer, Explain, OperateBreaker, SetLoad
from jobengine.messages.lease_shard import Actor
from jobengine.messages.rate_bucket import BucketLost, Configure, Refund, Reserve
from jobengine.messages.session import StopLease, Tell
from jobengine.messages.shard_commands import Commit, LoadSubjects, SubjectsLoaded
from jobengine.messages.worker_reports import Completed, Detach, Failed, GivenBack, SetCredit
from tests.core.shard_driver import ShardDriver, job_id, new_job, stored_job

OSV = Source(
    host="api.osv.example",
    source_type="advisories",
    rate_policy=RatePolicy(burst=3, per_minute_micro=60_000_000),
)
ONE_A_MINUTE = RatePolicy(burst=1, per_minute_micro=1_000_000)


def done(number: int, attempt: int = 1) -> Completed:
    job = job_id(number)
    return Completed(lease_id=lease_id(job, attempt), token=attempt, result=b"{}")


def failed(number: int, attempt: int = 1, **fields: object) -> Failed:
    failure = Failure(class_="UpstreamError", message="no", retryable=False, **fields)  # type: ignore[arg-type]
    job = job_id(number)
    return Failed(lease_id=lease_id(job, attempt), token=attempt, error=failure)


def started(driver: ShardDriver) -> list[int]:
    """The numbers of the jobs that were started, in order."""
    return [int(grant.job.job_id[-12:]) for grant in driver.grants()]


@pytest.mark.parametrize(
    ("scope", "key"),
    [("tenant", ""), ("queue", "scan"), ("job_type", "scan"), ("source", "osv")],
)
def test_what_is_paused_does_not_start_until_it_is_resumed(scope: str, key: str) -> None:
    driver = ShardDriver()
    driver.attach()
    name = f"{scope}:{key}" if key else scope
    driver.control("pause", name, Pause(scope=scope, key=key))  # type: ignore[arg-type]
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    assert started(driver) == []
    assert driver.explain(stored_job(1, source_id="osv")) == {job_id(1): ["paused"]}
    driver.control("pause", name, None)
    driver.settle()
    assert started(driver) == [1]


def test_a_pause_of_one_source_lets_the_others_of_its_queue_go() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("pause", "source:osv", Pause(scope="source", key="osv"))
    driver.submit(new_job(1, source_id="osv"), new_job(2, source_id="nvd"), new_job(3))
    driver.settle()
    assert sorted(started(driver)) == [2, 3]


@pytest.mark.parametrize(
    ("quota", "of_lane"),
    [
        (Quota(max_active=2), True),
        (Quota(scope="job_type", key="scan", max_active=2), True),
        (Quota(scope="project", key="p", max_active=2), False),
    ],
)
def test_no_more_run_than_a_quota_allows(quota: Quota, of_lane: bool) -> None:
    driver = ShardDriver()
    driver.control("quota", "q", quota)
    driver.attach()
    driver.submit(*(new_job(number, project_id="p") for number in range(1, 6)))
    driver.submit(new_job(9))
    driver.settle()
    assert started(driver) == ([1, 2] if of_lane else [1, 2, 9])
    assert driver.explain(stored_job(3, project_id="p")) == {job_id(3): ["quota_active"]}
    driver.report(done(1))
    driver.settle()
    assert started(driver)[-1] == 3
    driver.report(done(2), done(3))
    driver.settle()
    assert sorted(started(driver))[:5] == [1, 2, 3, 4, 5]


def test_a_quota_below_what_runs_drains_and_never_kills() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.submit(*(new_job(number) for number in range(1, 5)))
    driver.settle()
    driver.control("quota", "q", Quota(max_active=2))
    driver.submit(new_job(5))
    driver.report(done(1), done(2))
    driver.settle()
    assert started(driver) == [1, 2, 3, 4]
    driver.report(done(3))
    driver.settle()
    assert started(driver) == [1, 2, 3, 4, 5]


def test_to_explain_many_jobs_of_a_lane_it_is_looked_at_once() -> None:
    driver = ShardDriver()
    for number in range(200):
        driver.attach(number, capacity=0)
    jobs = range(1, 101)
    driver.submit(*(new_job(number) for number in jobs))
    driver.settle()
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    driver.send(Explain(ask_id=driver.ask_id(), tenant_id="acme", queue="scan", jobs_max=100))
    wanted = driver.last(LoadSubjects)
    assert wanted.job_ids == [job_id(number) for number in jobs]
    read = SubjectsLoaded(
        stamp=wanted.stamp,
        jobs={job_id(number): stored_job(number, due_at=driver.now.at) for number in jobs},
    )
    sys.setprofile(count)
    try:
        driver.send(read)
    finally:
        sys.setprofile(None)
    explained = driver.answers()[-1].jobs
    assert [each.position for each in explained] == list(jobs)
    assert {each.gates[0].gate for each in explained} == {"no_slot"}
    assert calls < 100 * len(jobs), "neither jobs nor sessions are gone through for each job"


def test_jobs_of_one_concurrency_key_run_one_at_a_time_and_keep_nobody_waiting() -> None:
    driver = ShardDriver()
    driver.attach()
    same: dict[str, Any] = {"concurrency_key": "repo-1", "concurrency_limit": 1}
    driver.submit(new_job(1, **same), new_job(2, **same), new_job(3, **same), new_job(4))
    driver.settle()
    assert started(driver) == [1, 4]
    assert driver.explain(stored_job(2, **same)) == {job_id(2): ["concurrency_key"]}
    driver.report(done(1))
    driver.settle()
    assert started(driver) == [1, 4, 2]
    driver.report(done(2))
    driver.settle()
    assert started(driver) == [1, 4, 2, 3]


def test_a_free_place_goes_to_the_next_when_the_first_cannot_use_it() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("quota", "p", Quota(scope="project", key="p", max_active=1))
    key: dict[str, Any] = {"concurrency_key": "k", "concurrency_limit": 1}
    driver.submit(new_job(1, **key))
    driver.submit(new_job(2, project_id="p"))
    driver.submit(new_job(3, project_id="p", **key), new_job(4, **key))
    driver.settle()
    assert started(driver) == [1, 2]
    driver.report(done(1))
    driver.settle()
    assert started(driver) == [1, 2, 4]


def test_a_source_without_a_rate_policy_is_denied() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", msgspec.structs.replace(OSV, rate_policy=None))
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    assert started(driver) == []
    assert driver.explain(stored_job(1, source_id="osv")) == {job_id(1): ["rate"]}
    driver.control("source", "osv", OSV)
    driver.settle()
    assert started(driver) == [1]


def test_a_rate_lets_its_burst_go_and_then_one_a_second() -> None:
    driver = ShardDriver()
    driver.attach(slots=100)
    driver.control("source", "osv", OSV)
    driver.submit(*(new_job(number, source_id="osv") for number in range(1, 11)))
    driver.settle()
    assert started(driver) == [1, 2, 3]
    driver.wait(0.9)
    driver.settle()
    assert started(driver) == [1, 2, 3]
    for second in range(1, 4):
        driver.wait(1.0)
        driver.settle()
        assert len(started(driver)) == 3 + second


def test_a_job_that_costs_more_than_a_burst_is_refused_where_it_is_created() -> None:
    driver = ShardDriver()
    driver.control("source", "osv", OSV)
    driver.submit(new_job(1, source_id="osv", cost=4), new_job(2, source_id="osv", cost=3))
    driver.settle()
    refused, created = driver.answers()[-1].outcomes
    assert refused.refusal.details == {"path": "cost", "burst": 3, "limit": "source osv"}
    assert created.outcome == "created"


def test_a_job_that_costs_more_than_another_source_of_its_host_bears_is_refused() -> None:
    driver = ShardDriver()
    driver.attach()
    small = msgspec.structs.replace(OSV, rate_policy=ONE_A_MINUTE)
    driver.control("source", "osv", OSV)
    driver.control("source", "osv-2", small)
    driver.submit(new_job(1, source_id="osv", cost=2))
    driver.settle()
    [refused] = driver.answers()[-1].outcomes
    assert refused.refusal.details == {"path": "cost", "burst": 1, "limit": f"host {OSV.host}"}


@pytest.mark.parametrize("shrunk", ["osv", "osv-2"])
def test_a_burst_below_what_a_waiting_job_costs_is_named_until_it_is_raised(shrunk: str) -> None:
    driver = ShardDriver()
    driver.attach(slots=0)
    driver.control("source", "osv", OSV)
    driver.submit(new_job(1, source_id="osv", cost=2))
    driver.control("source", shrunk, msgspec.structs.replace(OSV, rate_policy=ONE_A_MINUTE))
    driver.send(SetCredit(session_id=1, slots=1))
    driver.wait(3600)
    driver.settle()
    assert started(driver) == []
    driver.explain(stored_job(1, source_id="osv", cost=2))
    [gate] = driver.answers()[-1].jobs[0].gates
    assert "raise the burst" in gate.message
    driver.control("source", shrunk, OSV)
    driver.settle()
    driver.wait(60)
    driver.settle()
    assert started(driver) == [1]


def test_sources_of_one_host_share_its_bucket() -> None:
    driver = ShardDriver()
    driver.attach(slots=100)
    driver.control("source", "osv", OSV)
    driver.control("source", "osv-2", OSV)
    driver.submit(
        *(new_job(number, source_id=("osv", "osv-2")[number % 2]) for number in range(1, 9))
    )
    driver.settle()
    assert len(started(driver)) == 3


def test_a_job_that_is_submitted_with_tokens_left_starts_in_the_commit_that_creates_it() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", OSV)
    commits = len(driver.open_commits())
    driver.submit(new_job(1, source_id="osv"))
    created = driver.open_commits()[commits:]
    assert len(created) == 1
    assert [entry.kind for entry in created[0].changes.entries] == [
        "job.created",
        "job.scheduled",
        "job.started",
    ]
    assert [row.name for row in created[0].changes.gate_states] == ["rate:host:api.osv.example"]


@pytest.mark.parametrize("quota", [None, Quota(max_active=1)])
def test_what_a_denied_job_held_is_offered_to_other_lanes_at_once(quota: Quota | None) -> None:
    driver = ShardDriver()
    driver.attach(slots=1 if quota is None else 2, auto_credit=True)
    if quota is not None:
        driver.control("quota", "all", quota)
    driver.control("source", "osv", msgspec.structs.replace(OSV, rate_policy=ONE_A_MINUTE))
    driver.submit(new_job(1, source_id="osv"))
    driver.submit(new_job(2, source_id="osv"))
    driver.submit(new_job(3, source_id="nvd"))
    driver.settle()
    assert started(driver) == [1]
    driver.report(done(1))
    driver.settle()
    assert started(driver) == [1, 3], "job 2 was proposed first, and has given slot and place back"


def test_a_job_waits_for_its_token_no_longer_when_the_wall_clock_is_set_back() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("throttle", "tenant", Throttle(rate=ONE_A_MINUTE))
    driver.submit(new_job(1), new_job(2))
    driver.settle()
    driver.behind_us = 3_600_000_000
    driver.wait(59)
    driver.settle()
    assert started(driver) == [1]
    driver.wait(2)
    driver.settle()
    assert started(driver) == [1, 2]


def test_tokens_go_back_when_the_worker_has_left_before_the_answer() -> None:
    driver = ShardDriver()
    driver.control("source", "osv", OSV)
    driver.submit(*(new_job(number, source_id="osv") for number in range(1, 4)))
    driver.settle()
    driver.buckets_answer = False
    driver.attach(1)
    assert len(driver.last(Reserve).requests) == 3
    driver.send(Detach(session_id=1))
    driver.answer_buckets()
    driver.buckets_answer = True
    assert len(driver.last(Refund).requests) == 3
    assert started(driver) == []
    driver.attach(2)
    driver.settle()
    assert started(driver) == [1, 2, 3]


def test_a_lost_bucket_is_configured_anew_and_asked_again() -> None:
    driver = ShardDriver()
    driver.control("source", "osv", OSV)
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    driver.buckets_answer = False
    driver.attach()
    driver.lose_buckets()
    driver.settle()
    assert len(driver.all(Configure)) >= 2
    assert started(driver) == [1]


def test_a_bucket_configured_since_another_was_lost_is_not_asked_again() -> None:
    driver = ShardDriver()
    driver.control("quota", "q", Quota(max_per_hour=100))
    driver.attach(slots=100)
    driver.submit(new_job(1))
    driver.settle()
    driver.buckets_answer = False
    lost = BucketLost(tenant_id="acme", configured=driver.last(Configure).stamp)
    driver.control("quota", "q", Quota(max_per_hour=90))
    driver.submit(*(new_job(number) for number in range(2, 42)))
    reserves, configures = len(driver.all(Reserve)), len(driver.all(Configure))
    driver.send(lost)
    assert (len(driver.all(Reserve)), len(driver.all(Configure))) == (reserves, configures)
    driver.buckets_answer = True
    driver.answer_buckets()
    driver.settle()
    assert len(started(driver)) == 41


def test_what_a_bucket_was_asked_before_another_is_configured_is_asked_again() -> None:
    driver = ShardDriver()
    driver.control("quota", "q", Quota(max_per_hour=100))
    driver.attach(slots=100)
    driver.submit(new_job(1))
    driver.settle()
    driver.buckets_answer = False
    lost = BucketLost(tenant_id="acme", configured=driver.last(Configure).stamp)
    driver.submit(new_job(2))
    driver._unanswered.clear()
    driver.control("quota", "q", Quota(max_per_hour=90))
    driver.buckets_answer = True
    driver.answer_buckets()
    driver.send(lost)
    driver.settle()
    assert started(driver) == [1, 2]


def test_buckets_go_on_after_a_restart_where_they_stood() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", OSV)
    driver.submit(*(new_job(number, source_id="osv") for number in range(1, 4)))
    driver.settle()
    rows = [row for commit in driver.commands for row in _states(commit)]
    controls = [row for commit in driver.commands for row in _controls(commit)]
    again = ShardDriver(controls=controls, gate_states=rows[-1:])
    again.attach()
    again.submit(new_job(9, source_id="osv"))
    again.settle()
    assert started(again) == []
    again.wait(1.1)
    again.settle()
    assert started(again) == [9]


def _states(command: object) -> list[GateStateRow]:
    changes = getattr(command, "changes", None)
    return [] if changes is None else changes.gate_states


def _controls(command: object) -> list[ControlRow]:
    changes = getattr(command, "changes", None)
    return [] if changes is None else changes.controls


def test_what_a_bucket_remembers_goes_with_its_source() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", OSV)
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    driver.report(done(1))
    driver.settle()
    driver.control("source", "osv", None)
    forgotten = {row.name for row in _states(driver.all(Commit)[-1]) if not bytes(row.body)}
    assert "rate:host:api.osv.example" in forgotten


def forgotten(driver: ShardDriver) -> list[str]:
    """The names of states that commits took away."""
    rows = [row for commit in driver.all(Commit) for row in _states(commit)]
    return [row.name for row in rows if not bytes(row.body)]


@pytest.mark.parametrize(
    ("kind", "name", "before", "after", "key"),
    [
        ("source", "osv", OSV, msgspec.structs.replace(OSV, host="b.example"), "host:" + OSV.host),
        (
            "source",
            "osv",
            OSV,
            msgspec.structs.replace(OSV, rate_policy=None),
            "host:" + OSV.host,
        ),
        ("quota", "q", Quota(max_per_hour=9), Quota(max_active=9), "quota:q"),
    ],
)
def test_what_a_bucket_remembers_of_a_limit_that_a_change_took_away_is_forgotten_in_time(
    kind: ControlKind, name: str, before: Control, after: Control, key: str
) -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control(kind, name, before)
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    driver.control(kind, name, after)
    assert forgotten(driver) == []
    driver.wait(7_300)
    driver.control("pause", "queue:other", Pause(scope="queue", key="other"))
    assert forgotten(driver) == [f"rate:{key}"]
    assert driver.core._state.proposals.state_of("acme", key) is None


def test_an_hour_goes_on_when_its_quota_allows_any_number_for_a_while() -> None:
    driver = ShardDriver()
    driver.attach()
    hourly, pause = Quota(max_per_hour=2), Pause(scope="queue", key="other")
    driver.control("quota", "q", hourly)
    driver.submit(new_job(1), new_job(2))
    driver.settle()
    driver.control("quota", "q", Quota(max_active=9))
    driver.control("pause", "queue:other", pause)
    driver.control("pause", "queue:other", None)
    driver.control("quota", "q", hourly)
    driver.submit(new_job(3))
    driver.settle()
    assert started(driver) == [1, 2]


def test_an_hourly_quota_holds_in_any_hour() -> None:
    driver = ShardDriver()
    driver.attach(slots=100)
    driver.control("quota", "q", Quota(max_per_hour=5))
    driver.submit(*(new_job(number) for number in range(1, 9)))
    driver.settle()
    assert started(driver) == [1, 2, 3, 4, 5]
    assert driver.explain(stored_job(6)) == {job_id(6): ["quota_hour"]}
    driver.report(*(done(number) for number in range(1, 6)))
    driver.wait(3599)
    driver.settle()
    assert len(started(driver)) == 5
    driver.wait(65)
    driver.settle()
    assert started(driver) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_blackout_keeps_its_jobs_until_its_end() -> None:
    driver = ShardDriver()
    driver.attach()
    at = driver.now.at
    window = OneOff(start_at=at - 1_000_000, end_at=at + 60_000_000)
    blackout = Blackout(
        blackout_id="night", calendar=(window,), reason="works", scope=BlackoutScope.TENANT
    )
    driver.control("blackout", "night", blackout)
    driver.submit(new_job(1))
    driver.settle()
    assert driver.explain(stored_job(1)) == {job_id(1): ["blackout"]}
    driver.wait(59)
    driver.settle()
    assert started(driver) == []
    driver.wait(1.1)
    driver.settle()
    assert started(driver) == [1]


def test_a_blackout_that_drains_asks_for_what_runs_in_its_scope_and_says_so() -> None:
    driver = ShardDriver()
    driver.attach()
    at = driver.now.at
    blackout = Blackout(
        blackout_id="night",
        calendar=(OneOff(start_at=at + 60_000_000, end_at=at + 120_000_000),),
        drain=True,
        key="osv",
        reason="works",
        scope=BlackoutScope.SOURCE,
    )
    driver.control("blackout", "night", blackout)
    driver.submit(new_job(1, source_id="osv", lease_us=600_000_000), new_job(2, lease_us=10**9))
    driver.settle()
    driver.wait(61)
    driver.settle()
    stops = [tell.message for tell in driver.all(Tell) if isinstance(tell.message, StopLease)]
    assert [(stop.lease_id, stop.reason) for stop in stops] == [
        (lease_id(job_id(1), 1), "blackout")
    ]
    given_back = GivenBack(lease_id=lease_id(job_id(1), 1), token=1, reason="cancelled")
    driver.report(given_back)
    driver.settle()
    assert started(driver) == [1, 2]
    driver.wait(60)
    driver.settle()
    assert started(driver) == [1, 2, 1]
    kinds = _kinds(driver)
    assert kinds.index("blackout.began") < kinds.index("blackout.ended")


def test_a_failing_source_opens_its_breaker_and_three_probes_close_it() -> None:
    driver = ShardDriver()
    driver.attach(slots=100)
    fast = RatePolicy(burst=1000, per_minute_micro=60_000_000_000)
    driver.control("source", "osv", msgspec.structs.replace(OSV, rate_policy=fast))
    for number in range(1, 21):
        driver.submit(new_job(number, source_id="osv"))
        driver.settle()
        driver.report(failed(number, http_status=502))
        driver.settle()
    assert "breaker.opened" in _kinds(driver)
    driver.submit(*(new_job(number, source_id="osv") for number in range(21, 31)))
    driver.settle()
    assert len(started(driver)) == 20
    assert driver.explain(stored_job(21, source_id="osv")) == {job_id(21): ["breaker"]}
    driver.wait(31)
    driver.settle()
    assert len(started(driver)) == 23
    driver.report(*(done(number) for number in started(driver)[20:]))
    driver.settle()
    assert "breaker.closed" in _kinds(driver)
    assert len(started(driver)) > 23


def test_an_operator_forces_a_breaker_open_and_closed() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", OSV)
    _force(driver, "open")
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    assert driver.explain(stored_job(1, source_id="osv")) == {job_id(1): ["breaker"]}
    _force(driver, "close")
    assert started(driver) == [1]


def _force(driver: ShardDriver, verb: str) -> None:
    driver.send(
        OperateBreaker(
            ask_id=driver.ask_id(),
            tenant_id="acme",
            actor=Actor("operator", "why", "T-1"),
            source_id="osv",
            verb=verb,  # type: ignore[arg-type]
        )
    )
    driver.settle()


def _kinds(driver: ShardDriver) -> list[str]:
    return [
        entry.kind
        for command in driver.commands
        if hasattr(command, "changes")
        for entry in command.changes.entries
    ]


def test_two_sources_that_wait_share_a_worker_by_their_weights() -> None:
    driver = ShardDriver()
    fast = RatePolicy(burst=1000, per_minute_micro=60_000_000_000)
    driver.control("source", "a", msgspec.structs.replace(OSV, rate_policy=fast, weight=3))
    driver.control("source", "b", msgspec.structs.replace(OSV, rate_policy=fast, host="b.example"))
    driver.submit(*(new_job(number, source_id="a") for number in range(1, 101)))
    driver.submit(*(new_job(number, source_id="b") for number in range(101, 201)))
    driver.settle()
    driver.attach(slots=40)
    driver.settle()
    of_a = sum(number <= 100 for number in started(driver))
    assert (of_a, len(started(driver))) == (30, 40)


def test_jobs_that_cost_nothing_take_their_turn() -> None:
    driver = ShardDriver()
    driver.submit(*(new_job(number, cost=0, source_id="ab"[number % 2]) for number in range(4)))
    driver.settle()
    driver.attach()
    driver.settle()
    assert sorted(started(driver)) == [0, 1, 2, 3]


def test_background_work_runs_when_nothing_else_waits() -> None:
    driver = ShardDriver()
    driver.submit(*(new_job(number, priority=0, source_id="a") for number in range(1, 6)))
    driver.submit(*(new_job(number, source_id="b") for number in range(6, 11)))
    driver.settle()
    driver.attach(slots=7)
    driver.settle()
    assert sorted(started(driver)[:5]) == [6, 7, 8, 9, 10]
    assert started(driver)[5:] == [1, 2]


def test_low_priorities_wait_while_the_engine_is_busy() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.send(SetLoad(level="elevated"))
    driver.submit(new_job(1, priority=1), new_job(2))
    driver.settle()
    assert started(driver) == [2]
    assert driver.explain(stored_job(1, priority=1)) == {job_id(1): ["behind"]}
    driver.send(SetLoad(level="normal"))
    driver.settle()
    assert started(driver) == [2, 1]


def test_jobs_that_ran_before_a_restart_hold_their_places_after_it() -> None:
    running = stored_job(1, state=State.RUNNING, attempt=1)
    leased = LeasedJob(running, "w1", "runner", running.created_at)
    driver = ShardDriver(leased=[leased])
    driver.control("quota", "q", Quota(max_active=1))
    driver.attach(2, worker_id="w2")
    driver.submit(new_job(2))
    driver.settle()
    assert started(driver) == []


@pytest.mark.parametrize(
    ("kind", "control", "path"),
    [
        ("source", msgspec.structs.replace(OSV, host="no host"), "host"),
        ("source", msgspec.structs.replace(OSV, weight=0), "weight"),
        ("quota", Quota(max_active=0), "maxActive"),
        ("quota", Quota(max_active=-1), "maxActive"),
        ("quota", Quota(burst=1, max_active=1), "burst"),
        ("throttle", Throttle(rate=RatePolicy(burst=0, per_minute_micro=1)), "rate.burst"),
        ("throttle", Throttle(rate=RatePolicy(burst=1, per_minute_micro=0)), "rate"),
        ("pause", Pause(scope="queue"), "key"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(
    kind: ControlKind, control: Control, path: str
) -> None:
    driver = ShardDriver()
    answer = driver.control(kind, "x", control)
    assert isinstance(answer, Refusal)
    assert answer.details["path"] == path


def test_a_control_is_changed_by_who_has_read_it_last() -> None:
    driver = ShardDriver()
    assert isinstance(driver.control("source", "osv", OSV, expect="absent"), ControlAnswer)
    taken = driver.control("source", "osv", OSV, expect="absent")
    assert taken.code is ErrorCode.ALREADY_EXISTS
    stale = driver.control("source", "osv", OSV, revision=7)
    assert stale.code is ErrorCode.REVISION_MISMATCH
    changed = driver.control("source", "osv", OSV, revision=1)
    assert changed.facts.revision == 2
    assert driver.control("source", "other", None).code is ErrorCode.NOT_FOUND


def test_a_tenant_has_a_bounded_number_of_controls() -> None:
    driver = ShardDriver(tenant_controls_max=1)
    driver.control("source", "osv", OSV)
    assert driver.control("source", "nvd", OSV).code is ErrorCode.CAPACITY_EXCEEDED
    assert isinstance(driver.control("source", "osv", OSV), ControlAnswer)


def test_a_source_in_use_is_taken_away_by_force_only() -> None:
    driver = ShardDriver()
    driver.attach()
    driver.control("source", "osv", OSV)
    driver.submit(new_job(1, source_id="osv"))
    driver.settle()
    assert driver.control("source", "osv", None).code is ErrorCode.IN_USE
    assert isinstance(driver.control("source", "osv", None, force=True), ControlAnswer)


def test_a_job_given_back_frees_its_places() -> None:
    driver = ShardDriver()
    driver.attach(slots=1)
    driver.control("quota", "q", Quota(max_active=1))
    driver.submit(new_job(1), new_job(2))
    driver.settle()
    driver.report(GivenBack(lease_id=lease_id(job_id(1), 1), token=1, delay_us=60_000_000))
    driver.send(SetCredit(session_id=1, slots=1))
    driver.settle()
    assert started(driver) == [1, 2]
