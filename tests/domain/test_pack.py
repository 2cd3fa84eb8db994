"""Packs: what steps compile to does what the steps say, whatever fails; equal packs plan alike."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.dag_document import DagDocument, encode_dag, refuse_dag
from jobengine.domain.errors import Refusal
from jobengine.domain.graph import build_graph
from jobengine.domain.job import Definition
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.pack import pack_plan, plan_hash, plan_pack, refuse_pack
from jobengine.domain.pack_steps import (
    CompiledPack,
    Conditional,
    Parallel,
    Step,
    Work,
    compile_steps,
)
from jobengine.domain.plan import topological_order
from jobengine.domain.run import RunState
from jobengine.domain.run_nodes import NodeJob
from jobengine.domain.run_record import PackOrigin, RunRecord
from jobengine.domain.trigger_rule import Verdict, judge

OK, FAILED, CANCELLED = "ok", "failed", "cancelled"


def work(key: str, payload: Any = None, kind: NodeKind = NodeKind.JOB) -> Work:
    job_type = "scan" if kind is NodeKind.JOB else f"orch.{kind}"
    return Work(
        key=key,
        job=NodeJob(
            definition=Definition(job_type=job_type, queue=job_type, payload_digest=""),
            node=Node(key="", kind=kind),
            payload=msgspec.Raw(canonical_of({} if payload is None else payload)),
        ),
    )


def compiled(*steps: Step) -> Mapping[str, Node]:
    made = compile_steps(steps)
    assert isinstance(made, CompiledPack), made
    return {each.node.key: each.node for each in made.nodes}


def refused(*steps: Step) -> Refusal:
    made = compile_steps(steps)
    assert isinstance(made, Refusal)
    return made


def document(steps: Sequence[Step]) -> DagDocument:
    made = compile_steps(steps)
    assert isinstance(made, CompiledPack), made
    return DagDocument(jobs=tuple(made.nodes))


# ---- any pack


def _lists(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(steps, min_size=1, max_size=3, unique_by=lambda step: step.key)


def _keys(count: int = 6) -> st.SearchStrategy[str]:
    return st.sampled_from([f"k{place}" for place in range(count)])


def _parallel(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    def build(key: str, found: list[Step], cut: int) -> Step:
        branches = [part for part in (found[:cut], found[cut:]) if part]
        return Parallel(key=key, branches=branches)

    return st.builds(build, _keys(), _lists(steps), st.integers(0, 3))


def _conditional(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    return st.builds(
        Conditional,
        key=_keys(),
        when=st.just("inputs.yes"),
        then=_lists(steps),
        otherwise=st.one_of(st.just([]), _lists(steps)),
    )


STEPS = _lists(
    st.recursive(
        st.builds(work, _keys()),
        lambda inner: st.one_of(_parallel(inner), _conditional(inner)),
        max_leaves=12,
    )
)


class World:
    """What each step and each condition does, drawn when it is asked for first."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._known: dict[str, Any] = {}

    def outcome(self, key: str) -> str:
        return str(self._draw(key, st.sampled_from([OK, OK, OK, FAILED, CANCELLED])))

    def holds(self, key: str) -> Any:
        """None: the condition has no value."""
        return self._draw(f"{key}?", st.sampled_from([True, False, None]))

    def _draw(self, key: str, values: st.SearchStrategy[Any]) -> Any:
        if key not in self._known:
            self._known[key] = self._data.draw(values, label=key)
        return self._known[key]


def interpret(steps: Sequence[Step], world: World, ran: set[str], prefix: str = "") -> bool:
    """What the steps say, read as a program: the keys of what ran, and whether all went well."""
    for step in steps:
        key = prefix + step.key
        match step:
            case Work():
                ran.add(key)
                good = world.outcome(key) == OK
            case Parallel():
                ends = [interpret(each, world, ran, f"{key}.") for each in step.branches]
                good = all(ends)
            case Conditional():
                holds = world.holds(key)
                if holds is None:
                    return False
                branch = step.then if holds else step.otherwise
                inside = f"{key}.then." if holds else f"{key}.else."
                good = interpret(branch, world, ran, inside)
            case _:
                assert_never(step)
        if not good:
            return False
    return True


