"""A shard whose wall clock is set back by hours: what waits for a time that passes waits no longer
than about that, and what waits for an instant of the users' clocks is another matter."""

import msgspec

from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.control import RatePolicy, Source, Throttle
from jobengine.domain.failure import Failure
from jobengine.domain.job import State
from jobengine.domain.records import LeasedJob
from jobengine.messages.admission import ReadGates
from jobengine.messages.rate_bucket import PushedBack, Reserve
from jobengine.messages.shard_commands import DueLoaded, LoadDelayed, LoadExpiring, RankedLoaded
from jobengine.messages.worker_reports import Beat, Failed, SetCredit
from tests.core.shard_driver import EPOCH_AT, ShardDriver, new_job, stored_job

HOUR_US = 3_600_000_000
FAILURE = Failure(class_="Broken", message="no", retryable=True)


def going(slots: int = 10) -> ShardDriver:
    """A shard with one worker, whose store holds nothing."""
    shard = ShardDriver()
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    shard.attach(slots=slots)
    return shard


def pass_time(shard: ShardDriver, seconds: int) -> None:
    """The worker goes on sending heartbeats."""
    for _ in range(seconds):
        shard.wait(1)
        shard.send(Beat(session_id=1))
    shard.settle()


def test_a_retry_takes_its_backoff_and_not_until_the_clock_has_caught_up() -> None:
    shard = going()
    shard.submit(new_job(1))
    shard.settle()
    [grant] = shard.grants()
    shard.behind_us = 3 * HOUR_US
    failed = Failed(
        ref=1, lease_id=grant.lease_id, token=1, error=FAILURE, retry_after_us=10_000_000
    )
    shard.report(failed)
    shard.settle()
    pass_time(shard, 9)
    assert len(shard.grants()) == 1
    pass_time(shard, 12)
    assert [grant.token for grant in shard.grants()] == [1, 2]


def test_a_lane_that_is_denied_tokens_waits_for_them_and_does_not_ask_on_and_on() -> None:
    shard = going()
    rate = RatePolicy(burst=1, per_minute_micro=1_000_000)
    shard.control("throttle", "tenant", Throttle(rate=rate))
    shard.submit(new_job(1))
    shard.settle()
    shard.behind_us = HOUR_US
    shard.submit(new_job(2))
    shard.settle()
    asked = len(shard.all(Reserve))
    pass_time(shard, 59)
    assert (len(shard.grants()), len(shard.all(Reserve))) == (1, asked)
    pass_time(shard, 2)
    assert len(shard.grants()) == 2


def test_a_clock_that_is_set_back_after_a_denial_makes_nobody_wait_for_it() -> None:
    shard = going(slots=0)
    rate = RatePolicy(burst=1, per_minute_micro=1_000_000)
    shard.control("throttle", "tenant", Throttle(rate=rate))
    shard.submit(new_job(1), new_job(2))
    shard.settle()
    shard.buckets_answer = False
    shard.send(SetCredit(session_id=1, slots=10))
    bucket = shard.buckets["acme"] = RateBucket("acme")
    [answer] = [answer for asked in shard._unanswered for answer in bucket.handle(asked, shard.now)]
    shard._unanswered.clear()
    shard.behind_us = HOUR_US
    shard.buckets_answer = True
    shard.send(answer)
    shard.settle()
    assert len(shard.grants()) == 1
    pass_time(shard, 61)
    assert len(shard.grants()) == 2


def test_a_bucket_is_shown_by_the_clock_that_was_set_back() -> None:
    shard = going()
    host = "api.osv.example"
    rate = RatePolicy(burst=9, per_minute_micro=1_000_000)
    shard.control("source", "osv", Source(host=host, source_type="a", rate_policy=rate))
    shard.submit(*(new_job(number, source_id="osv") for number in range(1, 4)))
    shard.settle()
    shard.behind_us = HOUR_US
    [_, _, grant] = shard.grants()
    failed = Failed(
        ref=1,
        lease_id=grant.lease_id,
        token=1,
        error=msgspec.structs.replace(FAILURE, http_status=429),
        retry_after_us=60_000_000,
    )
    shard.report(failed)
    shard.settle()
    pass_time(shard, 10)
    ask = ReadGates(ask_id=shard.ask_id(), tenant_id="acme", kinds=("bucket",))
    shard.send(ask)
    [found] = [gate.state for gate in shard.answers()[-1].gates if gate.key == f"host:{host}"]
    assert abs(found["openAt"] - shard.now.at - 50_000_000) <= 1_000


def test_a_bucket_is_told_of_a_start_by_the_clock_that_was_set_back() -> None:
    shard = going()
    rate = RatePolicy(burst=9, per_minute_micro=600_000_000)
    shard.control("source", "osv", Source(host="h.example", source_type="a", rate_policy=rate))
    shard.behind_us = 3 * HOUR_US
    shard.submit(new_job(1, source_id="osv"))
    shard.settle()
    [grant] = shard.grants()
    started_at = shard.now.at
    error = msgspec.structs.replace(FAILURE, http_status=429)
    shard.report(Failed(ref=1, lease_id=grant.lease_id, token=1, error=error))
    assert shard.last(PushedBack).granted_at == started_at


def test_instants_go_on_at_half_the_pace_until_the_clock_has_caught_up() -> None:
    shard = going()
    before_at = shard.now.at
    shard.behind_us = 10_000_000
    state = shard.core._state
    pass_time(shard, 4)
    assert abs(state.now.at - before_at - 2_000_000) < 10
    pass_time(shard, 30)
    assert state.now.at == shard.now.at


def test_an_attempt_that_began_in_what_is_the_future_now_has_its_timeout_and_no_more() -> None:
    granted_at = EPOCH_AT + 3 * HOUR_US
    job = stored_job(1, State.RUNNING, attempt=1, timeout_us=60_000_000)
    shard = ShardDriver(leased=[LeasedJob(job, "w1", "runner", granted_at)])
    lease = shard.core._state.leases.of_job(job.job_id)
    assert lease is not None
    assert lease.timeout_s == shard.mono + 60.0
