"""Runs come to be whole, once under their token, and their planner hears of them first."""

from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode
from jobengine.domain.job import State
from jobengine.domain.run import RunState
from jobengine.domain.run_part import decode_part
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.messages.run_facts import ParentNode, RunStarted
from jobengine.messages.runs import RunCreated, ShardBegun
from jobengine.messages.shard_commands import Commit, LoadSubjects
from tests.core.run_shard import RUN, RunShard, node_job, plan_of
from tests.core.shard_driver import UNREAD, new_job, read_failed
from tests.core.test_admission import OSV

CLAIM = IdempotencyClaim("k1", "/runs", "digest")


def test_a_run_is_created_with_its_part_and_its_pending_jobs_in_one_commit() -> None:
    shard = RunShard()
    created = shard.create(node_job("a"), node_job("b", "a"))
    (commit,) = shard.all(Commit)
    assert isinstance(created, RunCreated)
    assert (created.run, created.existing) == (
        plan_of(node_job("a"), node_job("b", "a")).record,
        False,
    )
    assert shard.states() == {"a": State.PENDING, "b": State.PENDING}
    assert shard.run.state is RunState.PENDING
    assert [entry.kind for entry in commit.changes.entries] == ["run.created"] + ["job.created"] * 2
    (part,) = shard.tables.planned.parts["acme", RUN]
    assert [node.key for node in decode_part(part).nodes] == ["a", "b"]
    assert shard.core.backlog == 2


def test_the_entry_of_a_run_says_what_it_is() -> None:
    shard = RunShard()
    shard.create(node_job("a"), node_job("b", "a"), dag_id="nightly", dag_version=3)
    assert shard.entries[0]["data"] == {
        "dagId": "nightly",
        "dagVersion": 3,
        "edges": 1,
        "inputsHash": "in",
        "nodes": 2,
        "runId": RUN,
        "runToken": "nightly",
    }


def test_the_planner_hears_of_a_run_after_its_commit_and_before_who_asked() -> None:
    shard = RunShard()
    plan = plan_of(node_job("a"), fail_fast=True, parent_run="r0", parent_key="inner")
    shard.create(plan=plan)
    kinds = [type(command) for command in shard.commands]
    assert kinds.index(Commit) < kinds.index(RunStarted) < kinds.index(Answer)
    assert shard.last(RunStarted) == RunStarted(
        tenant_id="acme",
        run_id=RUN,
        run_token="nightly",
        created_at=plan.record.created_at,
        nodes=plan.nodes,
        fail_fast=True,
        parent=ParentNode("r0", "inner"),
    )


def test_a_run_of_the_same_token_and_inputs_is_the_answer() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    shard = shard.restarted()
    again = shard.create(node_job("a"))
    assert (again.run, again.existing) == (shard.run, True)
    assert not shard.all(Commit)
    assert not shard.all(RunStarted)


def test_a_token_that_names_a_run_of_other_inputs_is_refused() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    refusal = shard.create(node_job("a"), inputs_hash="other")
    assert refusal.code is ErrorCode.IDEMPOTENCY_MISMATCH
    assert refusal.details["path"] == "runToken"


def test_two_requests_of_one_token_at_once_create_one_run() -> None:
    shard = RunShard()
    shard.create(node_job("a"), settle=False)
    shard.create(node_job("a"), settle=False)
    shard.settle()
    first, second = shard.answers()
    assert (first.existing, second.existing) == (False, True)
    assert len(shard.all(RunStarted)) == 1


def test_a_repeat_under_an_idempotency_key_has_the_stored_answer_and_the_run_as_it_is() -> None:
    shard = RunShard()
    first = shard.create(node_job("a"), claim=CLAIM)
    shard.release("a")
    again = shard.create(node_job("a"), claim=CLAIM)
    assert again.replayed
    assert again.stored == first.stored == b'{"runId":"%s"}' % RUN.encode()
    assert again.run.state is RunState.RUNNING


def test_a_run_that_was_there_is_remembered_under_another_idempotency_key() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    found = shard.create(node_job("a"), claim=CLAIM)
    again = shard.create(node_job("a"), claim=CLAIM)
    assert (found.existing, again.stored) == (True, found.stored)


def test_an_idempotency_key_of_another_body_is_refused() -> None:
    shard = RunShard()
    shard.create(node_job("a"), claim=CLAIM)
    refusal = shard.create(node_job("a"), claim=IdempotencyClaim("k1", "/runs", "other"))
    assert refusal.code is ErrorCode.IDEMPOTENCY_MISMATCH


def test_a_run_whose_jobs_have_no_room_to_wait_is_refused_whole() -> None:
    shard = RunShard(tenant_backlog_jobs_max=2)
    shard.submit(new_job(1, hold=True))
    shard.settle()
    refusal = shard.create(node_job("a"), node_job("b"))
    assert refusal.code is ErrorCode.BACKLOG_FULL
    assert refusal.details == {"backlog": 1, "backlogMax": 2, "jobs": 2, "retryAfterSeconds": 5}
    assert shard.states() == {}


def test_a_run_whose_jobs_would_open_more_lanes_than_may_be_is_refused_whole() -> None:
    shard = RunShard(tenant_lanes_max=1)
    refusal = shard.create(node_job("a"), node_job("b", source_id="osv"))
    assert refusal.code is ErrorCode.CAPACITY_EXCEEDED
    assert shard.states() == {}


def test_while_the_store_is_away_a_run_is_refused_and_its_token_is_free_again() -> None:
    shard = RunShard()
    shard.create(node_job("a"), settle=False)
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers()[-1] == UNREAD
    assert isinstance(shard.create(node_job("a")), RunCreated)


def test_a_large_run_is_made_in_slices_and_still_is_one_commit() -> None:
    shard = RunShard(slice_jobs=8)
    shard.create(*(node_job(f"n{number}") for number in range(30)), settle=False)
    first = shard.core.handle(shard.subjects(shard.last(LoadSubjects)), shard.now)
    assert not any(isinstance(command, Commit) for command in first)
    assert shard.core.wakeup_at == shard.mono
    shard.wait(0)
    assert len(shard.states()) == 30
    assert len(shard.all(Commit)) == 1


def test_a_run_with_a_job_that_could_never_have_its_tokens_is_refused_naming_the_node() -> None:
    shard = RunShard()
    shard.control("source", "osv", OSV)
    refusal = shard.create(node_job("a"), node_job("b", source_id="osv", cost=4))
    assert refusal.code is ErrorCode.INVALID_FIELD
    assert refusal.details["key"] == "b"
    assert shard.states() == {}


def test_each_life_of_a_shard_says_to_the_planner_that_it_has_begun() -> None:
    shard = RunShard()
    shard.create(node_job("a"))
    assert len(shard.all(ShardBegun)) == 1
    assert len(shard.restarted().all(ShardBegun)) == 1
