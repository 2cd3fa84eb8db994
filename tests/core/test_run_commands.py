"""What a planner commands of a run's jobs: each in one commit, each repeatable, none lost."""

from typing import Any

import pytest

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.instant import SECOND
from jobengine.domain.job import Reason, State
from jobengine.domain.node import NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.run_part import decode_part
from jobengine.messages.lease_shard import CancelJob, PrioritizeJob
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FinishRun,
    GrowRun,
    NewNode,
    NodeEnd,
    OpenNode,
    OpenNodes,
)
from jobengine.messages.runs import FilledIn
from jobengine.messages.session import StopLease, Tell
from jobengine.messages.shard_commands import Commit, LoadSubjects
from jobengine.messages.worker_reports import Progressed
from tests.core.run_shard import (
    OPERATOR,
    ROLLED,
    RUN,
    RunShard,
    job_of,
    node_job,
    node_of,
)
from tests.core.shard_driver import UNREAD, read_failed
from tests.core.test_admission import OSV


def created(*jobs: Any, **limits: Any) -> RunShard:
    shard = RunShard(**limits)
    shard.create(*(jobs or (node_job("a"), node_job("b", "a"))))
    return shard


def commits_since(shard: RunShard, before: int) -> list[Commit]:
    return shard.all(Commit)[before:]


# ---- release


def test_a_released_job_waits_for_a_worker_and_the_run_begins_in_the_same_commit() -> None:
    shard = created()
    before = len(shard.all(Commit))
    assert shard.release("a") is None
    (commit,) = commits_since(shard, before)
    assert [entry.kind for entry in commit.changes.entries] == ["run.started", "job.scheduled"]
    assert shard.states() == {"a": State.SCHEDULED, "b": State.PENDING}
    assert shard.run.state is RunState.RUNNING
    assert shard.run.started_at == shard.now.at
    shard.attach()
    shard.settle()
    assert shard.node("a").state is State.RUNNING


def test_a_released_job_is_leased_in_the_same_commit_where_a_session_has_a_slot() -> None:
    shard = created()
    shard.attach(slots=1)
    before = len(shard.all(Commit))
    shard.release("a", "b")
    first = commits_since(shard, before)[0]
    kinds = [entry.kind for entry in first.changes.entries]
    assert kinds == ["run.started", "job.scheduled", "job.started", "job.scheduled"]
    assert shard.states() == {"a": State.RUNNING, "b": State.SCHEDULED}
    assert [grant.job.job_id for grant in shard.grants()] == [job_of("a")]
    shard.complete("a")
    assert shard.node("a").state is State.COMPLETED


def test_of_jobs_released_together_the_first_in_rank_has_the_slot() -> None:
    shard = created(node_job("a"), node_job("b", priority=9))
    shard.attach(slots=1)
    shard.release("a", "b")
    assert shard.states() == {"a": State.SCHEDULED, "b": State.RUNNING}


def test_a_released_job_whose_source_has_no_tokens_waits_for_them() -> None:
    shard = created(*(node_job(f"n{number}", source_id="osv") for number in range(5)))
    shard.control("source", "osv", OSV)
    shard.attach()
    shard.release(*(f"n{number}" for number in range(5)))
    running = [state for state in shard.states().values() if state is State.RUNNING]
    assert len(running) == 3


def test_a_released_job_that_is_not_due_waits_for_its_time() -> None:
    shard = RunShard()
    due_at = shard.now.at + 5 * SECOND
    shard.create(node_job("a", not_before=due_at))
    shard.attach()
    shard.release("a")
    assert shard.node("a").state is State.SCHEDULED
    shard.wait(6)
    assert shard.node("a").state is State.RUNNING


def test_a_job_that_expired_before_its_release_is_not_started() -> None:
    shard = RunShard()
    shard.create(node_job("a", expires_at=shard.now.at + SECOND))
    shard.attach()
    shard.mono += 1
    shard.release("a")
    shard.wait(0)
    assert shard.node("a").state is State.CANCELLED
    assert shard.node("a").reason == Reason.EXPIRED
    assert not shard.grants()


