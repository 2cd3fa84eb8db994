"""What operators may do to jobs of runs, and why such a job waits."""

from typing import Any

import pytest

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.job import Reason, State
from jobengine.domain.node import NodeKind
from jobengine.messages.lease_shard import ReleaseJob, ReplayJob, RetryJob
from jobengine.messages.planner_commands import CancelJobs, EndNodes, NodeEnd, OpenNode, OpenNodes
from tests.core.run_shard import OPERATOR, RUN, RunShard, job_of, node_job
from tests.core.shard_driver import job_id, new_job

FATAL = Failure(class_="Fatal", message="no use", retryable=False)


def operate(shard: RunShard, kind: Any, key: str, **fields: Any) -> Any:
    shard.send(kind(ask_id=900, tenant_id="acme", job_id=job_of(key), actor=OPERATOR, **fields))
    return shard.settled_answer()


def failed(*jobs: Any) -> RunShard:
    """A run whose job ``a`` has failed for good."""
    shard = RunShard()
    shard.create(*jobs)
    shard.attach()
    shard.release("a")
    shard.fail("a", FATAL)
    return shard


def test_a_retry_of_a_runs_job_is_refused_and_names_what_to_do_instead() -> None:
    shard = failed(node_job("a"))
    refusal = operate(shard, RetryJob, "a")
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION
    assert f"/runs/{RUN}:retryFailed" in refusal.message
    assert shard.node("a").state is State.FAILED


def test_a_release_of_a_runs_job_is_refused_and_names_what_to_do_instead() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    refusal = operate(shard, ReleaseJob, "a")
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION
    assert f"/runs/{RUN}:approve" in refusal.message
    assert shard.node("a").state is State.PENDING


def test_a_replay_of_a_runs_job_is_a_job_of_no_run() -> None:
    shard = failed(node_job("a", "x", labels={"of": "it"}))
    answer = operate(shard, ReplayJob, "a", new_job_id=job_id(7))
    copy = answer.job.definition
    assert (copy.run_id, copy.node_key, copy.depends_on, copy.replay_of) == (
        None,
        None,
        (),
        job_of("a"),
    )
    assert copy.labels == {"of": "it"}
    assert shard.tables.jobs["acme", job_id(7)].state is not State.PENDING


def test_a_job_whose_payload_is_still_a_template_cannot_be_replayed() -> None:
    shard = RunShard()
    shard.create(node_job("a", templated=True))
    shard.command(CancelJobs, job_ids=[job_of("a")], reason=Reason.UPSTREAM_FAILED)
    refusal = operate(shard, ReplayJob, "a", new_job_id=job_id(7))
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION
    assert "template" in refusal.message
    assert ":replayFrom" in refusal.message


def test_a_node_without_a_worker_cannot_be_replayed_by_itself() -> None:
    shard = RunShard()
    shard.create(node_job("gate", kind=NodeKind.APPROVAL))
    shard.command(EndNodes, ends=[NodeEnd("gate", job_of("gate"), State.FAILED, error="no")])
    refusal = operate(shard, ReplayJob, "gate", new_job_id=job_id(7))
    assert isinstance(refusal, Refusal)
    assert ":replayFrom" in refusal.message


def test_a_job_that_waits_for_its_run_is_explained_by_its_dependencies() -> None:
    shard = RunShard()
    shard.create(node_job("a"), node_job("b", "a", "x"))
    (gate,) = shard.explanation(job_of("b")).gates
    assert (gate.gate, gate.key, gate.observed) == ("dependency", RUN, "2 dependencies")
    assert "a, x" in gate.message


def test_of_many_dependencies_some_are_named() -> None:
    shard = RunShard()
    shard.create(node_job("b", *(f"n{number}" for number in range(30))))
    (gate,) = shard.explanation(job_of("b")).gates
    assert "n19 …" in gate.message
    assert "n20" not in gate.message


@pytest.mark.parametrize(
    ("kind", "opened_by"),
    [
        (NodeKind.APPROVAL, "operator"),
        (NodeKind.CALLBACK, "signed URL"),
        (NodeKind.SUB_RUN, "that run"),
    ],
)
def test_an_open_node_without_a_worker_is_held_until_what_opens_it(
    kind: NodeKind, opened_by: str
) -> None:
    shard = RunShard()
    shard.create(node_job("gate", "a", kind=kind))
    (gate,) = shard.explanation(job_of("gate")).gates
    assert gate.gate == "dependency"
    shard.command(OpenNodes, nodes=[OpenNode("gate", job_of("gate"), kind)], begins=True)
    (gate,) = shard.explanation(job_of("gate")).gates
    assert (gate.gate, gate.key) == ("held", RUN)
    assert opened_by in (gate.opens_on or "")


def test_a_job_that_was_created_held_is_explained_as_before() -> None:
    shard = RunShard()
    shard.submit(new_job(1, hold=True))
    shard.settle()
    (gate,) = shard.explanation(job_id(1)).gates
    assert (gate.gate, gate.key) == ("held", "hold")