def execute(nodes: Mapping[str, Node], world: World) -> tuple[set[str], bool]:
    """The same of the nodes, by their trigger rules."""
    graph = build_graph(list(nodes.values()))
    assert not isinstance(graph, Refusal)
    ends: dict[str, str] = {}
    ran = set[str]()
    for number in topological_order(graph):
        node = nodes[graph.keys[number]]
        before = [ends[key] for key in node.depends_on]
        verdict = judge(
            node.trigger,
            succeeded=before.count(OK),
            failed=before.count(FAILED),
            cancelled=before.count(CANCELLED),
        )
        ends[node.key] = CANCELLED if verdict is Verdict.NEVER else _end(node, world)
        if node.kind is NodeKind.JOB and verdict is Verdict.FIRE:
            ran.add(node.key)
    exits = set(nodes) - {key for node in nodes.values() for key in node.depends_on}
    return ran, all(ends[key] == OK for key in exits)


def _end(node: Node, world: World) -> str:
    if node.kind is NodeKind.JOB:
        return world.outcome(node.key)
    if node.when is None:
        return OK
    owner, _, branch = node.key.rpartition(".")
    holds = world.holds(owner)
    if holds is None:
        # `then` fails on what is no boolean; `else` compares with false, which it is not.
        return FAILED if branch == "then" else CANCELLED
    return OK if holds is (branch == "then") else CANCELLED


@given(steps=STEPS, data=st.data())
def test_nodes_run_what_the_steps_say_whatever_fails(
    steps: list[Step], data: st.DataObject
) -> None:
    world, wanted = World(data), set[str]()
    good = interpret(steps, world, wanted)
    assert execute(compiled(*steps), world) == (wanted, good)


@given(steps=STEPS)
def test_any_pack_is_a_run_and_equal_packs_have_equal_plans(steps: list[Step]) -> None:
    first, again = document(steps), document(steps)
    assert refuse_dag(first) is None
    assert encode_dag(first) == encode_dag(again)
    assert pack_plan(first) == pack_plan(again)
    assert plan_hash(first) == digest(pack_plan(first))
    plan = msgspec.json.decode(pack_plan(first))
    assert canonical_of(plan) == pack_plan(first)
    assert [node["key"] for node in plan["jobs"]] == sorted(compiled(*steps))


def _planned(pack: DagDocument, **record: Any) -> RunRecord:
    origin = PackOrigin(
        digest=digest(encode_dag(pack)), pack_id="p", plan_hash=plan_hash(pack), version=1
    )
    given: dict[str, Any] = {"tenant_id": "demo", "run_token": "t", "created_at": 1, **record}
    run = RunRecord(
        run_id="r", state=RunState.PENDING, nodes=0, created_by="me", pack=origin, **given
    )
    planned = plan_pack(run, encode_dag(pack))
    assert not isinstance(planned, Refusal), planned
    return planned.record


def test_the_hash_of_a_plan_says_nothing_of_who_runs_it_and_when() -> None:
    pack = document([work("build"), work("scan")])
    one = _planned(pack)
    other = _planned(pack, tenant_id="acme", run_token="u", created_at=9, inputs=b'{"a":1}')
    assert one.pack == other.pack
    assert one.inputs_hash != other.inputs_hash


def test_a_run_of_another_pack_with_the_same_nodes_is_another_run() -> None:
    pack = document([work("build")])
    described = msgspec.structs.replace(pack, description="the same nodes")
    assert plan_hash(pack) == plan_hash(described)
    assert _planned(pack).inputs_hash != _planned(described).inputs_hash


@pytest.mark.parametrize(
    "other",
    [
        [work("build"), work("scan", {"deep": True})],
        [work("scan"), work("build")],
        [work("build"), Parallel(key="scan", branches=[[work("left")]])],
    ],
)
def test_another_pack_has_another_plan(other: list[Step]) -> None:
    assert plan_hash(document(other)) != plan_hash(document([work("build"), work("scan")]))


# ---- shapes