def test_a_template_is_filled_in_with_the_commit_that_releases_its_job() -> None:
    shard = created(node_job("a", payload=b'{"of":"${x}"}', templated=True))
    payload = b'{"of":"y"}'
    shard.release("a", filled_in={job_of("a"): FilledIn(payload=payload, digest=digest(payload))})
    job = shard.node("a")
    assert job.payload == payload
    assert (job.definition.payload_digest, job.definition.templated) == (digest(payload), False)
    assert shard.entries[-1]["about"]["payloadDigest"] == digest(payload)
    shard.attach()
    shard.settle()
    assert shard.grants()[0].job.payload == payload


def test_a_template_that_is_leased_at_once_is_filled_in_as_well() -> None:
    shard = created(node_job("a", payload=b'{"of":"${x}"}', templated=True))
    shard.attach()
    payload = b'{"of":"y"}'
    shard.release("a", filled_in={job_of("a"): FilledIn(payload=payload, digest=digest(payload))})
    assert shard.grants()[0].job.payload == payload
    assert shard.node("a").payload == payload
    assert b"templated" not in shard.node("a").definition_json


def test_a_template_that_is_not_filled_in_is_not_released() -> None:
    shard = created(node_job("a"), node_job("b", templated=True))
    refusal = shard.release("a", "b")
    assert refusal.code is ErrorCode.TEMPLATE_INVALID
    assert shard.states() == {"a": State.PENDING, "b": State.PENDING}
    assert shard.run.state is RunState.PENDING


def test_a_repeated_release_changes_nothing_and_is_answered() -> None:
    shard = created()
    shard.release("a")
    before = len(shard.all(Commit))
    assert shard.release("a") is None
    assert not commits_since(shard, before)
    assert shard.kinds().count("run.started") == 1


def test_a_repeat_is_not_answered_before_the_first_is_committed() -> None:
    shard = created()
    answered = len(shard.answers())
    shard.release("a", settle=False)
    shard.send(shard.subjects(shard.last(LoadSubjects)))
    shard.release("a", settle=False)
    assert len(shard.answers()) == answered
    shard.settle()
    assert shard.answers()[answered:] == [None, None]


def test_two_releases_at_once_begin_the_run_once() -> None:
    shard = created(node_job("a"), node_job("b"))
    shard.release("a", settle=False)
    shard.release("b", settle=False)
    shard.settle()
    assert shard.kinds().count("run.started") == 1
    assert set(shard.states().values()) == {State.SCHEDULED}


def test_jobs_that_nobody_held_since_their_creation_are_released_without_a_read() -> None:
    shard = created(node_job("a"), node_job("b"), node_job("c"))
    before = len(shard.all(LoadSubjects))
    assert shard.release("a") is None
    assert len(shard.all(LoadSubjects)) == before
    named: dict[str, Any] = {"tenant_id": "acme", "actor": OPERATOR, "job_id": job_of("b")}
    shard.send(PrioritizeJob(ask_id=901, priority=9, **named))
    shard.send(PrioritizeJob(ask_id=902, priority=9, **named))
    shard.settle()
    assert shard.release("b", "c") is None
    assert shard.all(LoadSubjects)[-1].job_ids == [job_of("b")]
    assert shard.node("b").definition.priority == 9
    assert set(shard.states().values()) == {State.SCHEDULED}


def test_jobs_beyond_what_is_kept_of_them_are_read_to_be_released() -> None:
    shard = created(node_job("a"), node_job("b"), fresh_bytes_max=2_000)
    assert shard.release("a", "b") is None
    assert shard.all(LoadSubjects)[-1].job_ids == [job_of("a")]
    assert set(shard.states().values()) == {State.SCHEDULED}


def test_a_run_that_began_before_a_restart_is_not_begun_again() -> None:
    shard = created(node_job("a"), node_job("b"))
    shard.release("a")
    shard = shard.restarted()
    assert shard.release("b") is None
    assert "run.started" not in shard.kinds()
    assert shard.node("b").state is State.SCHEDULED


