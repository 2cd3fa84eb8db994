"""Runs that are live, as far as their shard has had to know of them.

I1  A run is known from its creation here, or from when it was first read, until its end is
    committed. What is known is the run as it will be when every commit sent has returned.
I2  At most one change of a run's row is in flight; who makes it holds ``run_key`` meanwhile.

Not here: which jobs a run has (the store), what they wait for (``core/dag_planner``).
"""

from collections.abc import Iterable

import attrs

from jobengine.domain.run import RunState
from jobengine.domain.run_record import RunRecord

__all__ = ["KnownRun", "KnownRuns", "run_key"]


@attrs.define(eq=False)
class KnownRun:
    run_id: str
    state: RunState
    cancel_requested: bool = False


class KnownRuns:
    """No more than planners have live at a time."""

    def __init__(self) -> None:
        self._runs: dict[str, KnownRun] = {}

    def get(self, run_id: str) -> KnownRun | None:
        return self._runs.get(run_id)

    def learn(self, record: RunRecord) -> KnownRun:
        """Take in a run as it was created, or read while nobody else could change it."""
        requested = record.cancel_requested_at is not None
        known = KnownRun(record.run_id, record.state, requested)
        self._runs[record.run_id] = known
        return known

    def forget(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._runs.pop(run_id, None)


def run_key(run_id: str) -> str:
    """What stands for a run's row among the unique keys; theirs hold no U+0000."""
    return f"\0run:{run_id}"
