"""What a planner remembers: its live runs, those being read, and growths that wait for their turn.

Not here: what is decided (``machine``, ``doors``, ``landings``).
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.outbox import Outbox, PlannerLimits
from jobengine.core.dag_planner.requests import Growth, refuse_growth
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import State
from jobengine.messages.dag_planner import (
    ExpandNode,
    FinishRun,
    GrowRun,
    JobRevived,
    JobsEnded,
    ReadRun,
    SubRunEnded,
)

__all__ = ["READING", "UNKNOWN", "PlannerState", "Reading", "Told"]

UNKNOWN: Final = Refusal(
    ErrorCode.STORE_UNAVAILABLE, "no answer in time; the request may still take effect"
)
READING: Final = Refusal(
    ErrorCode.STORE_UNAVAILABLE, "the run is being read from the store; retry in a moment"
)

Told = JobsEnded | JobRevived | ExpandNode | SubRunEnded


@attrs.define(eq=False)
class Reading:
    """A run that is read again: the stamp of the reading, and what was told meanwhile."""

    run: LiveRun
    stamp: int = 0
    told: list[Told] = attrs.field(factory=list)


class PlannerState:
    def __init__(self, limits: PlannerLimits, incarnation: int) -> None:
        self.limits = limits
        self.outbox = Outbox(limits, incarnation)
        self.runs: dict[str, LiveRun] = {}
        self.reading: dict[str, Reading] = {}
        self.growths: dict[str, deque[Growth]] = {}
        self.now = Moment(0.0, 0)

    @property
    def live_runs(self) -> int:
        return len(self.runs) + len(self.reading)

    @property
    def live_nodes(self) -> int:
        runs = [*self.runs.values(), *(reading.run for reading in self.reading.values())]
        return sum(len(run.graph) for run in runs)

    def is_live(self, run: LiveRun) -> bool:
        return self.runs.get(run.run_id) is run

    def growths_of(self, run: LiveRun) -> deque[Growth]:
        """Those of the run that wait for their turn."""
        return self.growths.setdefault(run.run_id, deque())

    def refuse_room(self, nodes: int) -> Refusal | None:
        """Whether a run of so many nodes may come."""
        limits = self.limits
        if self.live_runs >= limits.runs_max:
            why = f"{limits.runs_max} runs are under way here; wait until some have ended"
        elif self.live_nodes + nodes > limits.nodes_live_max:
            why = f"runs under way have {limits.nodes_live_max} nodes at most; wait for some to end"
        else:
            return None
        return Refusal(ErrorCode.CAPACITY_EXCEEDED, why)

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
        refusal = refuse_growth(run, growth) or self._refuse_nodes(len(growth.nodes))
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

    def _refuse_nodes(self, nodes: int) -> Refusal | None:
        if self.live_nodes + nodes <= self.limits.nodes_live_max:
            return None
        why = f"runs under way have {self.limits.nodes_live_max} nodes at most"
        return Refusal(ErrorCode.CAPACITY_EXCEEDED, why)

    # ---- how a run comes and goes

    def read(self, run: LiveRun) -> None:
        """Forget the run, and go on with it as the store has it."""
        if not self.is_live(run):
            return
        self.drop(run)
        for ask_id, _ in run.asks.values():
            self.answer(ask_id, UNKNOWN)
        reading = self.reading[run.run_id] = Reading(run)
        self.command_reading(reading)

    def command_reading(self, reading: Reading) -> None:
        reading.stamp = self.command(reading.run, reading, ReadRun)

    def stop_reading(self, run_id: str) -> Sequence[Told]:
        """What was told while the run was read."""
        reading = self.reading.pop(run_id, None)
        if reading is None:
            return ()
        self.outbox.land(reading.stamp)
        return reading.told

    def drop(self, run: LiveRun) -> None:
        del self.runs[run.run_id]
        for growth in self.growths.pop(run.run_id, ()):
            self.answer(growth.ask_id, READING)