def test_many_jobs_are_released_in_slices_and_one_commit() -> None:
    keys = [f"n{number}" for number in range(30)]
    shard = created(*(node_job(key) for key in keys), slice_jobs=8)
    shard.attach(slots=3)
    before = len(shard.all(Commit))
    shard.release(*keys)
    first = commits_since(shard, before)[0]
    assert len(first.changes.rows) == 30
    assert sum(state is State.RUNNING for state in shard.states().values()) == 3


# ---- nodes without a worker


def test_an_opened_node_stays_pending_and_is_recorded_once() -> None:
    shard = created(node_job("gate", kind=NodeKind.APPROVAL))
    node = OpenNode("gate", job_of("gate"), NodeKind.APPROVAL)
    assert shard.command(OpenNodes, nodes=[node], begins=True) is None
    assert shard.node("gate").state is State.PENDING
    assert shard.node("gate").scheduled_at == shard.now.at
    assert shard.run.state is RunState.RUNNING
    shard.command(OpenNodes, nodes=[node], begins=False)
    assert shard.kinds()[2:] == ["run.started", "run.node_opened"]


def test_a_node_without_a_worker_ends_in_one_commit_without_a_lease() -> None:
    shard = created(node_job("gate", kind=NodeKind.APPROVAL))
    shard.attach(job_types=frozenset({"scan", "orch.approval"}))
    node = OpenNode("gate", job_of("gate"), NodeKind.APPROVAL)
    shard.command(OpenNodes, nodes=[node], begins=True)
    before = len(shard.entries)
    shard.mono += 60
    end = NodeEnd("gate", job_of("gate"), State.COMPLETED, b'{"by":"me"}', actor=OPERATOR)
    assert shard.command(EndNodes, ends=[end]) is None
    job = shard.node("gate")
    assert (job.state, job.attempt, job.result) == (State.COMPLETED, 1, b'{"by":"me"}')
    entries = shard.entries[before:]
    assert [entry["kind"] for entry in entries] == ["job.scheduled", "job.started", "job.completed"]
    assert {entry["actor"] for entry in entries} == {"operator"}
    assert {entry["ticket"] for entry in entries} == {"T-1"}
    assert not shard.grants()
    assert shard.core.leases == 0
    assert not shard.tables.leases
    assert shard.core.backlog == 0


def test_a_node_without_a_worker_fails_with_its_error_and_leaves_no_dead_letter() -> None:
    shard = created(node_job("gate", kind=NodeKind.POLICY))
    end = NodeEnd("gate", job_of("gate"), State.FAILED, error="denied", message="not on Fridays")
    shard.command(EndNodes, ends=[end])
    job = shard.node("gate")
    assert (job.state, job.reason, job.failures) == (State.FAILED, Reason.ERROR, 1)
    assert job.error == b'{"class":"denied","message":"not on Fridays","retryable":false}'
    assert not shard.tables.letters


def test_the_words_of_an_error_are_cut_and_hold_nothing_that_cannot_be_stored() -> None:
    shard = created(node_job("gate", kind=NodeKind.POLICY))
    message = "\0\ud800" + "x" * 200_000
    end = NodeEnd("gate", job_of("gate"), State.FAILED, error="no\0pe", message=message)
    shard.command(EndNodes, ends=[end])
    error = shard.node("gate").error
    assert error is not None
    assert len(error) < 10_000
    assert error.startswith('{"class":"no�pe","message":"��xxx'.encode())


def test_a_node_without_a_worker_can_end_as_cancelled() -> None:
    shard = created(node_job("sub", kind=NodeKind.SUB_RUN))
    shard.command(EndNodes, ends=[NodeEnd("sub", job_of("sub"), State.CANCELLED)])
    assert shard.node("sub").state is State.CANCELLED
    assert shard.node("sub").attempt == 0


def test_a_node_that_has_ended_is_not_ended_again() -> None:
    shard = created(node_job("gate", kind=NodeKind.APPROVAL))
    end = NodeEnd("gate", job_of("gate"), State.COMPLETED)
    shard.command(EndNodes, ends=[end])
    before = len(shard.all(Commit))
    assert shard.command(EndNodes, ends=[end._replace(state=State.FAILED)]) is None
    assert not commits_since(shard, before)
    assert shard.node("gate").state is State.COMPLETED


