"""What a planner remembers: its live runs, those being read, and growths that wait for their turn.

Not here: what is decided (``machine``, ``doors``, ``landings``).
"""

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import attrs

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.outbox import Flight, Outbox, PlannerLimits
from jobengine.core.dag_planner.requests import Growth, refuse_growth
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import State
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import CommitCancel, FindRuns, FinishRun, GrowRun, ReadRun
from jobengine.messages.run_facts import (
    ExpandNode,
    JobsEnded,
    NodeDecided,
    NodeSkipped,
    ParentNode,
    RunRef,
    SubRunEnded,
)

__all__ = ["READING", "UNKNOWN", "GivenUp", "PlannerState", "Reading", "Told"]

UNKNOWN: Final = Refusal(
    ErrorCode.STORE_UNAVAILABLE, "no answer in time; the request may still take effect"
)
READING: Final = Refusal(
    ErrorCode.STORE_UNAVAILABLE, "the run is being read from the store; retry in a moment"
)

_ENGINE: Final = Actor("engine")

Told = JobsEnded | NodeSkipped | NodeDecided | ExpandNode | SubRunEnded


@attrs.define(eq=False)
class Reading:
    """A run that is read: the stamp of the reading, and what was told meanwhile. ``parent`` and
    ``size`` as they are known from before."""

    tenant_id: str
    run_id: str
    parent: ParentNode | None = None
    size: int = 0
    stamp: int = 0
    told: list[Told] = attrs.field(factory=list)


@attrs.frozen
class GivenUp:
    """Why a run is cancelled that nobody asked to be: the node that it was started for is."""

    ask_id: None = None


def _more(most: int) -> int:
    """What a tenant may have with what its live runs start; doors leave them that, so that they do
    not wait for each other."""
    return most + most // 4


