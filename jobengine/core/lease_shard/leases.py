"""The lease table of a shard: who runs what, until when.

Definitions. *Lease time* is the owner's monotonic clock less the time the ledger was away: while no
report could be made durable, no lease grows older.

I1  A job has at most one lease here; a lease is found by its job.
I2  A lease ends no earlier than one lease period after it was granted or last renewed, in lease
    time, and is found within a wake-up of falling due.
I3  A lease with a change in flight (granting or settling) is never ended by the clock.
I4  A lease is looked at when its earliest entry in the order falls due; the order holds at most
    about twice as many entries as there are leases.
I5  A table that is looked at long after it asked to be was asleep, as a frozen process is, and
    nobody was heard meanwhile: then every lease gets one more period, once until it is renewed.

Not here: what ending a lease does to the job.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush

import attrs
import msgspec

from jobengine.core.lease_shard.sessions import Session
from jobengine.domain.ids import lease_id
from jobengine.domain.job import Job

__all__ = ["Lease", "LeaseDue", "LeaseTable", "Phase"]


_BUSY_RECHECK_S = 0.5
_OVERSLEPT_S = 0.25
"""Monotonic seconds: far above what a busy event loop is late by, below the shortest lease."""
_ORDER_SLACK = 1024
_NEVER_S = float("inf")


class Phase(Enum):
    GRANTING = "granting"
    LIVE = "live"
    SETTLING = "settling"


class Lease(msgspec.Struct, eq=False, kw_only=True):
    """One attempt's lease; ``renewed_s``, ``timeout_s`` and ``watched_s``, when it is next looked
    at, are in lease time, and so is ``spared_s``, when I5 renewed it last. ``log_bytes``: of the
    lines stored of it by this owner; None once they have reached their limit."""

    job: Job
    lease_id: str
    attempt: int
    session: Session | None
    worker_id: str
    task_runner_id: str
    renewed_s: float
    timeout_s: float | None
    phase: Phase = Phase.GRANTING
    progress_stored_s: float = float("-inf")
    progress_unstored: bool = False
    log_bytes: int | None = 0
    spared_s: float = float("-inf")
    watched_s: float = _NEVER_S

    @classmethod
    def granted(cls, job: Job, session: Session, now_s: float) -> "Lease":
        """The lease of a job's present attempt, from now on in lease time."""
        timeout_us = job.definition.timeout_us
        return cls(
            job=job,
            lease_id=lease_id(job.job_id, job.attempt),
            attempt=job.attempt,
            session=session,
            worker_id=session.worker_id,
            task_runner_id=session.task_runner_id,
            renewed_s=now_s,
            timeout_s=None if timeout_us is None else now_s + timeout_us / 1_000_000,
        )

    def heard_s(self) -> float:
        """When its period began, in lease time: its grant, or what renewed it last."""
        if self.session is not None and self.session.beat_s > self.renewed_s:
            return self.session.beat_s
        return self.renewed_s

    def ends_s(self) -> float:
        """When it expires unless renewed, in lease time."""
        return self.heard_s() + self.job.definition.lease_us / 1_000_000

    def due_s(self) -> float:
        ends = self.ends_s()
        return ends if self.timeout_s is None else min(ends, self.timeout_s)


@attrs.frozen
class LeaseDue:
    """Whether a lease that fell due has expired has to be judged."""

    tenant_id: str
    lease: Lease


