"""The planner decides alone: the test is its store, its workers and its operators."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.dag_planner import DagPlanner
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.instant import Moment
from jobengine.domain.job import Reason, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import JobIds, RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.messages.dag_planner import (
    AdmitRun,
    ApproveGate,
    CancelRun,
    CompleteCallback,
    EndedRun,
    ExplainNode,
    ExtendRun,
    NodeAnswer,
    NodeExplanation,
    RejectGate,
    ReplayFrom,
    RetryFailed,
    RunAnswer,
    UnmetDependency,
)
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FindRuns,
    FinishRun,
    GrowRun,
    OpenNodes,
    Performed,
    ReadRun,
    Refused,
    ReleaseJobs,
    StartRerun,
    Unsettled,
)
from jobengine.messages.run_facts import (
    ExpandNode,
    JobEnd,
    JobsEnded,
    NodeDecided,
    NodeSkipped,
    ParentNode,
    RunGone,
    RunRef,
    RunsFound,
    RunStarted,
    RunsTold,
    SubRunEnded,
)
from jobengine.messages.runs import ShardBegun
from jobengine.messages.wake import Wake
from tests.core.run_world import AT, OPS, REFUSED, World, expected

DONE, FAILED, CANCELLED = State.COMPLETED, State.FAILED, State.CANCELLED
KINDS = [NodeKind.JOB] * 5 + [kind for kind in NodeKind if kind is not NodeKind.JOIN]
JOINS = [TriggerRule.ALL_SUCCEEDED, TriggerRule.ALL_DONE, TriggerRule.NONE_FAILED]


def nodes_of(**dependencies: str) -> list[Node]:
    return [Node(key=key, depends_on=tuple(of.split())) for key, of in dependencies.items()]


def asked(ask_id: int = 1, **fields: Any) -> dict[str, Any]:
    return {"ask_id": ask_id, "tenant_id": "demo", "run_id": "run-1", "actor": OPS, **fields}


# ---- against the reference


@st.composite
def workloads(draw: st.DrawFn) -> dict[str, Any]:
    """Any small graph of any kinds and rules, and how each of its jobs ends."""
    size = draw(st.integers(1, 9))
    plain = draw(st.booleans())
    nodes, counts = [], {}
    outcomes: dict[str, State] = {}
    for number in range(size):
        some = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        kind = NodeKind.JOB if plain else draw(st.sampled_from(KINDS))
        key = f"n{number}"
        nodes.append(
            Node(
                key=key,
                depends_on=tuple(f"n{each}" for each in sorted(some)),
                kind=kind,
                trigger=draw(st.sampled_from(TriggerRule)),
                join=draw(st.sampled_from(JOINS)),
                when=draw(st.sampled_from([None, None, "true", "false"])),
                reads=draw(st.sampled_from([None, ()])),
            )
        )
        keys = [key]
        if kind is NodeKind.MAP:
            counts[key] = draw(st.integers(0, 3))
            keys = [f"{key}[{place}]" for place in range(counts[key])]
        ends = ENDS if kind in (NodeKind.JOB, NodeKind.MAP, NodeKind.SUB_RUN) else [DONE, FAILED]
        outcomes.update({each: draw(st.sampled_from([DONE, *ends])) for each in keys})
    limits = {
        "batch_max": draw(st.sampled_from([1, 3, 500])),
        "flights_max": draw(st.integers(1, 4)),
    }
    templated = [node.key for node in nodes if node.reads is not None and node.when != "false"]
    broken = frozenset(draw(st.sets(st.sampled_from(templated)))) if templated else frozenset()
    return {"nodes": nodes, "outcomes": outcomes, "counts": counts, "broken": broken, **limits}


ENDS = [DONE, FAILED, CANCELLED]


@settings(max_examples=150, deadline=None)
@given(workloads(), st.integers(0, 2**32), st.integers(0, 4), st.integers(0, 3))
def test_any_run_comes_to_what_the_reference_says_whatever_is_lost(
    workload: dict[str, Any], seed: int, restarts: int, growths: int
) -> None:
    world = World(**workload, seed=seed)
    world.run_wildly(restarts=restarts, growths=growths)
    states, end = expected(world.nodes, world.edges, world.outcomes, world.broken)
    assert world.states == states
    assert world.state is end
    assert all(count == 1 for count in world.starts.values())
    assert world.planner.live_runs == 0
    rolled = world.finished.rolled  # type: ignore[union-attr]
    counted = Counter(states.values())
    assert (rolled.completed, rolled.failed) == (counted[DONE], counted[FAILED])


@settings(max_examples=100, deadline=None)
@given(workloads(), st.integers(0, 2**32), st.booleans())
def test_a_run_that_is_given_up_ends_and_starts_nothing_more(
    workload: dict[str, Any], seed: int, fail_fast: bool
) -> None:
    world = World(**workload, seed=seed, fail_fast=fail_fast)
    assert world.chance is not None
    for _ in range(world.chance.randrange(6)):
        if world.flying:
            world.settle()
        elif world.runnable():
            world.work(world.runnable()[0])
        while world.told:
            world.tell(world.told.popleft())
    if not fail_fast and world.finished is None:
        world.told.append(CancelRun(**asked(7)))
    world.run_wildly(restarts=3)
    assert all(state in ENDS for state in world.states.values())
    assert all(count == 1 for count in world.starts.values())
    if world.cancel_requested:
        assert world.state is RunState.CANCELLED
    elif FAILED in world.states.values():
        assert world.state is RunState.FAILED


@settings(max_examples=100, deadline=None)
@given(workloads(), st.integers(0, 2**32), st.integers(0, 60))
def test_a_planner_that_is_rebuilt_at_any_quiet_moment_stands_where_the_old_one_stood(
    workload: dict[str, Any], seed: int, steps: int
) -> None:
    world = World(**workload, seed=seed)
    assert world.chance is not None
    for _ in range(steps):
        if world.runnable():
            world.work(world.chance.choice(world.runnable()))
        while world.told or world.flying:
            if world.told:
                world.tell(world.told.popleft())
            else:
                world.settle(world.chance.randrange(len(world.flying)))
        if world.finished is not None:
            return
        old = world.planner._state.runs["run-1"]
        fresh = DagPlanner(world.limits, 99)
        said = fresh.handle(world.record(), Moment(0.0, AT))
        new = fresh._state.runs["run-1"]
        assert new.phases == old.phases
        assert new.counts.left == old.counts.left
        assert new.counts.seen == old.counts.seen
        assert (new.unended, new.begun) == (old.unended, old.begun)
        # Nothing is commanded again but openings, which ask the outside anew.
        assert all(isinstance(command, OpenNodes) for command in said)


@settings(max_examples=60, deadline=None)
@given(workloads(), st.integers(0, 2**32))
def test_without_faults_each_job_is_commanded_once(workload: dict[str, Any], seed: int) -> None:
    world = World(**workload, seed=seed)
    world.drain()
    commanded: Counter[str] = Counter()
    decided = {world.ids.of(key) for key in world.skipped | world.broken}
    for command in world.given:
        if isinstance(command, ReleaseJobs):
            commanded.update(set(command.job_ids) - decided)
        elif isinstance(command, OpenNodes):
            commanded.update({node.job_id for node in command.nodes} - decided)
        elif isinstance(command, CancelJobs):
            commanded.update(command.job_ids)
    assert set(commanded.values()) <= {1}
    assert world.finished is not None


# ---- shapes of published workflows


def chain(prefix: str, length: int, after: Sequence[str] = ()) -> list[Node]:
    nodes = []
    for place in range(length):
        before = (f"{prefix}.{place - 1}",) if place else tuple(after)
        nodes.append(Node(key=f"{prefix}.{place}", depends_on=before))
    return nodes


def montage(width: int) -> list[Node]:
    """mProject → mDiffFit of neighbours → mConcatFit → mBgModel → mBackground → mImgtbl → mAdd →
    mViewer (Berriman et al., 2004)."""
    many = range(width)
    nodes = [Node(key=f"mProject.{n}") for n in many]
    nodes += [
        Node(key=f"mDiffFit.{n}", depends_on=(f"mProject.{n}", f"mProject.{n + 1}"))
        for n in many[:-1]
    ]
    nodes.append(Node(key="mConcatFit", depends_on=tuple(f"mDiffFit.{n}" for n in many[:-1])))
    nodes.append(Node(key="mBgModel", depends_on=("mConcatFit",)))
    nodes += [Node(key=f"mBackground.{n}", depends_on=("mBgModel", f"mProject.{n}")) for n in many]
    nodes.append(Node(key="mImgtbl", depends_on=tuple(f"mBackground.{n}" for n in many)))
    return [*nodes, *chain("mAdd", 2, ["mImgtbl"])]


def epigenomics(width: int) -> list[Node]:
    """fastqSplit → (filterContams → sol2sanger → fastq2bfq → map) each → mapMerge → maqIndex →
    pileup (Juve et al., 2013)."""
    nodes = [Node(key="split")]
    for lane in range(width):
        nodes += chain(f"lane{lane}", 4, ["split"])
    merge = Node(key="mapMerge", depends_on=tuple(f"lane{lane}.3" for lane in range(width)))
    return [*nodes, merge, *chain("maq", 2, ["mapMerge"])]


def cybershake(width: int) -> list[Node]:
    """Two ExtractSGT, each with many SeismogramSynthesis → PeakValCalc; all into ZipSeis and ZipPSA
    (Juve et al., 2013)."""
    nodes = nodes_of(extract0="", extract1="")
    for n in range(width):
        nodes.append(Node(key=f"seis.{n}", depends_on=(f"extract{n % 2}",)))
        nodes.append(Node(key=f"peak.{n}", depends_on=(f"seis.{n}",)))
    nodes.append(Node(key="zipSeis", depends_on=tuple(f"seis.{n}" for n in range(width))))
    nodes.append(Node(key="zipPSA", depends_on=tuple(f"peak.{n}" for n in range(width))))
    return nodes


def cycles(width: int) -> list[Node]:
    """baseline → cycles → fertilizer increase → output parsers, per crop; summaries at the end (da
    Silva et al., 2019)."""
    nodes = []
    for n in range(width):
        nodes += nodes_of(**{
            f"baseline.{n}": "",
            f"cycles.{n}": f"baseline.{n}",
            f"increase.{n}": f"baseline.{n}",
            f"increased.{n}": f"increase.{n} cycles.{n}",
            f"parse.{n}": f"cycles.{n} increased.{n}",
        })  # fmt: skip
    every = tuple(f"parse.{n}" for n in range(width))
    return [*nodes, Node(key="summary", depends_on=every), *chain("plots", 1, ["summary"])]


def genome(width: int) -> list[Node]:
    """1000Genome: individuals per chromosome → merge; sifting; then mutation overlap and frequency
    for every population (da Silva et al., 2019)."""
    nodes = [Node(key=f"individuals.{n}") for n in range(width)]
    nodes.append(Node(key="merge", depends_on=tuple(f"individuals.{n}" for n in range(width))))
    nodes.append(Node(key="sifting"))
    for n in range(width):
        nodes.append(Node(key=f"overlap.{n}", depends_on=("merge", "sifting")))
        nodes.append(Node(key=f"frequency.{n}", depends_on=("merge", "sifting")))
    return nodes


@pytest.mark.parametrize("shape", [montage, epigenomics, cybershake, cycles, genome])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_shapes_of_published_workflows_run_to_completion(
    shape: Callable[[int], list[Node]], seed: int
) -> None:
    world = World(shape(12), seed=seed, batch_max=8, flights_max=3)
    world.run_wildly(restarts=2)
    assert world.state is RunState.COMPLETED
    assert set(world.states.values()) == {DONE}


# ---- one at a time


def test_a_new_run_releases_what_depends_on_nothing_and_begins() -> None:
    world = World(nodes_of(a="", b="", c="a b"))
    assert [type(command) for command in world.flying] == [ReleaseJobs]
    assert world.flying[0].job_ids == [world.ids.of("a"), world.ids.of("b")]
    assert world.flying[0].begins
    world.drain()
    releases = [command for command in world.given if isinstance(command, ReleaseJobs)]
    assert [command.begins for command in releases] == [True, False]
    assert world.state is RunState.COMPLETED


def test_a_failure_cancels_at_once_all_that_needs_it_and_the_rest_goes_on() -> None:
    nodes = [*nodes_of(a="", b="a", c="b", d="c", other=""), Node(
        key="cleanup", depends_on=("a",), trigger=TriggerRule.ANY_FAILED
    )]  # fmt: skip
    world = World(nodes, outcomes={"a": FAILED})
    world.drain()
    cancels = [command for command in world.given if isinstance(command, CancelJobs)]
    assert [world._keys(each.job_ids) for each in cancels] == [["b", "c", "d"]]
    assert cancels[0].reason is Reason.UPSTREAM_FAILED
    assert world.states["cleanup"] is world.states["other"] is DONE
    assert world.state is RunState.FAILED


def test_fail_fast_cancels_the_rest_too_and_the_run_has_failed() -> None:
    world = World(nodes_of(a="", other="", behind="other"), outcomes={"a": FAILED}, fail_fast=True)
    world.settle()
    world.work("a")
    world.drain()
    reasons = [each.reason for each in world.given if isinstance(each, CancelJobs)]
    assert reasons == [Reason.RUN_CANCELLED]
    assert world.states == {"a": FAILED, "other": CANCELLED, "behind": CANCELLED}
    assert world.state is RunState.FAILED


def test_a_branch_that_was_not_taken_does_not_keep_a_run_from_being_completed() -> None:
    node = Node(key="cleanup", depends_on=("a",), trigger=TriggerRule.ANY_FAILED)
    world = World([*nodes_of(a=""), node, *nodes_of(then="cleanup")])
    world.drain()
    assert world.states["then"] is CANCELLED
    assert world.state is RunState.COMPLETED


def test_a_cancel_is_answered_when_it_is_committed_and_ends_all() -> None:
    world = World(nodes_of(a="", b="a"))
    world.settle()
    said = world.tell(CancelRun(**asked(5)))
    assert [type(each) for each in said] == [CommitCancel]
    assert 5 not in world.answers
    world.drain()
    assert world.answers[5] == RunAnswer(run_id="run-1")
    assert world.states == {"a": CANCELLED, "b": CANCELLED}
    assert world.state is RunState.CANCELLED


def test_a_batch_that_came_to_nothing_is_commanded_again_for_those_that_still_want_it() -> None:
    world = World(nodes_of(a="", b="", c=""))
    world.settle(fate="failed")
    world.tell(world.told.popleft())
    assert world.flying == []
    assert world.planner.wakeup_at == 1.0
    world.end("b", CANCELLED)
    world.tell(world.told.popleft())
    world.mono = 1.0
    (again,) = world.tell(Wake())
    assert world._keys(again.job_ids) == ["a", "c"]
    assert again.begins
    assert again.stamp > world.given[0].stamp


def test_answers_with_stamps_of_another_life_are_dropped() -> None:
    world = World(nodes_of(a=""))
    stamp = world.flying[0].stamp
    world.start()
    assert world.flying[0].stamp > stamp
    for answer in (Performed(stamp=stamp), Unsettled(stamp=stamp)):
        assert world.tell(answer) == []
    assert world.tell(Refused(stamp=stamp, refusal=REFUSED)) == []


def test_the_end_of_a_run_is_commanded_again_until_it_is_performed() -> None:
    world = World(nodes_of(a=""))
    world.settle()
    world.work("a")
    while world.told:
        world.tell(world.told.popleft())
    assert isinstance(world.flying[0], FinishRun)
    assert world.tell(CancelRun(**asked(1))) != []
    assert world.answers[1].code is ErrorCode.RUN_ENDED
    world.settle(fate="failed")
    world.drain()
    world.mono = 1.0
    world.tell(Wake())
    world.drain()
    assert world.state is RunState.COMPLETED


# ---- nodes without a worker


def open_node(kind: NodeKind, **fields: Any) -> World:
    world = World([Node(key="g", kind=kind, **fields), *nodes_of(after="g")])
    assert [node.kind for node in world.flying[0].nodes] == [kind]
    world.settle()
    world.tell(world.told.popleft())
    return world


@pytest.mark.parametrize(("verb", "end"), [(ApproveGate, DONE), (RejectGate, FAILED)])
def test_a_gate_ends_as_an_operator_says_and_only_once(verb: Any, end: State) -> None:
    world = open_node(NodeKind.APPROVAL)
    (command,) = world.tell(verb(**asked(1, key="g")))
    assert isinstance(command, EndNodes)
    assert command.ends[0].actor == OPS
    world.tell(ApproveGate(**asked(2, key="g")))
    assert world.answers[2].code is ErrorCode.NODE_NOT_OPEN
    world.drain()
    answer = NodeAnswer(run_id="run-1", key="g", job_id=world.ids.of("g"), state=end)
    assert world.answers[1] == answer
    assert world.states["after"] is (DONE if end is DONE else CANCELLED)


def test_a_gate_that_is_cancelled_while_it_is_approved_says_so() -> None:
    world = open_node(NodeKind.APPROVAL)
    world.tell(ApproveGate(**asked(1, key="g")))
    world.end("g", CANCELLED)
    world.drain()
    assert world.answers[1].details == {"key": "g", "state": "cancelled"}


def test_a_callback_carries_its_result_and_is_taken_once() -> None:
    world = open_node(NodeKind.CALLBACK)
    (command,) = world.tell(CompleteCallback(**asked(1, key="g", state=DONE, result=b"{}")))
    assert command.ends[0].result == b"{}"
    world.drain()
    for ask_id, key in enumerate(("g", "after", "nowhere"), start=2):
        fresh = open_node(NodeKind.CALLBACK)
        fresh.end("g", DONE)
        fresh.tell(fresh.told.popleft())
        fresh.tell(CompleteCallback(**asked(ask_id, key=key, state=DONE)))
        assert fresh.answers[ask_id].code is ErrorCode.NODE_NOT_OPEN


def test_an_approval_does_not_open_a_callback_nor_a_gate_that_still_waits() -> None:
    world = open_node(NodeKind.CALLBACK)
    world.tell(ApproveGate(**asked(1, key="g")))
    waiting = World([*nodes_of(a=""), Node(key="g", kind=NodeKind.APPROVAL, depends_on=("a",))])
    waiting.tell(ApproveGate(**asked(1, key="g")))
    for each in (world, waiting):
        assert each.answers[1].code is ErrorCode.NODE_NOT_OPEN


@pytest.mark.parametrize(
    ("end", "state"),
    [(RunState.COMPLETED, DONE), (RunState.FAILED, FAILED), (RunState.CANCELLED, CANCELLED)],
)
def test_a_node_ends_with_its_sub_run_in_the_same_planner(end: RunState, state: State) -> None:
    world = open_node(NodeKind.SUB_RUN)
    started = RunStarted(
        tenant_id="demo", run_id="child", run_token="t", created_at=AT, nodes=nodes_of(x=""),
        parent=ParentNode("run-1", "g"),
    )  # fmt: skip
    (release,) = world.planner.handle(started, Moment(0.0, AT))
    world.planner.handle(Performed(stamp=release.stamp), Moment(0.0, AT))
    ends = JobsEnded(run_id="child", ends=[JobEnd("x", state)])
    (finish,) = world.planner.handle(ends, Moment(0.0, AT))
    assert finish.state is end
    (command,) = world.tell(Performed(stamp=finish.stamp))
    assert [each.state for each in command.ends] == [state]
    world.drain()
    assert world.states["g"] is state


def with_child(world: World, **child: Any) -> str:
    """A run in the same planner for the open node of the first."""
    started = RunStarted(
        tenant_id="demo", run_id="child", run_token="t", created_at=AT, nodes=nodes_of(x=""),
        parent=ParentNode("run-1", "g"), **child,
    )  # fmt: skip
    commands = world.planner.handle(started, Moment(0.0, AT))
    cancels = [each for each in commands if isinstance(each, CommitCancel)]
    return "cancelled" if cancels else "goes on"


def test_a_run_is_cancelled_when_the_node_it_was_started_for_is() -> None:
    world = open_node(NodeKind.SUB_RUN)
    assert with_child(world) == "goes on"
    world.tell(CancelRun(**asked(1)))
    world.drain()
    given = [each for each in world.given if isinstance(each, CommitCancel)]
    assert [each.run_id for each in given] == ["run-1", "child"]
    late = open_node(NodeKind.SUB_RUN)
    late.end("g", CANCELLED)
    late.tell(late.told.popleft())
    assert with_child(late) == "cancelled"


def test_a_sub_run_that_comes_after_the_end_of_its_parent_is_cancelled() -> None:
    world = World([Node(key="g", kind=NodeKind.SUB_RUN)])
    world.tell(RunsTold())
    world.tell(CancelRun(**asked(1)))
    world.drain()
    assert world.state is RunState.CANCELLED
    assert with_child(world) == "cancelled"


def test_a_sub_run_that_is_told_before_its_parent_is_judged_when_all_are_told() -> None:
    planner = DagPlanner()
    child = RunStarted(
        tenant_id="demo", run_id="child", run_token="t", created_at=AT, nodes=nodes_of(x=""),
        parent=ParentNode("run-1", "g"),
    )  # fmt: skip
    orphan = msgspec.structs.replace(child, run_id="orphan", parent=ParentNode("run-0", "g"))
    for told in (child, orphan, World([Node(key="g", kind=NodeKind.SUB_RUN)]).record()):
        assert CommitCancel not in [type(each) for each in planner.handle(told, Moment(0.0, AT))]
    commands = planner.handle(RunsTold(), Moment(0.0, AT))
    assert [(type(each), each.run_id) for each in commands] == [(CommitCancel, "orphan")]


def test_a_sub_run_that_comes_while_its_parent_is_read_is_cancelled_if_that_has_ended() -> None:
    world = open_node(NodeKind.SUB_RUN)
    world.tell(RunsTold())
    _, read = world.tell(ShardBegun())
    assert with_child(world) == "goes on"
    gone = RunGone(stamp=read.stamp, run_id="run-1", state=RunState.CANCELLED)
    assert [(type(each), each.run_id) for each in world.tell(gone)] == [(CommitCancel, "child")]


def test_a_cancel_of_a_sub_run_that_was_refused_is_made_again() -> None:
    world = open_node(NodeKind.SUB_RUN)
    with_child(world)
    world.end("g", CANCELLED)
    cancel = next(
        each for each in world.tell(world.told.popleft()) if isinstance(each, CommitCancel)
    )
    world.tell(Refused(stamp=cancel.stamp, refusal=REFUSED))
    world.mono = 5.0
    assert CommitCancel in [type(each) for each in world.tell(Wake())]


def test_what_an_opening_asked_for_is_asked_for_again_after_a_restart() -> None:
    for kind, again in [
        (NodeKind.MAP, True), (NodeKind.SUB_RUN, True), (NodeKind.POLICY, True),
        (NodeKind.APPROVAL, False), (NodeKind.CALLBACK, False),
    ]:  # fmt: skip
        world = open_node(kind)
        world.start()
        assert [type(each) for each in world.flying] == [OpenNodes] * again


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_map_node_fans_out_and_what_depends_on_it_waits_for_all(count: int) -> None:
    world = open_node(NodeKind.MAP)
    world.counts["g"] = count
    world.drain()
    instances = [f"g[{place}]" for place in range(count)]
    assert list(world.states) == ["g", "g[]", "after", *instances]
    assert set(world.states.values()) == {DONE}
    assert world.state is RunState.COMPLETED


def test_a_fan_out_over_the_limit_fails_the_node_and_all_behind_it() -> None:
    world = open_node(NodeKind.MAP, join=TriggerRule.ALL_DONE)
    world.counts["g"] = 1_000_000
    world.drain()
    assert not any(isinstance(command, GrowRun) for command in world.given)
    ends = [end for each in world.given if isinstance(each, EndNodes) for end in each.ends]
    assert (ends[0].state, ends[0].error) == (FAILED, "fan_out_too_large")
    assert world.states == {"g": FAILED, "g[]": FAILED, "after": CANCELLED}


def test_a_fan_out_that_a_run_has_no_room_for_fails_the_node() -> None:
    world = World([Node(key="g", kind=NodeKind.MAP)], nodes_live_max=5, counts={"g": 9})
    world.drain()
    assert world.states["g"] is FAILED


def test_a_fan_out_waits_for_room_that_other_runs_have() -> None:
    world = World([Node(key="g", kind=NodeKind.MAP)], nodes_live_max=10, counts={"g": 5})
    other = RunStarted(
        tenant_id="other", run_id="other", run_token="t", created_at=AT,
        nodes=[Node(key=f"n{n}") for n in range(5)],
    )  # fmt: skip
    (release,) = world.planner.handle(other, Moment(0.0, AT))
    world.planner.handle(Performed(stamp=release.stamp), Moment(0.0, AT))
    world.drain()
    for world.mono in (2.0, 4.0):
        assert world.tell(Wake()) == []
    assert world.states["g"] not in ENDS
    ends = JobsEnded(run_id="other", ends=[JobEnd(f"n{n}", DONE) for n in range(5)])
    (finish,) = world.planner.handle(ends, Moment(0.0, AT))
    world.planner.handle(Performed(stamp=finish.stamp), Moment(0.0, AT))
    world.mono = 6.0
    world.tell(Wake())
    world.drain()
    assert set(world.states.values()) == {DONE}


def test_a_list_that_has_changed_since_it_was_counted_is_counted_again() -> None:
    world = open_node(NodeKind.MAP)
    world.tell(ExpandNode(run_id="run-1", key="g", count=2))
    (grow,) = world.flying
    world.flying.clear()
    changed = Refusal(ErrorCode.REVISION_MISMATCH, "it has 3 places")
    (again,) = world.tell(Refused(stamp=grow.stamp, refusal=changed))
    assert [node.key for node in again.nodes] == ["g"]
    world.counts["g"] = 3
    world.drain()
    assert {key for key in world.states if "[" in key} == {"g[0]", "g[1]", "g[2]", "g[]"}
    assert world.state is RunState.COMPLETED


def test_a_list_that_is_told_twice_is_expanded_once() -> None:
    world = open_node(NodeKind.MAP)
    for _ in range(2):
        world.tell(ExpandNode(run_id="run-1", key="g", count=2))
    world.settle()
    world.tell(ExpandNode(run_id="run-1", key="g", count=2))
    world.drain()
    assert sum(isinstance(command, GrowRun) for command in world.given) == 1


def test_a_half_finished_fan_in_is_finished_after_a_restart() -> None:
    world = open_node(NodeKind.MAP)
    world.tell(ExpandNode(run_id="run-1", key="g", count=3))
    while world.states.get("g[0]") is not DONE:
        world.settle() if world.flying else world.work("g[0]")
        while world.told:
            world.tell(world.told.popleft())
    world.start()
    world.drain()
    assert world.starts["g[0]"] == 1
    assert world.state is RunState.COMPLETED


# ---- conditions, policies, explanations


def test_a_node_whose_condition_does_not_hold_is_skipped_and_the_run_is_completed() -> None:
    skipped = Node(key="s", depends_on=("a",), when="false")
    after = Node(key="after", depends_on=("s", "a"), trigger=TriggerRule.NONE_FAILED)
    world = World([*nodes_of(a=""), skipped, *nodes_of(needs="s"), after])
    world.drain()
    assert world.states == {"a": DONE, "s": CANCELLED, "needs": CANCELLED, "after": DONE}
    cancels = [each for each in world.given if isinstance(each, CancelJobs)]
    assert [(world._keys(each.job_ids), each.reason) for each in cancels] == [
        (["s"], Reason.SKIPPED), (["needs"], Reason.UPSTREAM_FAILED),
    ]  # fmt: skip
    assert world.state is RunState.COMPLETED


def test_a_cancel_that_is_no_skip_interrupts_the_run() -> None:
    world = World(nodes_of(a=""), outcomes={"a": CANCELLED})
    world.drain()
    assert world.state is RunState.CANCELLED


def test_a_node_that_is_to_be_evaluated_is_named_so_in_the_commands() -> None:
    nodes = [
        *nodes_of(a=""), Node(key="t", reads=()), Node(key="w", when="true"),
        Node(key="g", kind=NodeKind.APPROVAL, when="true"), Node(key="h", kind=NodeKind.APPROVAL),
    ]  # fmt: skip
    release, opening = World(nodes).flying
    assert [ref.key for ref in release.evaluated] == ["t", "w"]
    assert [(node.key, node.evaluated) for node in opening.nodes] == [("g", True), ("h", False)]


def test_a_template_that_cannot_be_filled_in_fails_the_job_with_its_words() -> None:
    world = World([Node(key="t", reads=()), *nodes_of(behind="t")])
    failed = NodeDecided(
        run_id="run-1", key="t", state=FAILED, error="template_error", message="${x} finds nothing"
    )
    (command,) = world.tell(failed)
    (end,) = command.ends
    assert (end.state, end.error, end.message) == (FAILED, "template_error", "${x} finds nothing")
    world.drain()
    assert world.states == {"t": FAILED, "behind": CANCELLED}


@pytest.mark.parametrize(("state", "end"), [(DONE, RunState.COMPLETED), (FAILED, RunState.FAILED)])
def test_a_policy_ends_as_it_was_judged(state: State, end: RunState) -> None:
    world = open_node(NodeKind.POLICY)
    world.outcomes["g"] = state
    world.drain()
    assert world.states["g"] is state
    assert world.state is end


def explain(world: World, key: str, ask_id: int = 1) -> Any:
    world.tell(ExplainNode(ask_id=ask_id, tenant_id="demo", run_id="run-1", key=key))
    return world.answers.pop(ask_id)


def test_what_a_node_waits_for_is_named_until_it_starts() -> None:
    world = World(nodes_of(a="", b="a", z="a b"))
    unmet = [UnmetDependency(key, world.ids.of(key), key == "a") for key in ("a", "b")]
    assert explain(world, "z") == NodeExplanation(
        key="z",
        kind=NodeKind.JOB,
        rule=TriggerRule.ALL_SUCCEEDED,
        started=False,
        unmet=unmet,
        unmet_total=2,
    )
    world.settle()
    world.work("a")
    while world.told:
        world.tell(world.told.popleft())
    assert [each.key for each in explain(world, "z").unmet] == ["b"]
    assert explain(world, "b").started
    assert explain(world, "nowhere").code is ErrorCode.NOT_FOUND


# ---- the shard was rebuilt


def test_when_the_shard_was_rebuilt_its_runs_are_read_again_and_what_was_not_told_counts() -> None:
    world = World(nodes_of(a="", z="a"))
    world.settle()
    world.work("a")
    world.told.clear()
    find, read = world.tell(ShardBegun())
    assert isinstance(read, ReadRun)
    world.flying.remove(find)
    world.drain()
    assert world.states == {"a": DONE, "z": DONE}
    assert world.state is RunState.COMPLETED


def test_a_reading_from_before_the_shard_was_rebuilt_counts_for_nothing() -> None:
    world = World(nodes_of(a="", z="a"))
    world.settle()
    _, first = world.tell(ShardBegun())
    stale = world.record(first.stamp)
    world.end("a", DONE)
    world.told.clear()
    _, second = world.tell(ShardBegun())
    assert world.tell(stale) == []
    assert [type(each) for each in world.tell(world.record(second.stamp))] == [ReleaseJobs]


def test_a_run_that_was_created_and_not_told_is_found_when_the_shard_was_rebuilt() -> None:
    world = World(nodes_of(a=""))
    known = RunRef("demo", "run-1")
    find, *_ = world.tell(ShardBegun())
    assert isinstance(find, FindRuns)
    (read,) = world.tell(RunsFound(stamp=find.stamp, runs=[known, RunRef("demo", "new")]))
    assert (type(read), read.run_id) == (ReadRun, "new")
    ended = JobsEnded(run_id="new", ends=[JobEnd("x", DONE)])
    told = RunStarted(
        tenant_id="demo", run_id="new", run_token="t", created_at=AT, nodes=nodes_of(x="", y="x"),
    )  # fmt: skip
    assert world.tell(told) == world.tell(ended) == []
    (release,) = world.tell(msgspec.structs.replace(told, stamp=read.stamp, started=["x"]))
    assert release.job_ids == [JobIds("demo", "t", AT).of("y")]
    assert world.tell(RunsFound(stamp=find.stamp, runs=[RunRef("demo", "late")])) == []


def test_a_search_for_runs_that_came_to_nothing_is_made_again() -> None:
    world = World(nodes_of(a=""))
    find, *_ = world.tell(ShardBegun())
    world.tell(Unsettled(stamp=find.stamp))
    world.mono = 5.0
    assert FindRuns in [type(each) for each in world.tell(Wake())]


def test_a_sub_run_that_is_found_to_have_ended_ends_its_node() -> None:
    world = open_node(NodeKind.SUB_RUN)
    child = RunStarted(
        tenant_id="demo", run_id="child", run_token="t", created_at=AT, nodes=nodes_of(x=""),
        parent=ParentNode("run-1", "g"),
    )  # fmt: skip
    world.planner.handle(child, Moment(0.0, AT))
    _, *reads = world.tell(ShardBegun())
    for read in reads:
        world.flying.remove(read)
    gone = RunGone(
        stamp=next(read.stamp for read in reads if read.run_id == "child"),
        run_id="child",
        state=RunState.FAILED,
    )
    assert world.tell(gone) == []
    own = next(read.stamp for read in reads if read.run_id == "run-1")
    (end, *_) = [each for each in world.tell(world.record(own)) if isinstance(each, EndNodes)]
    assert (end.ends[0].state, end.ends[0].error) == (FAILED, "sub_run_failed")


# ---- growth


def grow(world: World, nodes: Sequence[Node] = (), *edges: Edge, ask_id: int = 1) -> list[Any]:
    return world.tell(ExtendRun(**asked(ask_id, nodes=nodes, edges=edges, body=b"jobs")))


def test_a_running_job_adds_jobs_to_its_own_run() -> None:
    world = World(nodes_of(a="", z="a"))
    world.settle()
    world.tell(world.told.popleft())
    (command,) = grow(world, nodes_of(b="a", c="b"), Edge("c", "z"))
    assert command.body == b"jobs"
    assert [new.job_id for new in command.nodes] == [world.ids.of("b"), world.ids.of("c")]
    world.work("a")
    world.drain()
    assert world.answers[1] == RunAnswer(
        run_id="run-1", job_ids=[world.ids.of("b"), world.ids.of("c")]
    )
    assert set(world.states.values()) == {DONE}
    assert list(world.starts) == ["a", "b", "c", "z"]


def test_what_a_growth_reaches_into_is_not_released_while_it_is_under_way() -> None:
    world = World(nodes_of(a="", z="a"))
    world.settle()
    grow(world, nodes_of(b=""), Edge("b", "z"))
    growth = world.flying.pop()
    world.work("a")
    world.drain()
    assert world.states["z"] is State.PENDING
    world.flying.append(growth)
    world.settle(fate="refused")
    world.drain()
    assert world.answers[1] == REFUSED
    assert world.states == {"a": DONE, "z": DONE}


@pytest.mark.parametrize(
    ("nodes", "edges", "path"),
    [
        (nodes_of(a=""), [], "jobs[0].key"),
        (nodes_of(n="nowhere"), [], "jobs[0].dependsOn[0]"),
        (nodes_of(n="z"), [Edge("n", "y")], "jobs"),
        ([], [Edge("y", "a")], "edges[0].to"),
        ([], [], "jobs"),
        ([Node(key="m[0]", of="m")], [], "jobs[0].of"),
    ],
)
def test_a_growth_that_makes_no_graph_or_reaches_into_started_work_is_refused(
    nodes: list[Node], edges: list[Edge], path: str
) -> None:
    world = World(nodes_of(a="", y="a", z="y"))
    world.settle()
    grow(world, nodes, *edges)
    assert world.answers[1].code is ErrorCode.RUN_INVALID
    assert world.answers[1].details["path"] == path
    world.drain()
    assert world.state is RunState.COMPLETED


def test_growths_take_turns_and_too_many_are_refused() -> None:
    world = World(nodes_of(a=""), growths_max=2)
    world.settle()
    for ask_id in range(4):
        grow(world, nodes_of(**{f"g{ask_id}": "a"}), ask_id=ask_id)
    assert sum(isinstance(each, GrowRun) for each in world.flying) == 1
    assert world.answers[3].code is ErrorCode.OVERLOADED
    world.drain()
    assert [world.answers[each].run_id for each in range(3)] == ["run-1"] * 3


def test_a_run_that_ends_or_is_given_up_takes_no_growth() -> None:
    ended, cut = World(nodes_of(a="")), World(nodes_of(a="", b="a"))
    ended.settle()
    ended.work("a")
    while ended.told:
        ended.tell(ended.told.popleft())
    cut.tell(CancelRun(**asked(2)))
    cut.settle(place=1)
    cut.tell(cut.told.popleft())
    for world in (ended, cut):
        grow(world, nodes_of(n=""))
        assert world.answers[1].code is ErrorCode.RUN_ENDED


@pytest.mark.parametrize("fate", ["lost", "failed"])
def test_a_growth_without_an_answer_is_settled_by_reading_the_run(fate: str) -> None:
    world = World(nodes_of(a="", z="a"))
    world.settle()
    world.tell(world.told.popleft())
    grow(world, nodes_of(b="a"), Edge("b", "z"))
    world.settle(fate=fate)
    (unsettled,) = (each for each in world.told if isinstance(each, Unsettled))
    (read,) = (each for each in world.tell(unsettled) if isinstance(each, ReadRun))
    assert world.answers[1].code is ErrorCode.STORE_UNAVAILABLE
    world.told.clear()
    grow(world, nodes_of(c="a"), ask_id=2)
    assert world.answers[2].code is ErrorCode.STORE_UNAVAILABLE
    # What ends while the run is read is told before the answer, and counts after it.
    record = world.record(read.stamp)
    world.end("a", DONE)
    world.tell(world.told.popleft())
    world.flying.remove(read)
    world.tell(record)
    world.drain()
    assert world.state is RunState.COMPLETED
    assert ("b" in world.states) == (fate == "lost")


# ---- reruns, room, strangers


def ended_run(world: World) -> EndedRun:
    ends = [JobEnd(key, state) for key, state in world.states.items()]
    return EndedRun(state=world.state, nodes=world.nodes, edges=world.edges, ends=ends)


def rerun(world: World, verb: Any = RetryFailed, **fields: Any) -> Any:
    message = verb(**asked(1, ended=ended_run(world), rerun_id="run-2", run_token="t2", **fields))
    said = world.tell(message)
    return said[0] if isinstance(said[0], StartRerun) else world.answers.pop(1)


def test_what_failed_runs_again_with_all_behind_it_and_the_rest_is_kept() -> None:
    report = Node(key="report", depends_on=("b", "other"), trigger=TriggerRule.ALL_DONE)
    nodes = [*nodes_of(a="", b="a", c="b", other=""), report]
    world = World(nodes, outcomes={"b": FAILED})
    world.drain()
    command = rerun(world)
    assert command.replay_of == "run-1"
    assert command.kept == ["a", "other"]
    again = World(command.nodes, ended=dict.fromkeys(command.kept, DONE))
    again.drain()
    assert sorted(again.starts) == ["b", "c", "report"]
    assert again.state is RunState.COMPLETED
    assert world.tell(Performed(stamp=command.stamp))
    assert world.answers[1] == RunAnswer(run_id="run-2")


def test_a_replay_runs_from_a_node_on() -> None:
    world = World(nodes_of(a="", b="a", c="b", d="a"))
    world.drain()
    assert rerun(world, ReplayFrom, key="b").kept == ["a", "d"]
    assert rerun(world, ReplayFrom, key="nowhere").code is ErrorCode.NOT_FOUND
    assert rerun(world).code is ErrorCode.ILLEGAL_TRANSITION


def test_a_map_node_that_runs_again_expands_again_and_one_that_is_kept_does_not() -> None:
    nodes = [*nodes_of(a=""), Node(key="m", kind=NodeKind.MAP, depends_on=("a",))]
    world = World([*nodes, *nodes_of(z="m")], counts={"m": 3}, outcomes={"m[1]": FAILED})
    world.drain()
    command = rerun(world)
    assert command.kept == ["a", "m", "m[0]", "m[2]"]
    again = World(command.nodes, edges=command.edges, ended=dict.fromkeys(command.kept, DONE))
    again.drain()
    assert again.state is RunState.COMPLETED
    assert sorted(again.starts) == ["m[1]", "z"]
    command = rerun(world, ReplayFrom, key="a")
    assert [node.key for node in command.nodes] == ["a", "m", "z"]


def test_a_run_that_has_not_ended_is_not_run_again() -> None:
    world = World(nodes_of(a=""))
    assert rerun(world).code is ErrorCode.RUN_UNFINISHED


@pytest.mark.parametrize(
    ("answer", "code"),
    [(Unsettled, ErrorCode.STORE_UNAVAILABLE), (Refused, ErrorCode.STORE_UNAVAILABLE)],
)
def test_a_rerun_that_was_not_committed_is_answered(answer: Any, code: ErrorCode) -> None:
    world = World(nodes_of(a=""), outcomes={"a": FAILED})
    world.drain()
    stamp = rerun(world).stamp
    world.tell(answer(stamp=stamp, **({"refusal": REFUSED} if answer is Refused else {})))
    assert world.answers[1].code is code


def test_room_is_asked_for_in_runs_and_nodes() -> None:
    world = World(nodes_of(a="", b=""), nodes_live_max=5, runs_max=2)
    for ask_id, nodes in enumerate([3, 4]):
        world.tell(AdmitRun(ask_id=ask_id, tenant_id="demo", nodes=nodes))
    assert world.answers[0] is None
    assert world.answers[1].code is ErrorCode.CAPACITY_EXCEEDED
    full = World(nodes_of(a=""), runs_max=1)
    full.tell(AdmitRun(ask_id=1, tenant_id="demo", nodes=1))
    assert isinstance(full.answers[1], Refusal)


def test_a_tenant_leaves_room_to_others_and_doors_leave_some_to_its_live_runs() -> None:
    def answer(world: World, tenant_id: str, nodes: int = 1, *, inside: bool = False) -> bool:
        ask = AdmitRun(ask_id=next(world.ask_ids), tenant_id=tenant_id, nodes=nodes, inside=inside)
        world.tell(ask)
        refusal = world.answers[ask.ask_id]
        assert refusal is None or refusal.code is ErrorCode.CAPACITY_EXCEEDED
        return refusal is None

    runs = World(nodes_of(a=""), tenant_runs_max=1)
    assert not answer(runs, "demo")
    assert answer(runs, "other")
    nodes = World(nodes_of(a="", b="", c="", d=""), tenant_nodes_max=8)
    assert answer(nodes, "demo", 4)
    assert not answer(nodes, "demo", 5)
    assert answer(nodes, "other", 8)
    assert answer(nodes, "demo", 6, inside=True)
    assert not answer(nodes, "demo", 7, inside=True)
    nodes.tell(ShardBegun())
    assert not answer(nodes, "demo", 5)


def test_runs_of_other_tenants_and_unknown_runs_are_not_found() -> None:
    world = World(nodes_of(a=""))
    world.tell(CancelRun(**(asked(1) | {"tenant_id": "other"})))
    world.tell(CancelRun(**(asked(2) | {"run_id": "nowhere"})))
    assert {world.answers[each].code for each in (1, 2)} == {ErrorCode.NOT_FOUND}
    for stranger in (
        JobsEnded(run_id="nowhere", ends=[JobEnd("a", DONE)]),
        JobsEnded(run_id="run-1", ends=[JobEnd("nowhere", DONE)]),
        NodeSkipped(run_id="run-1", key="nowhere"),
        NodeDecided(run_id="run-1", key="nowhere", state=FAILED),
        SubRunEnded(run_id="run-1", key="a", state=RunState.COMPLETED),
        ExpandNode(run_id="run-1", key="a", count=3),
    ):
        assert world.tell(stranger) == []


def test_a_run_that_is_told_twice_is_started_once() -> None:
    world = World(nodes_of(a=""))
    assert world.tell(world.record()) == []