def test_keys_say_where_a_step_stands() -> None:
    nodes = compiled(
        work("build"),
        Parallel(key="scan", branches=[[work("left"), work("deep")], [work("right")]]),
        Conditional(key="ship", when="inputs.yes", then=[work("it")]),
    )
    assert {key: node.depends_on for key, node in nodes.items()} == {
        "build": (),
        "scan.left": ("build",),
        "scan.deep": ("scan.left",),
        "scan.right": ("build",),
        "scan": ("scan.deep", "scan.right"),
        "ship.then": ("scan",),
        "ship.then.it": ("ship.then",),
        "ship.else": ("scan",),
        "ship": ("ship.then.it", "ship.else"),
    }


def test_a_step_depends_on_what_it_reads() -> None:
    nodes = compiled(
        work("build"),
        Parallel(key="scan", branches=[[work("left")], [work("right")]]),
        work("report", {"of": '${results.build.id} and ${results."scan.left".id}'}),
    )
    assert nodes["report"].depends_on == ("scan", "build", "scan.left")


def test_a_condition_depends_on_what_it_reads() -> None:
    nodes = compiled(
        work("build"),
        work("scan"),
        Conditional(key="ship", when="results.build.good", then=[work("it")]),
    )
    assert nodes["ship.then"].depends_on == ("scan", "build")
    assert nodes["ship.else"].depends_on == ("scan", "build")


def _reading(key: str) -> Any:
    return {"of": f'${{results."{key}".id}}'}


@pytest.mark.parametrize(
    ("steps", "path", "says"),
    [
        (
            [work("a", _reading("b")), work("b")],
            "steps[0]",
            "'a' reads the result of 'b', which does not come before it",
        ),
        ([work("a", _reading("a"))], "steps[0]", "'a', which does not come before it"),
        ([work("a", _reading("z"))], "steps[0]", "'z', and there is no step of that key"),
        (
            [Parallel(key="p", branches=[[work("a")], [work("b", _reading("p.a"))]])],
            "steps[0].branches[1][0]",
            "'p.b' reads the result of 'p.a', which runs beside it",
        ),
        (
            [Parallel(key="p", branches=[[work("a", _reading("p"))]])],
            "steps[0].branches[0][0]",
            "'p', which does not come before it",
        ),
        (
            [
                Conditional(key="c", when="inputs.yes", then=[work("a")]),
                work("b", _reading("c.then.a")),
            ],
            "steps[1]",
            "'c.then.a', which may be skipped, for it stands in the conditional 'c'",
        ),
        (
            [Parallel(key="p", branches=[[work("a")]]), work("b", _reading("p"))],
            "steps[1]",
            "'p', which has none",
        ),
        (
            [work("ok", kind=NodeKind.APPROVAL), work("b", _reading("ok"))],
            "steps[1]",
            "'ok', which has none",
        ),
        ([work("a"), work("a")], "steps[1].key", "'a' is the key of steps[0] already"),
        (
            [Parallel(key="p", branches=[[work("a")], [work("a")]])],
            "steps[0].branches[1][0].key",
            "'p.a' is the key of steps[0].branches[0][0] already",
        ),
        (
            [Conditional(key="c", when="inputs.", then=[work("a")])],
            "steps[0].when",
            "the expression ${inputs.}",
        ),
    ],
)
def test_what_cannot_run_is_refused_and_named(steps: list[Step], path: str, says: str) -> None:
    refusal = refused(*steps)
    assert refusal.details["path"] == path
    assert says in refusal.message
    assert refusal.message.startswith(path)


def test_steps_of_one_branch_read_each_other() -> None:
    branch = [work("a"), work("b", _reading("c.then.a"))]
    nodes = compiled(Conditional(key="c", when="inputs.yes", then=branch))
    assert nodes["c.then.b"].depends_on == ("c.then.a",)


def test_a_key_that_grows_too_long_is_refused_at_its_step() -> None:
    step: Step = work("k" * 60)
    for _ in range(2):
        step = Parallel(key="p" * 60, branches=[[step]])
    made = compile_steps([step])
    assert isinstance(made, CompiledPack)
    refusal = refuse_pack(DagDocument(jobs=tuple(made.nodes)), made.paths)
    assert refusal is not None
    assert refusal.details["path"].startswith("steps[0].branches[0][0].branches[0][0]")
