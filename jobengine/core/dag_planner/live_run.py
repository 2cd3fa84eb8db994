"""One live run: which of its nodes wait, may go on, or cannot any more.

Definitions. A node is *doomed* when its trigger rule can never let it start, and *cut* when the
whole run is given up. It is *held* while a growth is under way that would give it dependencies.
Phases and wishes: see ``phases``.

I1  A node starts only when its rule fires on ends that were told; a wish counts for nothing here.
I2  Phases and counts are a function of the graph and the states of the jobs: a run that is rebuilt
    stands where this one stood, and wishes again what was not carried out.
I3  An end costs O(out-degree); each node is doomed or started once.
I4  A join is judged when nothing is left, so how it ends does not depend on the order of ends; it
    fails, rather than being cancelled, when something it waited for has failed.

Not here: commands and stamps (``machine``); what a run may be asked for (``requests``).
"""

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from jobengine.core.dag_planner.counts import Counts
from jobengine.core.dag_planner.phases import PHASE_OF, STATE_OF, WISHED_IN, Phase, Wish, Wishes
from jobengine.domain.errors import Refusal
from jobengine.domain.graph import Edge, Graph
from jobengine.domain.job import State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import JobIds, RollUp, RunState, end_of_run, roll_up
from jobengine.domain.trigger_rule import SEEN, TriggerRule, Verdict
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import NodeEnd
from jobengine.messages.run_facts import JobEnd, NodeDecided, ParentNode, RunStarted

__all__ = ["LiveRun"]

_STATES: Final = {int(phase): state for phase, state in STATE_OF.items()}
_REOPENED: Final = frozenset({NodeKind.MAP, NodeKind.POLICY, NodeKind.SUB_RUN})


