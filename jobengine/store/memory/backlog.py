"""Waiting jobs of the memory store, in the orders they are read in.

I1  A job stands here exactly while it is pending or scheduled, once.
I2  Each ordered list holds what the index of the same name holds in PostgreSQL.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs

from jobengine.domain.job import State
from jobengine.store.port import Lane

__all__ = ["Backlog", "WaitingRow"]

JobKey = tuple[str, str]
"""Tenant and job id."""


@attrs.frozen
class WaitingRow:
    key: JobKey
    shard: int
    lane: Lane
    state: str
    rank: int
    """0 while pending."""
    due_at: int
    delayed: bool
    expires_at: int | None


class Due(NamedTuple):
    at: int
    job_id: str
    tenant_id: str


@attrs.define(eq=False)
class Backlog:
    """A table and three indexes."""

    rows: dict[JobKey, WaitingRow] = attrs.field(factory=dict)
    _lanes: defaultdict[Lane, list[tuple[int, str]]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    _delayed: defaultdict[int, list[Due]] = attrs.field(factory=lambda: defaultdict(list))
    _expiring: defaultdict[int, list[Due]] = attrs.field(factory=lambda: defaultdict(list))

    def put(self, row: WaitingRow) -> None:
        """Add a job, or replace its row."""
        self.discard(row.key)
        self.rows[row.key] = row
        tenant_id, job_id = row.key
        if row.state == State.SCHEDULED:
            insort(self._lanes[row.lane], (row.rank, job_id))
            if row.delayed:
                insort(self._delayed[row.shard], Due(row.due_at, job_id, tenant_id))
        if row.expires_at is not None:
            insort(self._expiring[row.shard], Due(row.expires_at, job_id, tenant_id))

    def discard(self, key: JobKey) -> None:
        row = self.rows.pop(key, None)
        if row is None:
            return
        tenant_id, job_id = key
        if row.state == State.SCHEDULED:
            places = self._lanes[row.lane]
            del places[bisect_left(places, (row.rank, job_id))]
            if not places:
                del self._lanes[row.lane]
            if row.delayed:
                _remove(self._delayed[row.shard], Due(row.due_at, job_id, tenant_id))
        if row.expires_at is not None:
            _remove(self._expiring[row.shard], Due(row.expires_at, job_id, tenant_id))

    def lanes(self, shard: int, now_at: int) -> list[Lane]:
        """Lanes of a shard with a job due by now, in order."""
        found = [
            lane
            for lane in self._lanes
            if any(row.shard == shard for row in self.ready(lane, None, now_at))
        ]
        return sorted(found)

    def ready(self, lane: Lane, after: tuple[int, str] | None, now_at: int) -> Iterator[WaitingRow]:
        """Due jobs of a lane after (rank, job id), in that order."""
        places = self._lanes.get(lane, [])
        start = 0 if after is None else bisect_right(places, after)
        for _, job_id in places[start:]:
            row = self.rows[lane.tenant_id, job_id]
            if row.due_at <= now_at or not row.delayed:
                yield row

    def ahead(self, lane: Lane, key: tuple[int, str], now_at: int, jobs_max: int) -> int:
        """Due jobs of a lane before (rank, job id), counted up to a bound."""
        found = 0
        for row in self.ready(lane, None, now_at):
            if (row.rank, row.key[1]) >= key or found == jobs_max:
                break
            found += 1
        return found

    def counts(self, shard: int) -> dict[str, int]:
        """Waiting jobs of a shard by tenant."""
        counts: dict[str, int] = {}
        for row in self.rows.values():
            if row.shard == shard:
                counts[row.key[0]] = counts.get(row.key[0], 0) + 1
        return dict(sorted(counts.items()))

    def delayed(self, shard: int, after: tuple[int, str] | None, jobs_max: int) -> Sequence[Due]:
        """By (due at, job id)."""
        return _page(self._delayed.get(shard, []), after, jobs_max)

    def expiring(self, shard: int, after: tuple[int, str] | None, jobs_max: int) -> Sequence[Due]:
        """By (expires at, job id)."""
        return _page(self._expiring.get(shard, []), after, jobs_max)


def _remove(due: list[Due], item: Due) -> None:
    del due[bisect_left(due, item)]


def _page(due: list[Due], after: tuple[int, str] | None, jobs_max: int) -> Sequence[Due]:
    start = (
        0 if after is None else bisect_right(due, after, key=lambda item: (item.at, item.job_id))
    )
    return due[start : start + jobs_max]