# ---- cancel


def cancel(
    shard: RunShard, *keys: str, reason: Reason = Reason.RUN_CANCELLED, **fields: Any
) -> Any:
    job_ids = [job_of(key) for key in keys]
    return shard.command(CancelJobs, job_ids=job_ids, reason=reason, **fields)


def test_jobs_that_wait_are_cancelled_and_running_ones_are_asked_to_stop() -> None:
    shard = created(node_job("a"), node_job("b"), node_job("c"), node_job("d"))
    shard.attach(slots=2)
    shard.release("a", "b")
    shard.complete("a")
    shard.release("c")
    assert cancel(shard, "a", "b", "c", "d") is None
    assert shard.states() == {
        "a": State.COMPLETED,
        "b": State.RUNNING,
        "c": State.CANCELLED,
        "d": State.CANCELLED,
    }
    stops = [tell.message for tell in shard.all(Tell) if isinstance(tell.message, StopLease)]
    assert [stop.reason for stop in stops] == ["run_cancelled"]
    shard.wait(31)
    assert shard.node("b").state is State.CANCELLED


def test_a_cancelled_job_is_not_granted_any_more() -> None:
    shard = created(node_job("a"))
    shard.release("a")
    cancel(shard, "a")
    shard.attach()
    shard.settle()
    assert not shard.grants()


def test_a_running_job_is_asked_to_stop_once() -> None:
    shard = created(node_job("a"))
    shard.attach()
    shard.release("a")
    cancel(shard, "a")
    before = len(shard.all(Commit))
    assert cancel(shard, "a") is None
    assert not commits_since(shard, before)


def test_a_job_that_was_released_after_all_is_not_skipped() -> None:
    shard = created(node_job("a"))
    shard.release("a")
    assert cancel(shard, "a", reason=Reason.SKIPPED) is None
    assert shard.node("a").state is State.SCHEDULED


# ---- busy jobs


def test_a_command_waits_for_a_report_that_is_being_settled() -> None:
    shard = created(node_job("a"), node_job("b"))
    shard.attach(slots=1)
    shard.release("a")
    (grant,) = shard.grants()
    shard.report(Progressed(ref="p", lease_id=grant.lease_id, token=1, note=b'"half"'))
    reads = len(shard.all(LoadSubjects))
    cancel(shard, "a", "b", settle=False)
    assert len(shard.all(LoadSubjects)) == reads
    assert shard.settled_answer() is None
    assert shard.node("b").state is State.CANCELLED
    assert shard.node("a").cancel_requested_at is not None


def test_a_command_waits_for_an_operation_and_the_operation_for_a_command() -> None:
    shard = created(node_job("a"), node_job("b"))
    shard.release("a", "b")
    named: dict[str, Any] = {"tenant_id": "acme", "actor": OPERATOR}
    first, second = sorted([job_of("a"), job_of("b")])
    shard.send(PrioritizeJob(ask_id=901, job_id=second, priority=9, **named))
    cancel(shard, "a", "b", settle=False)
    shard.send(CancelJob(ask_id=902, job_id=first, **named))
    shard.settle()
    assert set(shard.states().values()) == {State.CANCELLED}
    (refusal,) = [answer for answer in shard.answers() if isinstance(answer, Refusal)]
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION


def test_commands_about_the_same_jobs_in_any_order_do_not_wait_for_each_other_for_ever() -> None:
    shard = created(node_job("a"), node_job("b"), node_job("c"))
    shard.release("a", "b", "c", settle=False)
    cancel(shard, "c", "a", settle=False)
    shard.release("b", "c", settle=False)
    cancel(shard, "b", "c", settle=False)
    shard.settle()
    assert set(shard.states().values()) == {State.CANCELLED}
    assert len(shard.answers()) == 5


