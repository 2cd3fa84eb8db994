"""What a commit does to ``leases``: a row for each instant at which jobs of a tenant were granted.

A row says who holds which of them, and how many still run; it goes with the last of these. So jobs
that start in one turn of their shard cost one row together, and its count is brought down once for
all of them that end in one commit.

I1  The ids of jobs granted at one instant stand one behind the other, as ``granted`` is called.
I2  What begins and what ends at one instant is one row here, for a statement changes a row of a
    table once.
I3  Where a job was granted to nobody, no holder is named, and the table refuses the row.

Not here: what the server makes of it (``sql/commit.sql``).
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from jobengine.domain.change import JobRow
from jobengine.domain.job import State

__all__ = ["LeaseRow", "LeaseRows", "starts"]


class LeaseRow(msgspec.Struct, omit_defaults=True):
    """``n`` granted and ``e`` ended now. The ids of those granted begin at ``i``; from the ``b``-th
    of them on, worker ``w`` and task runner ``tr`` hold them."""

    t: str
    s: int
    at: int | None
    n: int
    e: int
    i: int | None = None
    b: list[int] = []
    w: list[str] | None = []
    tr: list[str] | None = []


def starts(row: JobRow) -> bool:
    """The job is granted with this change."""
    return row.state == State.RUNNING and row.from_state != State.RUNNING


class LeaseRows:
    """Built for one commit."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int | None], LeaseRow] = {}

    @property
    def rows(self) -> list[LeaseRow]:
        return list(self._rows.values())

    def granted(self, model: JobRow, count: int, first_id: int) -> None:
        """``count`` jobs that start as ``model`` does; their ids begin at ``first_id``."""
        row = self._of(model, model.started_at)
        if row.i is None:
            row.i = first_id
        row.b.append(row.n + 1)
        row.n += count
        if row.w is None or row.tr is None:
            return
        if model.worker_id is None or model.task_runner_id is None:
            row.w = row.tr = None
        else:
            row.w.append(model.worker_id)
            row.tr.append(model.task_runner_id)

    def ended(self, model: JobRow, starts_at: Iterable[int | None]) -> None:
        """A job of ``model``'s tenant ends for each of these instants, at which it had started."""
        for started_at, count in Counter(starts_at).items():
            self._of(model, started_at).e += count

    def _of(self, model: JobRow, started_at: int | None) -> LeaseRow:
        key = (model.tenant_id, started_at)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = LeaseRow(model.tenant_id, model.shard, started_at, 0, 0)
        return row
