"""What figures must reach, on two quiet cores with everything on them. Of a case that is not listed
nothing is asked."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bench.peers.catalog import PEERS

__all__ = ["GOALS", "Goal", "goal_of", "other_goals_of"]


@attrs.frozen
class Goal:
    """Of one case of a benchmark: a floor, or else a ceiling. `field` is that of a run, with a dot
    before a key within it; none is the figure that the benchmark compares."""

    benchmark: str
    case: str
    value: float
    field: str = ""
    floor: bool = True

    def met(self, figure: float) -> bool:
        return figure >= self.value if self.floor else figure <= self.value

    def judge(self, figure: float) -> str:
        """The goal, and whether it is missed."""
        sign = "≥" if self.floor else "≤"
        return f"{sign} {self.value:,g}" + ("" if self.met(figure) else ": **missed**")

    def read(self, run: Mapping[str, Any]) -> float | None:
        """The run's figure in `field`; None where it has none, or of another case."""
        found: Any = run if run["case"] == self.case else None
        for key in self.field.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return None if found is None else float(found)


def _at_most(benchmark: str, case: str, value: float, field: str = "") -> Goal:
    return Goal(benchmark, case, value, field, floor=False)


_SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
_PINNED: Final = "pinned, last third"
_OVER_BACKLOG: Final = "started over the backlog"

GOALS: Final = (
    Goal("throughput", "throughput", 20_000),
    _at_most("throughput", "throughput", 40, "cpu_us_per_job.engine"),
    Goal("store_limit", "throughput", 20_000),
    Goal("store_limit", "throughput", 0.7, "ratio"),
    Goal("drain", "20,000 jobs", 20_000),
    Goal("drain", "100,000 jobs", 20_000),
    Goal("enqueue", "websocket 100 a message", 45_000),
    Goal("enqueue", "to the end, websocket single, 8 clients", 4_000),
    Goal("enqueue", "to the end, websocket single, 8 clients, 8 in flight", 4_000),
    _at_most("pickup", "200 jobs/s", 0.6),
    _at_most("pickup", "200 jobs/s", 3, "p99_ms"),
    _at_most("pickup", "2000 jobs/s", 15, "p99_ms"),
    _at_most("sessions", "10,000 beating", 50),
    _at_most("sessions", "10,000 beating", 40, "kib_a_session"),
    _at_most("sessions", "10,000 beating, a lease each", 50),
    _at_most("sessions", "10,000 beating, a lease each", 40, "kib_a_session"),
    _at_most("idle", "1000 workers, quiet", 2),
    _at_most("idle", "1000 workers, quiet", 1, "queries_per_s"),
    _at_most("idle", "1000 workers, heartbeats", 1, "queries_per_s"),
    Goal("horizon", _PINNED, 0.95, "ratio"),
    _at_most("horizon", _PINNED, 1.5, "p99_ratio"),
    _at_most("backlog", _OVER_BACKLOG, 1_024),
    _at_most("backlog", _OVER_BACKLOG, 10, "first_grant_s"),
    _at_most("wal", "later", 2_048),
    _at_most("wal", "after a checkpoint", 2_048),
    *(Goal("growth", f"{size:,} finished", 0.85, "ratio") for size in _SIZES),
    *(_at_most("growth", f"{size:,} finished", 1.15, "cpu_ratio") for size in _SIZES),
    Goal("shapes", "network", 0.8),
    Goal("streams", "jobs, readers of everything", 0.8, "ratio"),
    Goal("streams", "jobs, readers of runs", 0.8, "ratio"),
    _at_most("streams", "steady", 100),
    Goal("peers", "end to end: jobengine", 20_000),
    Goal("peers", "single: jobengine", 4_000),
    Goal("peers", "drain: jobengine", 20_000),
    Goal("peers", "bulk enqueue: jobengine", 45_000),
    *(Goal("peers", f"end to end: {peer.name}", 1, "ratio") for peer in PEERS),
    Goal("sim", "everything", 200),
)


def goal_of(benchmark: str, case: str) -> Goal | None:
    """The goal of what the benchmark compares, in one case."""
    of = (each for each in GOALS if (each.benchmark, each.case) == (benchmark, case))
    return next((each for each in of if not each.field), None)


def other_goals_of(benchmark: str, case: str) -> tuple[Goal, ...]:
    """Those of other fields."""
    of = (each for each in GOALS if (each.benchmark, each.case) == (benchmark, case))
    return tuple(each for each in of if each.field)
