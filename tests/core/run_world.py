"""A world for one DAG planner: a store, workers and operators, with lost answers and restarts.

It shares no decisions with the planner: what may start is judged from the states it holds, and what
a run comes to is computed from scratch (``expected``), dependency by dependency.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any

import attrs

from jobengine.core.dag_planner import DagPlanner, PlannerLimits
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.instant import Moment
from jobengine.domain.job import Reason, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import JobIds, RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.messages.dag_planner import ApproveGate, CompleteCallback, ExtendRun, RejectGate
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FinishRun,
    GrowRun,
    OpenNodes,
    Performed,
    ReadRun,
    Refused,
    ReleaseJobs,
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
    RunStarted,
    SubRunEnded,
)
from jobengine.messages.wake import Wake

AT = 1_767_225_600_000_000
OPS = Actor("ops", "because", "T-1")
REFUSED = Refusal(ErrorCode.STORE_UNAVAILABLE, "not now")
ENDS = (State.COMPLETED, State.FAILED, State.CANCELLED)

Outcomes = Mapping[str, State]


@attrs.define
class Waits:
    """What a node waits for, as the reference sees it."""

    keys: tuple[str, ...]
    rule: TriggerRule
    kind: NodeKind
    opener: str | None = None


def waits_of(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, Waits]:
    maps = {node.key for node in nodes if node.kind is NodeKind.MAP}

    def exits(keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{key}[]" if key in maps else key for key in keys)

    waits: dict[str, Waits] = {}
    for node in nodes:
        if node.of is not None:
            waits[node.key] = Waits((node.of,), node.trigger, node.kind)
            waits[f"{node.of}[]"].keys += (node.key,)
            continue
        waits[node.key] = Waits(exits(node.depends_on), node.trigger, node.kind)
        if node.kind is NodeKind.MAP:
            join = Waits((node.key,), node.join, NodeKind.JOIN, node.key)
            waits[f"{node.key}[]"] = join
    for edge in edges:
        waits[edge.target].keys += exits([edge.source])
    return waits


def fires(waits: Waits, states: Mapping[str, State]) -> bool | None:
    """True: it may start; False: it never will; None: not to be known yet."""
    told = [states[key] for key in waits.keys]
    left = [state for state in told if state not in ENDS]
    good, bad = told.count(State.COMPLETED), told.count(State.FAILED)
    if not told:
        return True
    if waits.kind is NodeKind.JOIN:
        if left:
            return None
        if states[waits.opener or ""] is not State.COMPLETED:
            return False
    match waits.rule:
        case TriggerRule.ALL_SUCCEEDED:
            return False if bad + told.count(State.CANCELLED) else True if not left else None
        case TriggerRule.ALL_DONE:
            return None if left else True
        case TriggerRule.ANY_SUCCEEDED:
            return True if good else None if left else False
        case TriggerRule.ANY_FAILED:
            return True if bad else None if left else False
        case TriggerRule.NONE_FAILED:
            return False if bad else None if left else True


def expected(
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    outcomes: Outcomes,
    broken: frozenset[str] = frozenset(),
) -> tuple[dict[str, State], RunState]:
    """What every node and the run must come to when nobody gives the run up. A node whose ``when``
    is ``false`` is skipped; of those that are ``broken`` the template cannot be filled in."""
    skipped = {node.key for node in nodes if node.when == "false"}
    waits = waits_of(nodes, edges)
    states = dict.fromkeys(waits, State.PENDING)
    taken = set[str]()
    moved = True
    while moved:
        moved = False
        for key, each in waits.items():
            if states[key] is not State.PENDING:
                continue
            may = fires(each, states)
            if may is None:
                continue
            moved = True
            states[key] = State.CANCELLED
            if may and key in skipped:
                continue
            if may and key in broken:
                states[key] = State.FAILED
            elif may:
                taken.add(key)
                plain = each.kind in (NodeKind.JOIN, NodeKind.MAP)
                states[key] = State.COMPLETED if plain else outcomes.get(key, State.COMPLETED)
            elif each.kind is NodeKind.JOIN and State.FAILED in [states[k] for k in each.keys]:
                states[key] = State.FAILED
    assert State.PENDING not in states.values()
    if State.FAILED in states.values():
        return states, RunState.FAILED
    interrupted = any(states[key] is State.CANCELLED for key in taken)
    return states, RunState.CANCELLED if interrupted else RunState.COMPLETED


class World:
    """One run. ``outcomes``: how each job ends if it runs; ``counts``: the lists of map nodes;
    ``broken``: whose templates cannot be filled in. What has ``when`` ``false`` is skipped."""

    run_id = "run-1"

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        outcomes: Outcomes | None = None,
        counts: Mapping[str, int] | None = None,
        edges: Sequence[Edge] = (),
        ended: Mapping[str, State] | None = None,
        broken: frozenset[str] = frozenset(),
        fail_fast: bool = False,
        parent: ParentNode | None = None,
        seed: int | None = None,
        **limits: Any,
    ) -> None:
        self.outcomes, self.counts = dict(outcomes or {}), dict(counts or {})
        self.nodes, self.edges = list(nodes), list(edges)
        self.broken = broken
        self.skipped = {node.key for node in nodes if node.when == "false"}
        self.fail_fast, self.parent = fail_fast, parent
        self.chance = None if seed is None else Random(seed)
        self.limits = PlannerLimits(**limits)
        self.ids = JobIds("demo", "token", AT)
        self.state = RunState.PENDING
        self.cancel_requested = False
        self.states: dict[str, State] = dict.fromkeys(waits_of(nodes, edges), State.PENDING)
        self.states.update(ended or {})
        self.key_of = {self.ids.of(key): key for key in self.states}
        self.starts: Counter[str] = Counter()
        self.stopping: set[str] = set()
        self.skipping: set[str] = set()
        self.opened: list[str] = []
        self.flying: list[Any] = []
        self.given: list[Any] = []
        self.told: deque[Any] = deque()
        self.answers: dict[int, Any] = {}
        self.ask_ids = count(1_000)
        self.finished: FinishRun | None = None
        self.mono, self.lives = 0.0, 0
        self.start()

    # ---- the planner

    def start(self) -> None:
        """A fresh planner over what the store holds."""
        self.lives += 1
        self.planner = DagPlanner(self.limits, self.lives)
        self.flying, self.told, self.opened = [], deque(), []
        if self.finished is None:
            self.tell(self.record())

    def record(self, stamp: int | None = None) -> RunStarted:
        under_way = (State.SCHEDULED, State.RUNNING)
        return RunStarted(
            stamp=stamp,
            tenant_id="demo",
            run_id=self.run_id,
            run_token="token",
            created_at=AT,
            state=self.state,
            nodes=list(self.nodes),
            edges=list(self.edges),
            ends=[self._end_of(key) for key, state in self.states.items() if state in ENDS],
            started=[key for key, state in self.states.items() if state in under_way],
            stopping=sorted(self.stopping),
            fail_fast=self.fail_fast,
            cancel_requested=self.cancel_requested,
            parent=self.parent,
        )

    def tell(self, message: Any) -> list[Any]:
        """What the planner answers and commands; commands are under way from here."""
        said = list(self.planner.handle(message, Moment(self.mono, AT)))
        for each in said:
            if isinstance(each, Answer):
                assert each.ask_id not in self.answers, "answered twice"
                self.answers[each.ask_id] = each.value
            else:
                self.flying.append(each)
                self.given.append(each)
        return said

    def restart(self) -> None:
        """Of what is under way some is carried out before the next life."""
        stale = [command.stamp for command in self.flying]
        for command in self.flying:
            if self.chance is None or self.chance.random() < 0.5:
                self.carry_out(command)
        self.start()
        for stamp in stale[:3]:
            assert self.tell(Performed(stamp=stamp)) == []

    # ---- the store

    def carry_out(self, command: Any) -> bool:
        """Commit a command; whether the store took it."""
        if self.finished is not None:
            return False
        match command:
            case ReleaseJobs():
                self._begin(command.begins)
                evaluated = {ref.key for ref in command.evaluated}
                for key in self._keys(command.job_ids):
                    if not (key in evaluated and self._decides(key)):
                        self._start(key, State.SCHEDULED)
            case OpenNodes():
                self._begin(command.begins)
                for node in command.nodes:
                    if node.evaluated and self._decides(node.key):
                        continue
                    self._start(node.key, State.RUNNING)
                    if self.states[node.key] is State.RUNNING and node.key not in self.opened:
                        self.opened.append(node.key)
            case EndNodes():
                for end in command.ends:
                    self.end(end.key, end.state)
            case CancelJobs():
                for key in self._keys(command.job_ids):
                    if command.reason is Reason.SKIPPED and self.states[key] not in ENDS:
                        assert self.states[key] is State.PENDING, f"{key} is skipped too late"
                        self.skipping.add(key)
                    if self._must_confirm(key):
                        self.stopping.add(key)
                    else:
                        self.end(key, State.CANCELLED)
            case GrowRun():
                self._grow(command)
            case CommitCancel():
                self.cancel_requested = True
            case FinishRun():
                assert all(state in ENDS for state in self.states.values())
                self._begin(command.begins)
                self.finished, self.state = command, command.state
            case ReadRun():
                self.told.append(self.record(command.stamp))
        return True

    def _decides(self, key: str) -> bool:
        """Whether a condition or a template keeps a node from going on, which is told."""
        if key in self.skipped:
            self.told.append(NodeSkipped(run_id=self.run_id, key=key))
        elif key in self.broken:
            decided = NodeDecided(
                run_id=self.run_id, key=key, state=State.FAILED, error="template_error"
            )
            self.told.append(decided)
        else:
            return False
        return True

    def _end_of(self, key: str) -> JobEnd:
        return JobEnd(key, self.states[key], skipped=key in self.skipping)

    def _must_confirm(self, key: str) -> bool:
        """Half of the jobs that are released run by now: their workers confirm a cancel."""
        runs = self.states[key] is State.SCHEDULED and self.chance is not None
        return runs and self._chance(0.5)

    def end(self, key: str, state: State) -> None:
        if self.states[key] in ENDS:
            return
        self.states[key] = state
        self.stopping.discard(key)
        self.told.append(JobsEnded(run_id=self.run_id, ends=[self._end_of(key)]))

    def _start(self, key: str, state: State) -> None:
        if self.states[key] is State.PENDING:
            may = fires(waits_of(self.nodes, self.edges)[key], self.states)
            assert may is True, f"{key} starts before it may"
            self.states[key] = state
            self.starts[key] += 1

    def _begin(self, begins: bool) -> None:
        if begins and self.state is RunState.PENDING:
            self.state = RunState.RUNNING

    def _grow(self, command: GrowRun) -> None:
        for new in command.nodes:
            key = new.node.key
            assert key not in self.states
            assert new.job_id == self.ids.of(key)
            self.states[key] = State.PENDING
            self.key_of[new.job_id] = key
            if new.node.kind is not NodeKind.JOIN:
                self.nodes.append(new.node)
        for edge in command.edges:
            assert self.states[edge.target] is State.PENDING
            self.edges.append(edge)
        if command.opened is not None:
            self.end(command.opened.key, State.COMPLETED)

    def _keys(self, job_ids: Sequence[str]) -> list[str]:
        return [self.key_of[job_id] for job_id in job_ids]

    # ---- what happens by itself

    def settle(self, place: int = 0, fate: str = "performed") -> None:
        """An answer to one of the commands under way."""
        command = self.flying.pop(place)
        took = fate in ("performed", "lost") and self.carry_out(command)
        if isinstance(command, ReadRun):
            if self.finished is not None:
                gone = RunGone(stamp=command.stamp, run_id=self.run_id, state=self.state)
                self.told.append(gone)
            elif not took:
                self.told.append(Unsettled(stamp=command.stamp))
        elif fate == "performed" and took:
            self.told.append(Performed(stamp=command.stamp))
        elif fate == "refused" or (fate == "performed" and not took):
            self.told.append(Refused(stamp=command.stamp, refusal=REFUSED))
        else:
            self.told.append(Unsettled(stamp=command.stamp))

    def work(self, key: str) -> None:
        """A scheduled job runs to its end; an open node is answered from outside."""
        kind = waits_of(self.nodes, self.edges)[key].kind
        outcome = self.outcomes.get(key, State.COMPLETED)
        asked: dict[str, Any] = {
            "ask_id": next(self.ask_ids),
            "tenant_id": "demo",
            "run_id": self.run_id,
            "actor": OPS,
            "key": key,
        }
        match kind:
            case NodeKind.JOB:
                self.end(key, State.CANCELLED if key in self.stopping else outcome)
            case NodeKind.MAP:
                places = self.counts.get(key, 0)
                self.told.append(ExpandNode(run_id=self.run_id, key=key, count=places))
            case NodeKind.SUB_RUN:
                state = RunState(outcome.value)
                self.told.append(SubRunEnded(run_id=self.run_id, key=key, state=state))
            case NodeKind.POLICY:
                self.told.append(NodeDecided(run_id=self.run_id, key=key, state=outcome))
            case NodeKind.APPROVAL:
                verb = ApproveGate if outcome is State.COMPLETED else RejectGate
                self.told.append(verb(**asked))
            case NodeKind.CALLBACK:
                self.told.append(CompleteCallback(state=outcome, **asked))

    def runnable(self) -> list[str]:
        jobs = (State.SCHEDULED, State.RUNNING)
        waits = waits_of(self.nodes, self.edges)
        return [
            key
            for key, state in self.states.items()
            if state in jobs and (waits[key].kind is NodeKind.JOB or self._asks_again(key))
        ]

    def _asks_again(self, key: str) -> bool:
        """An operator and a caller may ask any time; a list and a sub-run answer an opening."""
        kind = waits_of(self.nodes, self.edges)[key].kind
        return kind in (NodeKind.APPROVAL, NodeKind.CALLBACK) or key in self.opened

    def drain(self) -> None:
        """Everything goes well, in order, until nothing is left to happen by itself."""
        for _ in self._steps():
            pass

    def _steps(self) -> Iterator[None]:
        for _ in range(200_000):
            if self.told:
                self.tell(self.told.popleft())
            elif self.flying:
                self.settle()
            elif runnable := self.runnable():
                self.work(runnable[0])
                self.opened = [key for key in self.opened if key != runnable[0]]
            else:
                return
            yield
        raise AssertionError("it goes on for ever")

    def run_wildly(self, *, restarts: int, growths: int = 0, faults: bool = True) -> None:
        """Steps in an order of chance until the run has ended."""
        chance = self.chance
        assert chance is not None
        for step in range(20_000):
            if self.finished is not None and not self.planner.live_runs:
                return
            doings = [name for name, can in self._doings(restarts, growths) if can]
            assert doings, "nothing is left to do and the run has not ended"
            match chance.choice(doings):
                case "settle":
                    self._settle_some(faults and step < 2_000)
                case "hear":
                    self.tell(self.told.popleft())
                case "work":
                    self.work(chance.choice(self.runnable()))
                case "wake":
                    assert self.planner.wakeup_at is not None
                    self.mono = max(self.mono, self.planner.wakeup_at)
                    self.tell(Wake())
                case "restart":
                    restarts -= 1
                    self.restart()
                case "grow":
                    growths -= 1
                    self._ask_growth(growths)
        raise AssertionError("it goes on for ever")

    def _doings(self, restarts: int, growths: int) -> list[tuple[str, bool]]:
        return [
            ("settle", bool(self.flying)),
            ("hear", bool(self.told)),
            ("hear", bool(self.told)),
            ("work", bool(self.runnable())),
            ("wake", self.planner.wakeup_at is not None),
            ("restart", restarts > 0 and self._chance(0.1)),
            ("grow", growths > 0 and self.finished is None),
        ]

    def _chance(self, share: float) -> bool:
        assert self.chance is not None
        return self.chance.random() < share

    def _settle_some(self, faults: bool) -> None:
        assert self.chance is not None
        place = self.chance.randrange(len(self.flying))
        if isinstance(self.flying[place], ReadRun) and len(self.flying) > 1:
            self.flying.append(self.flying.pop(place))  # it waits for what is under way
            place = 0
        fates = ["performed"] * 12 + ["lost", "failed", "refused"] * faults
        self.settle(place, self.chance.choice(fates))

    def _ask_growth(self, number: int) -> None:
        """A new node behind some, and in front of one that may still be waiting."""
        assert self.chance is not None
        known = [key for key in self.states if "[" not in key]
        key = f"g{number}"
        sources = tuple(sorted({self.chance.choice(known) for _ in range(2)}))
        edges = [Edge(key, self.chance.choice(known))]
        self.told.append(
            ExtendRun(
                ask_id=number,
                tenant_id="demo",
                run_id=self.run_id,
                actor=OPS,
                nodes=[Node(key=key, depends_on=sources)],
                edges=edges if self._chance(0.5) else [],
            )
        )
