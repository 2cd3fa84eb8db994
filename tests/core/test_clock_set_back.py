"""A shard whose wall clock is set back by hours: what waits for a time that passes waits no longer
than about that, and what waits for an instant of the users' clocks is another matter."""

from jobengine.domain.failure import Failure
from jobengine.domain.job import State
from jobengine.domain.records import LeasedJob
from jobengine.messages.shard_commands import DueLoaded, LoadDelayed, LoadExpiring, RankedLoaded
from jobengine.messages.worker_reports import Beat, Failed
from tests.core.shard_driver import EPOCH_AT, ShardDriver, new_job, stored_job

HOUR_US = 3_600_000_000
FAILURE = Failure(class_="Broken", message="no", retryable=True)


def going() -> ShardDriver:
    """A shard with one worker, whose store holds nothing."""
    shard = ShardDriver()
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    shard.attach()
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