class PlannerState:
    def __init__(self, limits: PlannerLimits, incarnation: int) -> None:
        self.limits = limits
        self.outbox = Outbox(limits, incarnation)
        self.runs: dict[str, LiveRun] = {}
        self.sub_runs: dict[ParentNode, str] = {}
        self.reading: dict[str, Reading] = {}
        self.growths: dict[str, deque[Growth]] = {}
        self.now = Moment(0.0, 0)

    @property
    def live_runs(self) -> int:
        return len(self.runs) + len(self.reading)

    @property
    def live_nodes(self) -> int:
        live = sum(len(run.graph) for run in self.runs.values())
        return live + sum(reading.size for reading in self.reading.values())

    def is_live(self, run: LiveRun) -> bool:
        return self.runs.get(run.run_id) is run

    def growths_of(self, run: LiveRun) -> deque[Growth]:
        """Those of the run that wait for their turn."""
        return self.growths.setdefault(run.run_id, deque())

    def refuse_room(self, tenant_id: str, nodes: int, *, inside: bool = False) -> Refusal | None:
        """Whether a run of so many nodes may come; ``inside``: a live run wants it."""
        limits = self.limits
        runs_max = _more(limits.tenant_runs_max) if inside else limits.tenant_runs_max
        if self.live_runs >= limits.runs_max:
            why = f"{limits.runs_max} runs are under way here; wait until some have ended"
        elif self.live_runs >= runs_max and len(self._sizes_of(tenant_id)) >= runs_max:
            why = f"{runs_max} runs of the tenant are under way here; wait until some have ended"
        else:
            return self._refuse_nodes(tenant_id, nodes, inside=inside)
        return Refusal(ErrorCode.CAPACITY_EXCEEDED, why)

    def _refuse_nodes(self, tenant_id: str, nodes: int, *, inside: bool) -> Refusal | None:
        limits = self.limits
        nodes_max = _more(limits.tenant_nodes_max) if inside else limits.tenant_nodes_max
        live_nodes = self.live_nodes + nodes
        if live_nodes > limits.nodes_live_max:
            why = f"runs under way have {limits.nodes_live_max} nodes at most; wait for some to end"
        elif live_nodes > nodes_max and sum(self._sizes_of(tenant_id)) + nodes > nodes_max:
            why = f"runs of a tenant have {nodes_max} nodes here at most; wait for some to end"
        else:
            return None
        return Refusal(ErrorCode.CAPACITY_EXCEEDED, why)

    def _sizes_of(self, tenant_id: str) -> list[int]:
        """The nodes of each of a tenant's runs."""
        both = chain[LiveRun | Reading](self.runs.values(), self.reading.values())
        return [each.size for each in both if each.tenant_id == tenant_id]

    def answer(self, ask_id: int | None, value: Any) -> None:
        if ask_id is not None:
            self.outbox.commands.append(Answer(ask_id, value))

    def command(self, run: LiveRun, subject: Any, kind: Any, **fields: Any) -> int:
        """Give a command about a run; returns its stamp."""
        stamp = self.outbox.fly(run, subject)
        self.outbox.commands.append(
            kind(stamp=stamp, tenant_id=run.tenant_id, run_id=run.run_id, **fields)
        )
        return stamp

    # ---- how a run goes on

    def go_on(self, run: LiveRun) -> None:
        """Command whatever the run wishes by now: batches, the next growth, its end."""
        growths = self.growths.get(run.run_id)
        while growths and not run.growing:
            self._grow(run, growths.popleft())
        self.outbox.flush(run)
        if run.done:
            run.finishing = True
            state, rolled = run.outcome()
            self.command(
                run, FinishRun, FinishRun, state=state, rolled=rolled, begins=not run.begun
            )

    def decline(self, run: LiveRun, growth: Growth, refusal: Refusal) -> None:
        if growth.opener is not None and run.starts(growth.opener):
            run.finish_node(growth.opener, State.FAILED, error=str(refusal.code))
        self.answer(growth.ask_id, refusal)

    def _grow(self, run: LiveRun, growth: Growth) -> None:
        if growth.opener is not None and not run.starts(growth.opener):
            return
        nodes = len(growth.nodes)
        refusal = refuse_growth(run, growth)
        if refusal is None:
            refusal = self._refuse_nodes(run.tenant_id, nodes, inside=True)
            waits = growth.opener is not None and self._may_fit(run.size + nodes)
            if refusal is not None and waits:
                self.outbox.try_again(Flight(run, growth), self.now.mono)
                return
        if refusal is not None:
            self.decline(run, growth, refusal)
            return
        run.hold(growth.targets(run))
        self.command(
            run,
            growth,
            GrowRun,
            nodes=growth.new_nodes(run),
            edges=growth.edges,
            body=growth.body,
            actor=growth.actor,
            opened=growth.opened(run),
        )

    def _may_fit(self, nodes: int) -> bool:
        """Whether a run of so many nodes has room when it is alone."""
        limits = self.limits
        return nodes <= min(limits.nodes_live_max, _more(limits.tenant_nodes_max))

    def give_up_sub_run(self, parent: ParentNode) -> None:
        """The node was cancelled, so the run that it was opened for is, unless it ends anyway."""
        run = self.runs.get(self.sub_runs.get(parent, ""))
        if run is not None and not (run.finishing or run.cancelling or run.cancel_requested):
            run.cancelling += 1
            self.command(run, GivenUp(), CommitCancel, actor=_ENGINE)

    # ---- how a run comes and goes

    def add(self, run: LiveRun) -> None:
        self.runs[run.run_id] = run
        if run.parent is not None:
            self.sub_runs[run.parent] = run.run_id

    def read(self, run: LiveRun) -> None:
        """Forget the run, and go on with it as the store has it."""
        if not self.is_live(run):
            return
        self.drop(run)
        for ask_id, _ in run.asks.values():
            self.answer(ask_id, UNKNOWN)
        self._begin(Reading(run.tenant_id, run.run_id, run.parent, run.size))

    def read_found(self, runs: Iterable[RunRef]) -> None:
        """Read those of these runs that are not known."""
        for tenant_id, run_id in runs:
            if run_id not in self.runs and run_id not in self.reading:
                self._begin(Reading(tenant_id, run_id))

    def _begin(self, reading: Reading) -> None:
        self.reading[reading.run_id] = reading
        self.command_reading(reading)

    def command_reading(self, reading: Reading) -> None:
        reading.stamp = stamp = self.outbox.fly(None, reading)
        self.outbox.commands.append(
            ReadRun(stamp=stamp, tenant_id=reading.tenant_id, run_id=reading.run_id)
        )

    def find(self) -> None:
        """Look for runs that nobody may have told of."""
        self.outbox.commands.append(FindRuns(stamp=self.outbox.fly(None, FindRuns)))

    def read_all(self) -> None:
        """Forget every run, and go on with them, and those nobody told of, as the store has them.

        What was created and not told can only be found; the rest is known.
        """
        self.find()
        for reading in self.reading.values():
            self.outbox.land(reading.stamp)
            self.command_reading(reading)
        for run in list(self.runs.values()):
            self.read(run)

    def stop_reading(self, run_id: str, stamp: int) -> Reading | None:
        """The reading that has come to its end with this stamp; None: of an earlier one."""
        self.outbox.land(stamp)
        reading = self.reading.get(run_id)
        if reading is None or reading.stamp != stamp:
            return None
        return self.reading.pop(run_id)

    def drop(self, run: LiveRun) -> None:
        del self.runs[run.run_id]
        if run.parent is not None:
            del self.sub_runs[run.parent]
        for growth in self.growths.pop(run.run_id, ()):
            self.answer(growth.ask_id, READING)
