"""What a shard answers when the store does not serve a read: the reason, to whoever waits, and
nothing changes."""

from typing import Any

import pytest

from jobengine.messages.admission import ChangeControl, Explain
from jobengine.messages.lease_shard import Actor, CancelJob, IdempotencyClaim
from jobengine.messages.session import Nacked
from jobengine.messages.shard_commands import (
    Commit,
    DueLoaded,
    LoadDelayed,
    LoadExpiring,
    LoadSubjects,
    RankedLoaded,
)
from jobengine.messages.worker_reports import Completed
from tests.core.shard_driver import UNREAD, ShardDriver, job_id, new_job, read_failed

CLAIM = IdempotencyClaim("key", "POST /jobs", "digest")


def quiet_shard() -> ShardDriver:
    """The store holds no delayed and no expiring job."""
    shard = ShardDriver()
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    return shard


def require_unchanged(shard: ShardDriver, commits: int) -> None:
    shard.settle()
    assert len(shard.all(Commit)) == commits


def test_an_operation_on_a_job_is_told_why() -> None:
    shard = quiet_shard()
    shard.send(CancelJob(ask_id=1, tenant_id="acme", job_id=job_id(1), actor=Actor("op")))
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers() == [UNREAD]
    require_unchanged(shard, 0)


def test_a_submit_is_told_why() -> None:
    shard = quiet_shard()
    shard.submit(new_job(1), claim=CLAIM)
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers() == [UNREAD]
    require_unchanged(shard, 0)


def test_whoever_asks_what_keeps_a_job_is_told_why() -> None:
    shard = quiet_shard()
    shard.send(Explain(ask_id=1, tenant_id="acme", job_ids=[job_id(1)]))
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers() == [UNREAD]


def test_a_change_of_a_control_is_told_why_and_its_key_is_free_again() -> None:
    shard = quiet_shard()
    for tries in (1, 2):
        shard.send(
            ChangeControl(
                ask_id=tries,
                tenant_id="acme",
                actor=Actor("operator"),
                event="pause.removed",
                kind="pause",
                name="tenant",
                control=None,
                claim=CLAIM,
            )
        )
        assert len(shard.all(LoadSubjects)) == tries
        shard.send(read_failed(shard.last(LoadSubjects)))
        assert shard.answers() == [UNREAD] * tries
    require_unchanged(shard, 0)


@pytest.mark.parametrize("follow_ups", [(), (new_job(2, unique_key="k"),)])
def test_a_report_is_refused_with_the_reason_and_can_be_repeated(follow_ups: Any) -> None:
    """Of a lease that is not known (any more), and of one whose follow-ups have keys."""
    shard = quiet_shard()
    shard.attach(1)
    shard.submit(new_job(1))
    shard.settle()
    [grant] = shard.grants()
    commits = len(shard.all(Commit))
    token = grant.token if follow_ups else grant.token + 1
    done = Completed(
        ref="c", lease_id=grant.lease_id, token=token, result=b"1", follow_ups=follow_ups
    )
    for tries in (1, 2):
        shard.report(done)
        assert len(shard.all(LoadSubjects)) == tries
        shard.send(read_failed(shard.last(LoadSubjects)))
        assert [settled.nacks for settled in shard.settled(1)] == [[Nacked("c", UNREAD)]] * tries
    require_unchanged(shard, commits)