def test_a_command_that_waits_halfway_does_not_meet_one_that_waits_for_it() -> None:
    shard = created(node_job("a"), node_job("b"), node_job("c"))
    shard.release("a", "b", "c")
    low, middle, high = sorted(shard.node(key).job_id for key in "abc")
    named: dict[str, Any] = {"tenant_id": "acme", "actor": OPERATOR}
    shard.send(PrioritizeJob(ask_id=901, job_id=middle, priority=9, **named))
    answered = len(shard.answers())
    for job_ids in ([low, middle, high], [high, low]):
        reason = Reason.RUN_CANCELLED
        shard.command(CancelJobs, job_ids=job_ids, reason=reason, settle=False)
    shard.settle()
    assert set(shard.states().values()) == {State.CANCELLED}
    assert len(shard.answers()) == answered + 3


def test_a_job_in_a_lane_that_a_command_leaves_alone_is_granted_afterwards() -> None:
    shard = created(node_job("a"), node_job("b"))
    shard.release("a")
    shard.release("a", settle=False)
    shard.attach(slots=1)
    assert not shard.grants()
    shard.settle()
    assert shard.node("a").state is State.RUNNING


def test_while_the_store_is_away_a_command_is_refused_and_lets_go_of_run_and_jobs() -> None:
    shard = created().restarted()
    shard.release("a", settle=False)
    shard.send(read_failed(shard.last(LoadSubjects)))
    assert shard.answers()[-1] == UNREAD
    assert shard.release("a") is None
    assert shard.node("a").state is State.SCHEDULED


# ---- the run itself


def growth(*jobs: Any, edges: Any = (), opened: NodeEnd | None = None) -> dict[str, Any]:
    nodes = [NewNode(node_of(new), new.job_id) for new in jobs]
    return {
        "nodes": nodes,
        "edges": edges,
        "body": b"",
        "actor": OPERATOR,
        "opened": opened,
        "jobs": jobs,
    }


def test_a_run_grows_by_pending_jobs_and_a_part_in_one_commit() -> None:
    shard = created()
    new = node_job("c", "a")
    before = len(shard.all(Commit))
    assert shard.command(GrowRun, **growth(new, edges=[Edge("c", "b")])) is None
    (commit,) = commits_since(shard, before)
    assert [entry.kind for entry in commit.changes.entries] == ["run.grown", "job.created"]
    assert commit.changes.entries[0].actor == "operator"
    assert shard.states()["c"] is State.PENDING
    assert shard.run.nodes == 3
    part = decode_part(shard.tables.planned.parts["acme", RUN][1])
    assert ([node.key for node in part.nodes], part.edges) == (["c"], (Edge("c", "b"),))


def test_a_map_node_completes_with_the_commit_of_its_instances() -> None:
    shard = created(node_job("pages", kind=NodeKind.MAP), node_job("pages[]", kind=NodeKind.JOIN))
    opened = NodeEnd("pages", job_of("pages"), State.COMPLETED)
    before = len(shard.all(Commit))
    new = [node_job("pages[0]"), node_job("pages[1]")]
    shard.command(GrowRun, **growth(*new, opened=opened))
    assert len(commits_since(shard, before)) == 1
    assert shard.node("pages").state is State.COMPLETED
    assert [end.key for end in shard.ends()] == ["pages"]


def test_joins_of_a_growth_are_jobs_and_no_nodes_of_its_part() -> None:
    shard = created()
    new = [node_job("m", kind=NodeKind.MAP), node_job("m[]", kind=NodeKind.JOIN)]
    shard.command(GrowRun, **growth(*new))
    part = decode_part(shard.tables.planned.parts["acme", RUN][1])
    assert [node.key for node in part.nodes] == ["m"]
    assert shard.run.nodes == 4


def test_a_growth_that_is_commanded_again_is_answered_and_made_once() -> None:
    shard = created()
    shard.command(GrowRun, settle=False, **growth(node_job("c")))
    shard.command(GrowRun, settle=False, **growth(node_job("c")))
    shard.settle()
    assert shard.answers()[-2:] == [None, None]
    assert shard.run.nodes == 3


def test_growth_of_a_run_that_has_ended_is_refused() -> None:
    shard = created()
    finish(shard)
    for each in (shard, shard.restarted()):
        assert each.command(GrowRun, **growth(node_job("c"))).code is ErrorCode.RUN_ENDED


