"""The slots of a worker: which lease has a handler, which waits, which handler must stop.

A lease is *held* while a handler has it, *waiting* while no slot is free for it, *abandoned* when
its handler outlived its grace: it still fills a slot, but its lease has been reported.

Invariants
    I1  At most `capacity` leases are held, abandoned ones included; at most as many wait.
    I2  A handler is told to stop once, with the first reason.

Deliberately not here: what is reported for a lease (`session`).
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

import msgspec

from jobengine.sdk.commands import StopReason
from jobengine.wire.engine_messages import Lease


class Held(msgspec.Struct, eq=False, gc=False):
    """One running handler. Times are monotonic seconds, `inf` for never."""

    token: int
    quiet_since: float
    stall_at: float
    deadline: float = inf
    escalate_at: float = inf
    stop: StopReason | None = None
    abandoned: bool = False


class Due(NamedTuple):
    """What `due` found: handlers over their time, over their grace, and silent ones."""

    timed_out: list[str]
    over_grace: list[str]
    stalled: list[tuple[str, float]]


class Slots:
    """See the module. `timeouts_s` is by job type; the shorter of it and the lease's holds."""

    def __init__(self, capacity: int, timeouts_s: Mapping[str, float], stall_s: float) -> None:
        self.capacity = capacity
        self.held: dict[str, Held] = {}
        self.waiting: dict[str, Lease] = {}
        self.check_at = inf
        self._timeouts_s = timeouts_s
        self._stall_s = stall_s

    def start(self, lease: Lease, now: float) -> bool:
        """Take a slot for the lease; False when none is free (I1)."""
        if len(self.held) >= self.capacity:
            return False
        stall_at = now + self._stall_s
        self.held[lease.lease_id] = held = Held(lease.token, now, stall_at)
        if stall_at < self.check_at:
            self.check_at = stall_at
        if self._timeouts_s or lease.timeout_seconds is not None:
            held.deadline = now + self._timeout_s(lease)
            self.check_at = min(self.check_at, held.deadline)
        return True

    def _timeout_s(self, lease: Lease) -> float:
        timeout_s = self._timeouts_s.get(lease.job_type, inf)
        return timeout_s if lease.timeout_seconds is None else min(timeout_s, lease.timeout_seconds)

    def wait(self, lease: Lease) -> bool:
        """Keep the lease until a slot is free; False when too many wait."""
        if len(self.waiting) >= self.capacity:
            return False
        self.waiting[lease.lease_id] = lease
        return True

    def start_waiting(self, now: float) -> Iterator[Lease]:
        """Start the leases that have waited longest while slots are free."""
        while self.waiting and len(self.held) < self.capacity:
            lease = self.waiting.pop(next(iter(self.waiting)))
            self.start(lease, now)
            yield lease

    def active(self) -> list[str]:
        """Leases with a handler that is not abandoned, oldest first."""
        return [lease_id for lease_id, held in self.held.items() if not held.abandoned]

    def resumable(self) -> dict[str, int]:
        """Lease id → token of all that is held or waits and may still be ours."""
        tokens = {
            lease_id: held.token
            for lease_id, held in self.held.items()
            if not held.abandoned and held.stop != "lost"
        }
        return tokens | {lease_id: lease.token for lease_id, lease in self.waiting.items()}

    def stop(self, lease_id: str, reason: StopReason, escalate_at: float) -> bool:
        """Mark a handler as told to stop; False when it has none or was told before (I2).

        A lost lease overrides the earlier reason, since nothing may be reported for it.
        """
        held = self.held.get(lease_id)
        if held is None or held.abandoned:
            return False
        if held.stop is not None:
            if reason == "lost":
                held.stop = reason
            return False
        held.stop = reason
        held.deadline = held.stall_at = inf
        held.escalate_at = escalate_at
        self.check_at = min(self.check_at, escalate_at)
        return True

    def abandon(self, lease_id: str) -> StopReason:
        """Give up on a stopped handler; its slot stays taken until it ends."""
        held = self.held[lease_id]
        assert held.stop is not None
        held.abandoned = True
        held.escalate_at = inf
        return held.stop

    def alive(self, lease_id: str, now: float) -> None:
        """A handler gave a sign of life."""
        held = self.held.get(lease_id)
        if held is not None and held.stop is None:
            held.quiet_since = now
            held.stall_at = now + self._stall_s
            self.check_at = min(self.check_at, held.stall_at)

    def due(self, now: float) -> Due:
        """What has become due; each stall is named once. Costs one pass over the held leases."""
        found = Due([], [], [])
        if now < self.check_at:
            return found
        self.check_at = inf
        for lease_id, held in self.held.items():
            if held.deadline <= now:
                found.timed_out.append(lease_id)
                continue
            if held.escalate_at <= now:
                found.over_grace.append(lease_id)
                continue
            if held.stall_at <= now:
                found.stalled.append((lease_id, now - held.quiet_since))
                held.stall_at = inf
            self.check_at = min(self.check_at, held.deadline, held.escalate_at, held.stall_at)
        return found