@attrs.define(eq=False)
class LiveRun:
    """Lists by number of the node. Under way are: a growth, if ``growing``; so many requests to
    cancel the run (``cancelling``); its end, if ``finishing``; so many batches (``flights``).

    ``asks``: who waits for a node to end, and how it should. ``expanding``: ``map`` nodes whose
    instances are asked for. ``evaluated``: nodes with a condition or a template. ``skipped``: those
    whose condition did not hold.
    """

    tenant_id: str
    run_id: str
    ids: JobIds
    graph: Graph
    fail_fast: bool
    begun: bool
    cancel_requested: bool
    parent: ParentNode | None
    phases: bytearray = attrs.field(factory=bytearray)
    unended: int = 0
    growing: bool = False
    cancelling: int = 0
    finishing: bool = False
    flights: int = 0
    held: frozenset[int] = frozenset()
    endings: dict[int, NodeEnd] = attrs.field(factory=dict)
    digests: dict[int, str] = attrs.field(factory=dict)
    errors: dict[int, str] = attrs.field(factory=dict)
    asks: dict[int, tuple[int, State]] = attrs.field(factory=dict)
    expanding: set[int] = attrs.field(factory=set)
    evaluated: set[int] = attrs.field(factory=set)
    skipped: set[int] = attrs.field(factory=set)
    counts: Counts = attrs.field(init=False)
    wishes: Wishes = attrs.field(init=False, factory=Wishes)
    given_up: bool = False

    @classmethod
    def of(cls, told: RunStarted) -> "LiveRun | Refusal":
        """The run as it stands, with its wishes; a refusal when its nodes form no graph."""
        run = cls(
            tenant_id=told.tenant_id,
            run_id=told.run_id,
            ids=JobIds(told.tenant_id, told.run_token, told.created_at),
            graph=told.graph or Graph(),
            fail_fast=told.fail_fast,
            begun=told.state is not RunState.PENDING,
            cancel_requested=told.cancel_requested,
            parent=told.parent,
        )
        if told.graph is None:
            refusal = run.graph.extend(told.nodes, told.edges)
            if refusal is not None:
                return refusal
        run._note_evaluated(told.nodes)
        run._stand(told)
        return run

    # ---- what is asked of it

    @property
    def done(self) -> bool:
        """Whether its end is all that is left."""
        return not (self.unended or self.growing or self.cancelling or self.finishing)

    @property
    def size(self) -> int:
        """In nodes."""
        return len(self.graph)

    def open_number(self, key: str, kind: NodeKind) -> int | None:
        """The node of that key and kind, if it is open."""
        number = self.graph.numbers.get(key)
        if number is None or self.graph.kinds[number] is not kind or not self.starts(number):
            return None
        return number

    def starts(self, number: int) -> bool:
        return self.phases[number] == Phase.STARTED

    def end_of(self, key: str) -> State | None:
        number = self.graph.numbers.get(key)
        return None if number is None else self.state_of(number)

    def state_of(self, number: int) -> State | None:
        """How the node has ended; None while it has not."""
        return STATE_OF.get(Phase(self.phases[number]))

    def waits(self, number: int) -> bool:
        return self.phases[number] == Phase.WAITING

    def job_id(self, number: int) -> str:
        return self.ids.of(self.graph.keys[number])

    def outcome(self) -> tuple[RunState, RollUp]:
        """How the run ends, now that all of its nodes have."""
        states = [_STATES[phase] for phase in self.phases]
        rolled = roll_up(self.graph.keys, states, self.digests, self.errors)
        interrupted = any(
            state is State.CANCELLED
            and number not in self.skipped
            and self._verdict(number) is not Verdict.NEVER
            for number, state in enumerate(states)
        )
        end = end_of_run(rolled, cancel_requested=self.cancel_requested, interrupted=interrupted)
        return end, rolled

    # ---- what is told of it

    def end(self, told: JobEnd) -> int | None:
        """A node has ended; its number, or None when that is known or no node of this run."""
        number = self.graph.numbers.get(told.key)
        if number is None or self.phases[number] >= Phase.COMPLETED:
            return None
        self._note(number, told)
        self._judge_all(self.counts.ended(number, told.state))
        if told.state is State.FAILED and self.fail_fast and not self.given_up:
            self.cut()
        return number

    def skip(self, key: str) -> None:
        """The condition of a node that was to go on does not hold."""
        number = self.graph.numbers.get(key)
        if number is not None and self.starts(number):
            self._wish(number, Wish.SKIP)

    def decide(self, told: NodeDecided) -> None:
        """A node that was to go on ends instead."""
        number = self.graph.numbers.get(told.key)
        if number is not None and self.starts(number):
            self.finish_node(number, told.state, error=told.error, message=told.message)

    def cut(self) -> None:
        """Give up: everything that has not ended is to be cancelled."""
        self.given_up = True
        for number, phase in enumerate(self.phases):
            if phase < Phase.DOOMED:
                self._wish(number, Wish.CUT)

    def grow(self, nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
        """A growth that was found good when it was asked for, and is committed now."""
        graph, before = self.graph, len(self.graph)
        refusal = graph.extend(nodes, edges)
        assert refusal is None, "nothing else has changed the graph meanwhile"
        added = range(before, len(graph))
        self._note_evaluated(nodes)
        self.phases.extend(bytes(len(added)))
        self.counts.make_room()
        self.unended += len(added)
        targets = [graph.numbers[edge.target] for edge in edges]
        targets += [graph.numbers[node.of] + 1 for node in nodes if node.of is not None]
        touched = list(dict.fromkeys([*targets, *added]))
        for number in touched:
            self.counts.count(number, self.phases)
        self._judge_all(touched)
        if self.given_up:
            self.cut()

    def hold(self, numbers: Iterable[int]) -> None:
        self.growing, self.held = True, frozenset(numbers)

    def let_go(self) -> None:
        """The growth is over; what was held is judged on what has ended meanwhile."""
        held, self.growing, self.held = sorted(self.held), False, frozenset()
        self._judge_all(held)

    # ---- wishes

    def finish_node(
        self,
        number: int,
        state: State,
        *,
        result: bytes | None = None,
        error: str | None = None,
        actor: Actor | None = None,
        message: str | None = None,
    ) -> None:
        """End a node that no worker has."""
        named = (self.graph.keys[number], self.job_id(number))
        self.endings[number] = NodeEnd(*named, state, result, error, actor, message)
        self._wish(number, Wish.END)

    def _wish(self, number: int, wish: Wish) -> None:
        self.phases[number] = WISHED_IN[wish]
        self.wishes.put(wish, (number,))

    # ---- judging

    def _verdict(self, number: int) -> Verdict:
        if self.graph.kinds[number] is NodeKind.JOIN and self.phases[number - 1] > Phase.COMPLETED:
            return Verdict.NEVER  # without its map node there was nothing to join
        return self.counts.verdict(number)

    def _judge(self, number: int) -> None:
        """Decide on a waiting node, if its rule says so by now."""
        if number in self.held:
            return
        kind = self.graph.kinds[number]
        if kind is NodeKind.JOIN and self.counts.left[number]:
            return
        verdict = self._verdict(number)
        if verdict is Verdict.FIRE:
            if kind is NodeKind.JOB:
                self._wish(number, Wish.RELEASE)
            elif kind is NodeKind.JOIN:
                self.finish_node(number, State.COMPLETED)
            else:
                self._wish(number, Wish.OPEN)
        elif verdict is Verdict.NEVER:
            if kind is NodeKind.JOIN and self.counts.seen[number] & SEEN[State.FAILED]:
                self.finish_node(number, State.FAILED, error="instance_failed")
            else:
                self._doom(number)

    def _judge_all(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if self.phases[number] == Phase.WAITING:
                self._judge(number)

    def _doom(self, number: int) -> None:
        """With all behind it that needs it to succeed, so that one commit cancels them all."""
        self._wish(number, Wish.DOOM)
        graph, doomed = self.graph, [number]
        for source in doomed:
            for child in graph.children[source]:
                if (
                    self.phases[child] == Phase.WAITING
                    and graph.rules[child] is TriggerRule.ALL_SUCCEEDED
                    and graph.kinds[child] is not NodeKind.JOIN
                    and child not in self.held
                ):
                    self._wish(child, Wish.DOOM)
                    doomed.append(child)

    # ---- keeping

    def _stand(self, told: RunStarted) -> None:
        graph = self.graph
        self.phases = bytearray(len(graph))
        self.counts = Counts(graph)
        self.unended = len(graph)
        for end in told.ends:
            number = graph.numbers[end.key]
            self._note(number, end)
            self.counts.ended(number, end.state)
        for key in told.started:
            number = graph.numbers[key]
            if graph.kinds[number] is not NodeKind.JOIN:
                self.phases[number] = Phase.STARTED
        for key in told.stopping:
            self.phases[graph.numbers[key]] = Phase.CUT
        failed = any(end.state is State.FAILED for end in told.ends)
        if self.cancel_requested or (self.fail_fast and failed):
            self.cut()
            return
        self._judge_all(self.counts.decided())
        for key in told.started:
            number = graph.numbers[key]
            if graph.kinds[number] in _REOPENED and self.phases[number] == Phase.STARTED:
                self.wishes.put(Wish.OPEN, (number,))

    def _note(self, number: int, told: JobEnd) -> None:
        self.phases[number] = PHASE_OF[told.state]
        self.unended -= 1
        self.endings.pop(number, None)
        if told.digest is not None:
            self.digests[number] = told.digest
        if told.error is not None:
            self.errors[number] = told.error
        if told.skipped:
            self.skipped.add(number)

    def _note_evaluated(self, nodes: Sequence[Node]) -> None:
        self.evaluated.update(
            self.graph.numbers[node.key]
            for node in nodes
            if node.reads is not None or node.when is not None
        )