class LeaseTable:
    """Leases by job id, those that no session holds by their worker, and the order in which they
    fall due."""

    def __init__(self) -> None:
        self._by_job: dict[str, Lease] = {}
        self._by_id: dict[str, Lease] = {}
        self._unheld: dict[tuple[str, str], dict[str, Lease]] = {}
        self._due: list[tuple[float, str]] = []
        self._away_since: float | None = None
        self._away_total = 0.0

    def __len__(self) -> int:
        return len(self._by_job)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_job.values())

    def now_s(self, mono: float) -> float:
        """Lease time at a monotonic instant."""
        return (self._away_since if self._away_since is not None else mono) - self._away_total

    def stop_clock(self, mono: float) -> None:
        if self._away_since is None:
            self._away_since = mono

    def start_clock(self, mono: float) -> None:
        if self._away_since is not None:
            self._away_total += mono - self._away_since
            self._away_since = None

    @property
    def wakeup_at(self) -> float | None:
        """Monotonic instant of the next lease that may fall due; None while the clock stands."""
        if self._away_since is not None:
            return None
        self._forget_passed()
        return self._due[0][0] + self._away_total if self._due else None

    def add(self, lease: Lease) -> None:
        self._by_job[lease.job.job_id] = lease
        self._by_id[lease.lease_id] = lease
        if lease.session is None:
            self._note_unheld(lease)
        self._watch(lease, lease.due_s())

    def add_all(self, job_ids: Sequence[str], leases: Sequence[Lease]) -> None:
        """Add leases that begin now and are of one length; ``job_ids`` are those of their jobs."""
        self._by_job.update(zip(job_ids, leases, strict=True))
        self._by_id.update({lease.lease_id: lease for lease in leases})
        at_s = leases[0].due_s()
        for lease in leases:
            lease.watched_s = at_s
            heappush(self._due, (at_s, lease.lease_id))
        self._shorten()

    def of_job(self, job_id: str) -> Lease | None:
        return self._by_job.get(job_id)

    def find(self, lease: str, token: int) -> Lease | None:
        """The lease of this id if its fencing token agrees."""
        found = self._by_id.get(lease)
        return found if found is not None and found.attempt == token else None

    def remove(self, leases: Iterable[Lease]) -> None:
        """Leases that have ended."""
        by_job, by_id = self._by_job, self._by_id
        for lease in leases:
            job_id = lease.job.job_id
            del by_job[job_id]
            del by_id[lease.lease_id]
            if lease.session is not None:
                lease.session.leases.pop(job_id, None)
            else:
                self._forget_unheld(lease)

    def hand_to(self, session: Session, lease: Lease) -> None:
        """From whoever holds it, or from nobody."""
        if lease.session is not None:
            lease.session.leases.pop(lease.job.job_id, None)
        else:
            self._forget_unheld(lease)
        lease.session = session
        session.leases[lease.job.job_id] = lease

    def let_go_of(self, session: Session) -> None:
        """Its leases go on from when it was last heard, held by nobody."""
        for lease in session.leases.values():
            lease.renewed_s = max(lease.renewed_s, session.beat_s)
            lease.session = None
            self._note_unheld(lease)
        session.leases = {}

    def unheld_of(self, tenant_id: str, worker_id: str) -> Sequence[Lease]:
        """Those of a worker that no session holds."""
        return tuple(self._unheld.get((tenant_id, worker_id), {}).values())

    def _note_unheld(self, lease: Lease) -> None:
        worker = (lease.job.tenant_id, lease.worker_id)
        self._unheld.setdefault(worker, {})[lease.lease_id] = lease

    def _forget_unheld(self, lease: Lease) -> None:
        worker = (lease.job.tenant_id, lease.worker_id)
        left = self._unheld[worker]
        del left[lease.lease_id]
        if not left:
            del self._unheld[worker]

    def watch(self, lease: Lease) -> None:
        """Look at a lease again when it now falls due, for example after its timeout changed."""
        self._watch(lease, lease.due_s())

    def watch_later(self, lease: Lease, mono: float) -> None:
        """Look at a due lease again shortly: something is in flight that may settle it."""
        self._watch(lease, self.now_s(mono) + _BUSY_RECHECK_S)

    def pop_due(self, mono: float) -> list[Lease]:
        """Live leases that have fallen due, in order; each is returned once until watched."""
        if self._away_since is not None:
            return []
        self._forget_passed()
        if self._due and self._has_come(self._due[0][0] + _OVERSLEPT_S, mono):
            self._spare(self.now_s(mono))
        due: list[Lease] = []
        while self._due and self._has_come(self._due[0][0], mono):
            lease = self._by_id[heappop(self._due)[1]]
            lease.watched_s = _NEVER_S
            at_s = lease.due_s()
            if not self._has_come(at_s, mono):
                self._watch(lease, at_s)
            elif lease.phase is Phase.LIVE:
                due.append(lease)
            else:
                self.watch_later(lease, mono)
            self._forget_passed()
        return due

    def is_due(self, lease: Lease, mono: float) -> bool:
        """Whether one that had fallen due, and was not watched since, still is; one that is not,
        and has not ended, is watched again."""
        if self._by_id.get(lease.lease_id) is not lease:
            return False
        if lease.phase is not Phase.LIVE:
            self.watch_later(lease, mono)
        elif self._away_since is not None or not self._has_come(lease.due_s(), mono):
            self.watch(lease)
        else:
            return True
        return False

    def _forget_passed(self) -> None:
        """Take from the head of the order what nobody waits for: a lease that has ended, or that is
        looked at earlier. To wake for it would be in vain."""
        order, by_id = self._due, self._by_id
        while order:
            watched_s, name = order[0]
            lease = by_id.get(name)
            if lease is not None and lease.watched_s == watched_s:
                return
            heappop(order)

    def _spare(self, now_s: float) -> None:
        for lease in self._by_job.values():
            if lease.heard_s() > lease.spared_s:
                lease.renewed_s = lease.spared_s = now_s

    def _has_come(self, at_s: float, mono: float) -> bool:
        """In the very terms of ``wakeup_at``: sums of floats that differ would wake in vain."""
        return at_s + self._away_total <= mono

    def _watch(self, lease: Lease, at_s: float) -> None:
        if at_s >= lease.watched_s:
            return
        lease.watched_s = at_s
        heappush(self._due, (at_s, lease.lease_id))
        self._shorten()

    def _shorten(self) -> None:
        if len(self._due) > 2 * len(self._by_id) + _ORDER_SLACK:
            self._due = [(held.watched_s, name) for name, held in self._by_id.items()]
            heapify(self._due)