def test_growth_by_a_door_counts_against_the_backlog_and_that_of_a_map_node_does_not() -> None:
    shard = created(node_job("m", kind=NodeKind.MAP), tenant_backlog_jobs_max=1)
    refusal = shard.command(GrowRun, **growth(node_job("c")))
    assert refusal.code is ErrorCode.BACKLOG_FULL
    opened = NodeEnd("m", job_of("m"), State.COMPLETED)
    assert shard.command(GrowRun, **growth(node_job("c"), node_job("d"), opened=opened)) is None


def test_a_cancel_of_the_run_is_recorded_once_with_who_asked_and_why() -> None:
    shard = created()
    assert shard.command(CommitCancel, actor=OPERATOR) is None
    assert shard.command(CommitCancel, actor=OPERATOR) is None
    (entry,) = [entry for entry in shard.entries if entry["kind"] == "run.cancel_requested"]
    assert (entry["actor"], entry["reasonGiven"], entry["ticket"]) == ("operator", "because", "T-1")
    assert shard.run.cancel_requested_at == shard.now.at
    assert shard.run.state is RunState.PENDING


def finish(shard: RunShard, state: RunState = RunState.COMPLETED, **fields: Any) -> Any:
    named: dict[str, Any] = {"state": state, "rolled": ROLLED, "begins": True} | fields
    return shard.command(FinishRun, **named)


def test_a_run_ends_with_what_it_came_to() -> None:
    shard = created()
    shard.release("a")
    shard.mono += 5
    assert finish(shard, begins=False) is None
    run = shard.run
    assert (run.state, run.finished_at, run.rolled) == (RunState.COMPLETED, shard.now.at, ROLLED)
    assert shard.entries[-1]["kind"] == "run.completed"
    assert shard.entries[-1]["data"] == {
        "cancelled": 0,
        "completed": 1,
        "failed": 0,
        "outputsHash": ROLLED.outputs_hash,
        "runId": RUN,
    }


def test_a_run_that_ends_before_it_began_begins_first() -> None:
    shard = created()
    finish(shard, RunState.FAILED)
    assert shard.kinds()[-2:] == ["run.started", "run.failed"]
    assert shard.run.started_at == shard.run.finished_at


def test_a_run_that_ended_is_ended_again_by_a_repeat_and_by_nothing_else() -> None:
    shard = created()
    shard.command(FinishRun, state=RunState.COMPLETED, rolled=ROLLED, begins=True, settle=False)
    shard.command(FinishRun, state=RunState.COMPLETED, rolled=ROLLED, begins=True, settle=False)
    shard.settle()
    assert shard.answers()[-2:] == [None, None]
    assert shard.kinds().count("run.completed") == 1
    assert finish(shard, RunState.FAILED).code is ErrorCode.RUN_ENDED


def test_a_run_that_has_not_begun_cannot_be_completed() -> None:
    shard = created()
    refusal = finish(shard, begins=False)
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION
    assert finish(shard, RunState.CANCELLED, begins=False) is None


@pytest.mark.parametrize("kind", [CommitCancel, FinishRun, GrowRun])
def test_a_run_that_is_not_there_takes_no_change(kind: Any) -> None:
    fields: dict[Any, dict[str, Any]] = {
        CommitCancel: {"actor": OPERATOR},
        FinishRun: {"state": RunState.COMPLETED, "rolled": ROLLED, "begins": True},
        GrowRun: growth(node_job("c")),
    }
    assert RunShard().command(kind, **fields[kind]).code is ErrorCode.NOT_FOUND


def test_changes_of_a_runs_row_wait_for_each_other() -> None:
    shard = created()
    shard.release("a", settle=False)
    shard.command(CommitCancel, actor=OPERATOR, settle=False)
    shard.command(GrowRun, settle=False, **growth(node_job("c")))
    shard.send(shard.subjects(shard.last(LoadSubjects)))
    assert sum(bool(commit.changes.runs) for commit in shard.all(Commit)[1:]) == 1
    shard.settle()
    assert (shard.run.state, shard.run.nodes) == (RunState.RUNNING, 3)
    assert shard.run.cancel_requested_at is not None
