"""The commands of a planner under way: their stamps, their batches, and those to be tried again.

I1  A stamp is used once, also across lives of the planner.
I2  What is tried again is tried after ``again_s``, in the order in which it failed.

Not here: what an answer means (``machine``).
"""

from collections import deque
from typing import Any, Final

import attrs

from jobengine.core.dag_planner.live_run import LiveRun
from jobengine.core.dag_planner.phases import Wish
from jobengine.domain.job import Reason
from jobengine.messages.planner_commands import (
    CancelJobs,
    EndNodes,
    NodeRef,
    OpenNode,
    OpenNodes,
    ReleaseJobs,
)

__all__ = ["Batch", "Flight", "Outbox", "PlannerLimits"]

_INCARNATION_SHIFT: Final = 40
_REASON_OF: Final = {
    Wish.CUT: Reason.RUN_CANCELLED,
    Wish.DOOM: Reason.UPSTREAM_FAILED,
    Wish.SKIP: Reason.SKIPPED,
}


@attrs.frozen(kw_only=True)
class PlannerLimits:
    """``batch_max`` jobs a command, with ``batch_bytes_max`` of results and one result more,
    ``flights_max`` such commands of a run under way, ``fan_out_max`` instances of a ``map`` node,
    ``growths_max`` growths of a run that wait; ``tenant_…``: of all runs of a tenant."""

    again_s: float = 1.0
    batch_bytes_max: int = 8 * 1024 * 1024
    batch_max: int = 2_000
    fan_out_max: int = 10_000
    flights_max: int = 8
    growths_max: int = 64
    nodes_live_max: int = 1_000_000
    runs_max: int = 10_000
    tenant_nodes_max: int = 500_000
    tenant_runs_max: int = 5_000


@attrs.frozen
class Batch:
    """Nodes of which the same is wished."""

    wish: Wish
    numbers: list[int]


@attrs.frozen(eq=False)
class Flight:
    """A command under way; ``subject`` says what it was for. ``run`` is None for a run to come."""

    run: LiveRun | None
    subject: Any


class Outbox:
    def __init__(self, limits: PlannerLimits, incarnation: int) -> None:
        self._limits = limits
        self._stamp = incarnation << _INCARNATION_SHIFT
        self._flying: dict[int, Flight] = {}
        self._again: deque[tuple[float, Flight]] = deque()
        self.commands: list[Any] = []

    @property
    def wakeup_at(self) -> float | None:
        return self._again[0][0] if self._again else None

    def fly(self, run: LiveRun | None, subject: Any) -> int:
        """The stamp of a command that is about to be given."""
        self._stamp += 1
        self._flying[self._stamp] = Flight(run, subject)
        return self._stamp

    def land(self, stamp: int) -> Flight | None:
        return self._flying.pop(stamp, None)

    def try_again(self, flight: Flight, now_mono: float) -> None:
        self._again.append((now_mono + self._limits.again_s, flight))

    def due(self, now_mono: float) -> list[Flight]:
        """Those whose time has come again."""
        flights = []
        while self._again and self._again[0][0] <= now_mono:
            flights.append(self._again.popleft()[1])
        return flights

    def flush(self, run: LiveRun) -> None:
        """Command what is wished, as far as the run may have commands under way."""
        for wish in Wish:
            while run.flights < self._limits.flights_max:
                numbers = run.wishes.take(wish, self._limits.batch_max, run.phases)
                if not numbers:
                    break
                if wish is Wish.END:
                    numbers = self._fitting(run, numbers)
                run.flights += 1
                stamp = self.fly(run, Batch(wish, numbers))
                self.commands.append(_command(run, wish, numbers, stamp))

    def _fitting(self, run: LiveRun, numbers: list[int]) -> list[int]:
        """The first of these ends, as far as one command carries their results."""
        size = 0
        for place, number in enumerate(numbers):
            if size >= self._limits.batch_bytes_max:
                run.wishes.put_back(Wish.END, numbers[place:])
                return numbers[:place]
            size += len(run.endings[number].result or b"")
        return numbers


def _command(run: LiveRun, wish: Wish, numbers: list[int], stamp: int) -> Any:
    named: dict[str, Any] = {"stamp": stamp, "tenant_id": run.tenant_id, "run_id": run.run_id}
    match wish:
        case Wish.RELEASE:
            job_ids = [run.job_id(number) for number in numbers]
            evaluated = [
                NodeRef(run.graph.keys[number], job_id)
                for number, job_id in zip(numbers, job_ids, strict=True)
                if number in run.evaluated
            ]
            return ReleaseJobs(job_ids=job_ids, begins=not run.begun, evaluated=evaluated, **named)
        case Wish.OPEN:
            keys, kinds = run.graph.keys, run.graph.kinds
            nodes = [
                OpenNode(keys[each], run.job_id(each), kinds[each], each in run.evaluated)
                for each in numbers
            ]
            return OpenNodes(nodes=nodes, begins=not run.begun, **named)
        case Wish.END:
            return EndNodes(ends=[run.endings[number] for number in numbers], **named)
        case Wish.CUT | Wish.DOOM | Wish.SKIP:
            job_ids = [run.job_id(number) for number in numbers]
            return CancelJobs(job_ids=job_ids, reason=_REASON_OF[wish], **named)
