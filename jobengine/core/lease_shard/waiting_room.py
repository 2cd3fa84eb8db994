"""The waiting room: lanes and jobs that a closed gate keeps from starting, by what opens it.

Definitions. A lane is *closed* when a gate of the lane keeps its first job; the job stays in its
window. A job is *parked* when a gate of its own keeps it: it leaves its window, so that others of
its lane may go. Both wait under the *subject* of the gate.

I1  Whoever waits under a subject is looked at again when it opens: closed lanes and parked jobs.
    For a free place one closed lane is (``freed_places``), and each lane's first parked job.
I2  A parked job that was let out for a free place and did not take it hands the chance on to the
    next of its lane, so a free place is never forgotten.
I3  At most ``parked_max`` jobs are parked; past that a lane is closed by the gate of its first job.
I4  A job is in at most one of: its window, parked, proposed, a lease.
I5  Who waits for an instant waits no longer than it was away, though instants go slowly while a
    wall clock that was set back catches up: ``lost_us`` is by how much they fell behind.
I6  Each heap holds at most about twice as many entries as wait, however many came and went.

Not here: which gate is closed (``gates``), who then gets the job (``grants``).
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

import attrs

from jobengine.core.window import Key
from jobengine.domain.job import Job
from jobengine.domain.records import Lane

__all__ = ["Subject", "WaitingRoom"]

Subject = tuple[str, str, str]
"""Tenant, kind and key of what has to move for a gate to open."""

_HEAP_SLACK: Final = 64


@attrs.define(eq=False)
class _Queue:
    """Parked jobs of one lane: how many, and their keys among those of some that have left."""

    jobs: int = 0
    keys: list[Key] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Waiters:
    """A lane has a queue while a job of it is parked."""

    lanes: dict[Lane, None] = attrs.field(factory=dict)
    parked: dict[Lane, _Queue] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Parked:
    subject: Subject
    lane: Lane
    queue: _Queue
    key: Key
    job: Job


class WaitingRoom:
    def __init__(self, parked_max: int) -> None:
        self.lost_us = 0
        self._parked_max = parked_max
        self._waiters: dict[Subject, _Waiters] = {}
        self._closed: dict[Lane, tuple[Subject, int | None]] = {}
        self._parked: dict[str, _Parked] = {}
        self._tried: dict[str, tuple[Subject, Lane]] = {}
        self._clock: list[tuple[int, Subject]] = []
        self._opens: dict[Subject, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiters)

    @property
    def full(self) -> bool:
        return len(self._parked) >= self._parked_max

    @property
    def parked(self) -> int:
        return len(self._parked)

    def holds(self, job_id: str) -> bool:
        return job_id in self._parked

    def subject_of(self, lane: Lane) -> Subject | None:
        """What a closed lane waits for; None when it is open."""
        closed = self._closed.get(lane) if self._closed else None
        return None if closed is None else closed[0]

    def closing_of(self, lane: Lane) -> tuple[Subject, int | None] | None:
        """What a closed lane waits for, and the instant at which that opens, if it is known."""
        return self._closed.get(lane)

    def parking_of(self, job_id: str) -> tuple[Subject, int | None] | None:
        """What a parked job waits for, and the instant at which that opens, if it is known."""
        parked = self._parked.get(job_id)
        if parked is None:
            return None
        opens = self._opens.get(parked.subject)
        return parked.subject, None if opens is None else opens - self.lost_us

    def parked_keys(self, tenant_id: str, queue: str) -> Iterable[Key]:
        """Places of the parked jobs of a queue, each in its lane's order, in no order."""
        return (
            parked.key
            for parked in self._parked.values()
            if parked.lane.queue == queue and parked.lane.tenant_id == tenant_id
        )

    def close(self, lane: Lane, subject: Subject, opens_at: int | None) -> None:
        """Keep a lane shut until the subject opens, at the first of the instants given for it."""
        before = self._closed.get(lane)
        if before is not None and before[0] == subject and before[1] is not None:
            opens_at = before[1] if opens_at is None else min(before[1], opens_at)
        elif before is not None and before[0] != subject:
            self.reopen(lane)
        self._closed[lane] = (subject, opens_at)
        self._under(subject).lanes[lane] = None
        self._watch(subject, opens_at)

    def park(
        self, lane: Lane, key: Key, job: Job, subject: Subject, opens_at: int | None
    ) -> tuple[Subject, Lane] | None:
        """Put a job aside; returns whose chance it had and did not take, to be handed on."""
        self._leave(job.job_id)
        parked = self._under(subject).parked
        queue = parked.get(lane)
        if queue is None:
            queue = parked[lane] = _Queue()
        queue.jobs += 1
        heappush(queue.keys, key)
        self._parked[job.job_id] = _Parked(subject, lane, queue, key, job)
        self._watch(subject, opens_at)
        tried = self._tried.pop(job.job_id, None)
        return tried if tried is not None and tried[0] != subject else None

    def took(self, job_id: str) -> None:
        """A job has started, and with it taken the place it was let out for."""
        if self._tried:
            self._tried.pop(job_id, None)

    def forget(self, job_id: str) -> tuple[Subject, Lane] | None:
        """A job waits no longer; returns whose chance it had, to be handed on."""
        self._leave(job_id)
        return self._tried.pop(job_id, None)

    def open(self, subject: Subject) -> list[tuple[Lane, Key, Job | None]]:
        """What may be looked at again: lanes (without a job) and jobs that were parked."""
        waiters = self._waiters.get(subject)
        if waiters is None:
            return []
        out: list[tuple[Lane, Key, Job | None]] = []
        for lane in list(waiters.lanes):
            self.reopen(lane)
            out.append((lane, (0, ""), None))
        for lane in list(waiters.parked):
            out.extend(self._let_out(subject, lane, one=False))
        self._drop_if_empty(subject)
        return out

    def open_parked(self, subject: Subject) -> list[tuple[Lane, Key, Job | None]]:
        """Of each lane the first job that is parked may be looked at again, for a free place."""
        waiters = self._waiters.get(subject)
        if waiters is None:
            return []
        lanes = list(waiters.parked)
        out = [each for lane in lanes for each in self._let_out(subject, lane, one=True)]
        self._drop_if_empty(subject)
        return out

    def open_next(self, subject: Subject, lane: Lane) -> list[tuple[Lane, Key, Job | None]]:
        """Hand a chance on to the next parked job of a lane."""
        out = self._let_out(subject, lane, one=True)
        self._drop_if_empty(subject)
        return out

    def count(self, subject: Subject) -> int:
        """Lanes and parked jobs that wait for it."""
        waiters = self._waiters.get(subject)
        if waiters is None:
            return 0
        return len(waiters.lanes) + sum(queue.jobs for queue in waiters.parked.values())

    def closes_lanes(self, subject: Subject) -> bool:
        """Whether any lane is closed until it opens."""
        waiters = self._waiters.get(subject)
        return waiters is not None and bool(waiters.lanes)

    def lanes_under(self, subject: Subject) -> list[Lane]:
        """Lanes that are closed until it opens."""
        waiters = self._waiters.get(subject)
        return [] if waiters is None else list(waiters.lanes)

    def tenants(self) -> list[str]:
        """Whose jobs wait at any gate."""
        return sorted({subject[0] for subject in self._waiters})

    def subjects_of(self, tenant_id: str) -> list[Subject]:
        return [subject for subject in self._waiters if subject[0] == tenant_id]

    @property
    def opens_at(self) -> int | None:
        """The first instant at which a subject opens by itself."""
        clock = self._clock
        while clock and self._opens.get(clock[0][1]) != clock[0][0]:
            heappop(clock)
        return clock[0][0] - self.lost_us if clock else None

    def due(self, at: int) -> list[Subject]:
        """Subjects whose instant has come, each once."""
        due: dict[Subject, None] = {}
        while (first := self.opens_at) is not None and first <= at:
            subject = heappop(self._clock)[1]
            del self._opens[subject]
            due[subject] = None
        return list(due)

    def _let_out(
        self, subject: Subject, lane: Lane, *, one: bool
    ) -> list[tuple[Lane, Key, Job | None]]:
        waiters = self._waiters.get(subject)
        queue = None if waiters is None else waiters.parked.get(lane)
        if waiters is None or queue is None:
            return []
        out: list[tuple[Lane, Key, Job | None]] = []
        while queue.jobs and not (one and out):
            key = heappop(queue.keys)
            parked = self._parked.get(key[1])
            if parked is None or parked.queue is not queue or parked.key != key:
                continue
            del self._parked[key[1]]
            queue.jobs -= 1
            if one:
                self._tried[key[1]] = (subject, lane)
            out.append((lane, key, parked.job))
        if not queue.jobs:
            del waiters.parked[lane]
        return out

    def _leave(self, job_id: str) -> None:
        """A parked job waits no longer. Its key is left in the heap until such outnumber (I6)."""
        gone = self._parked.pop(job_id, None)
        if gone is None:
            return
        queue = gone.queue
        queue.jobs -= 1
        if not queue.jobs:
            del self._waiters[gone.subject].parked[gone.lane]
            self._drop_if_empty(gone.subject)
        elif len(queue.keys) > 2 * queue.jobs + _HEAP_SLACK:
            held = {key: self._parked.get(key[1]) for key in queue.keys}
            queue.keys = [
                key for key, of in held.items() if of and of.queue is queue and of.key == key
            ]
            heapify(queue.keys)

    def reopen(self, lane: Lane) -> None:
        """A lane waits no longer: its gate is looked at again, or it holds nothing any more."""
        closed = self._closed.pop(lane, None)
        if closed is not None:
            subject = closed[0]
            self._waiters[subject].lanes.pop(lane, None)
            self._drop_if_empty(subject)

    def _under(self, subject: Subject) -> _Waiters:
        return self._waiters.setdefault(subject, _Waiters())

    def _watch(self, subject: Subject, opens_at: int | None) -> None:
        """All who wait for a subject are looked at when the first of their instants has come."""
        if opens_at is None:
            return
        opens = opens_at + self.lost_us
        if opens >= self._opens.get(subject, opens + 1):
            return
        self._opens[subject] = opens
        heappush(self._clock, (opens, subject))
        if len(self._clock) > 2 * len(self._opens) + _HEAP_SLACK:
            self._clock = [(at, of) for of, at in self._opens.items()]
            heapify(self._clock)

    def _drop_if_empty(self, subject: Subject) -> None:
        waiters = self._waiters.get(subject)
        if waiters is not None and not waiters.lanes and not waiters.parked:
            del self._waiters[subject]
            self._opens.pop(subject, None)
