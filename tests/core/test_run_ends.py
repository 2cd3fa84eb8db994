"""Ends of a run's jobs are told to its planner once, after their commit, and only for good."""

from typing import Any

from jobengine.core.machine import Answer
from jobengine.domain.canonical import digest
from jobengine.domain.failure import Failure
from jobengine.domain.instant import SECOND
from jobengine.domain.job import Reason, State
from jobengine.domain.node import NodeKind
from jobengine.messages.lease_shard import CancelJob
from jobengine.messages.planner_commands import CancelJobs, EndNodes, NodeEnd
from jobengine.messages.run_facts import JobEnd, JobsEnded
from jobengine.messages.shard_commands import Commit
from jobengine.messages.worker_reports import Completed, GivenBack
from tests.core.run_shard import OPERATOR, RUN, RunShard, job_of, node_job
from tests.core.shard_driver import new_job

BROKEN = Failure(class_="Broken", message="it broke", retryable=True)


def running(*jobs: Any) -> RunShard:
    """A run whose jobs all run."""
    shard = RunShard()
    shard.create(*jobs)
    shard.attach()
    shard.release(*(new.definition.node_key for new in jobs))
    return shard


def test_a_completed_job_is_told_with_the_digest_of_its_result() -> None:
    shard = running(node_job("a"))
    shard.complete("a", b'{"n":1}')
    assert shard.all(JobsEnded) == [
        JobsEnded(run_id=RUN, ends=[JobEnd("a", State.COMPLETED, digest(b'{"n":1}'))])
    ]


def test_a_null_is_no_result() -> None:
    shard = running(node_job("a"))
    shard.complete("a", b"null")
    assert shard.ends() == [JobEnd("a", State.COMPLETED)]


def test_nobody_is_told_of_an_end_before_its_commit() -> None:
    shard = running(node_job("a"))
    (grant,) = shard.grants()
    shard.report(Completed(ref="c", lease_id=grant.lease_id, token=1, result=b"null"))
    assert shard.open_commits()
    assert not shard.ends()
    shard.settle()
    assert len(shard.ends()) == 1


def test_a_failure_is_told_when_no_retry_follows() -> None:
    shard = running(node_job("a", max_retries=1))
    shard.fail("a", BROKEN)
    assert not shard.ends()
    shard.attach(2)
    shard.wait(5)
    shard.fail("a", BROKEN)
    assert shard.ends() == [JobEnd("a", State.FAILED, error="Broken")]


def test_a_job_that_completes_after_a_failure_has_no_error() -> None:
    shard = running(node_job("a"))
    shard.fail("a", BROKEN)
    shard.attach(2)
    shard.wait(5)
    shard.complete("a")
    assert shard.ends() == [JobEnd("a", State.COMPLETED)]


def test_a_job_that_is_given_back_has_not_ended() -> None:
    shard = running(node_job("a"))
    (grant,) = shard.grants()
    shard.report(GivenBack(ref="g", lease_id=grant.lease_id, token=1, delay_us=SECOND))
    shard.settle()
    assert not shard.ends()


def test_a_job_that_expires_is_told_as_cancelled() -> None:
    shard = RunShard()
    shard.create(node_job("a", expires_at=shard.now.at + SECOND))
    shard.wait(2)
    assert shard.node("a").reason == Reason.EXPIRED
    assert shard.ends() == [JobEnd("a", State.CANCELLED)]


def test_a_job_that_an_operator_cancels_is_told() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    shard.send(CancelJob(ask_id=900, tenant_id="acme", job_id=job_of("a"), actor=OPERATOR))
    shard.settle()
    assert shard.ends() == [JobEnd("a", State.CANCELLED)]


def test_a_skipped_job_is_told_as_skipped() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    shard.command(CancelJobs, job_ids=[job_of("a")], reason=Reason.SKIPPED)
    assert shard.ends() == [JobEnd("a", State.CANCELLED, skipped=True)]


def test_ends_of_one_commit_are_one_message_and_precede_the_answer() -> None:
    shard = RunShard()
    shard.create(*(node_job(key, kind=NodeKind.APPROVAL) for key in "abc"))
    ends = [NodeEnd(key, job_of(key), State.COMPLETED, b"7") for key in "ab"]
    failed = NodeEnd("c", job_of("c"), State.FAILED, error="rejected")
    shard.command(EndNodes, ends=[*ends, failed])
    (told,) = shard.all(JobsEnded)
    assert told.ends == [
        JobEnd("a", State.COMPLETED, digest(b"7")),
        JobEnd("b", State.COMPLETED, digest(b"7")),
        JobEnd("c", State.FAILED, error="rejected"),
    ]
    kinds = [type(command) for command in shard.commands]
    assert kinds.index(JobsEnded) < len(kinds) - 1 - kinds[::-1].index(Answer)
    assert kinds.index(JobsEnded) > len(kinds) - 1 - kinds[::-1].index(Commit)


def test_jobs_of_no_run_are_not_told_of() -> None:
    shard = RunShard()
    shard.attach()
    shard.submit(new_job(1), new_job(2, run_id="a-label"))
    shard.settle()
    for grant in shard.grants():
        shard.report(Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null"))
    shard.settle()
    assert not shard.all(JobsEnded)


def test_a_follow_up_of_a_runs_job_is_no_node_of_it() -> None:
    shard = running(node_job("a"))
    (grant,) = shard.grants()
    shard.report(
        Completed(
            ref="c", lease_id=grant.lease_id, token=1, result=b"null", follow_ups=[new_job(9)]
        )
    )
    shard.settle()
    assert [end.key for end in shard.ends()] == ["a"]
    assert shard.states() == {"a": State.COMPLETED}
