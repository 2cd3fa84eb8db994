"""An outcome that comes too late is refused, and frees its worker's slot all the same."""

from typing import Any

import pytest

from jobengine.domain.job import State
from jobengine.messages.shard_commands import (
    DueLoaded,
    LoadDelayed,
    LoadExpiring,
    LoadSubjects,
    RankedLoaded,
    SubjectsLoaded,
)
from jobengine.messages.worker_reports import Completed
from tests.core.shard_driver import ShardDriver, job_id, new_job, stored_job


def timed_out_lease(auto_credit: bool) -> tuple[ShardDriver, Any]:
    """A shard that ended the only lease of a worker with one slot."""
    shard = ShardDriver()
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    shard.attach(1, auto_credit=auto_credit, capacity=1, slots=1)
    shard.submit(new_job(1, timeout_us=2_000_000, max_retries=0))
    shard.settle()
    [grant] = shard.grants()
    shard.wait(3)
    shard.settle()
    assert shard.core.leases == 0
    shard.submit(new_job(2))
    shard.settle()
    assert shard.grants() == [grant]
    return shard, grant


@pytest.mark.parametrize("auto_credit", [True, False], ids=["auto credit", "credit by hand"])
def test_a_worker_whose_late_outcome_is_refused_is_granted_the_next_job(auto_credit: bool) -> None:
    shard, grant = timed_out_lease(auto_credit)
    shard.report(Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null"))
    failed = stored_job(1, State.FAILED, attempt=1)
    shard.send(SubjectsLoaded(stamp=shard.last(LoadSubjects).stamp, jobs={failed.job_id: failed}))
    shard.settle()
    [settled] = shard.settled(1)
    assert [nack.ref for nack in settled.nacks] == ["c"]
    granted = [each.job.job_id for each in shard.grants()]
    assert granted == ([job_id(1), job_id(2)] if auto_credit else [job_id(1)])
