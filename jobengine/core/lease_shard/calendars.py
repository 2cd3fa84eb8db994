"""Calendars: what happens when a blackout begins or ends, besides that its gate closes or opens.

I1  Each window that begins or ends while the shard lives is recorded, as ``blackout.began`` and
    ``blackout.ended``.
I2  A blackout with ``drain`` asks for the leases in its scope back when its window begins; a worker
    that goes on is not stopped, and its outcome counts.

Not here: the gate (``gates``), the arithmetic of calendars (``domain/blackout``).
"""

from heapq import heapify, heappop, heappush

import msgspec

from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.domain.blackout import Blackout, BlackoutGate, BlackoutScope
from jobengine.domain.job import Job
from jobengine.messages.session import StopLease

__all__ = ["Calendars"]

_json = msgspec.json.Encoder(order="sorted")
_WALL_CHECK_S = 30.0


class Calendars:
    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._changes: list[tuple[int, str, str]] = []

    @property
    def wakeup_at(self) -> float | None:
        """Monotonic instant of the next window to begin or end."""
        if not self._changes:
            return None
        now = self._state.now
        return now.mono + min((self._changes[0][0] - now.at) / 1_000_000, _WALL_CHECK_S)

    def watch(self, tenant_id: str) -> None:
        """Take a tenant's calendars as they are now."""
        self._changes = [change for change in self._changes if change[1] != tenant_id]
        for name, _ in self._state.gates.controls(tenant_id).all_of(Blackout):
            gate = self._gate(tenant_id, name)
            at = None if gate is None else gate.next_change_at(self._state.now.at)
            if at is not None:
                self._changes.append((at, tenant_id, name))
        heapify(self._changes)

    def wake(self) -> None:
        """Record and act on what has begun or ended."""
        state = self._state
        while self._changes and self._changes[0][0] <= state.now.at:
            _, tenant_id, name = heappop(self._changes)
            gate = self._gate(tenant_id, name)
            if gate is None:
                continue
            self._record(tenant_id, name, gate)
            next_at = gate.next_change_at(state.now.at)
            if next_at is not None:
                heappush(self._changes, (next_at, tenant_id, name))

    def _gate(self, tenant_id: str, name: str) -> BlackoutGate | None:
        return self._state.gates.controls(tenant_id).blackout(name)

    def _record(self, tenant_id: str, name: str, gate: BlackoutGate) -> None:
        state = self._state
        until_at = gate.closed_until(state.now.at)
        draft = state.draft(tenant_id, ENGINE)
        if until_at is None:
            draft.remark("blackout.ended", _json.encode({"name": name}))
        else:
            draft.remark("blackout.began", _json.encode({"name": name, "endsAt": until_at}))
            if gate.blackout.drain:
                self._ask_back(tenant_id, gate.blackout)
        state.commit(draft, Pending())

    def _ask_back(self, tenant_id: str, blackout: Blackout) -> None:
        state = self._state
        for lease in state.leases:
            if lease.job.tenant_id == tenant_id and _is_in_scope(lease.job, blackout):
                self._ask(lease)

    def _ask(self, lease: Lease) -> None:
        if lease.session is not None and lease.job.cancel_requested_at is None:
            stop = StopLease(
                lease_id=lease.lease_id,
                reason="blackout",
                grace_s=self._state.limits.cancel_grace_s,
            )
            self._state.tell(lease.session, stop)


def _is_in_scope(job: Job, blackout: Blackout) -> bool:
    match blackout.scope:
        case BlackoutScope.TENANT:
            return True
        case BlackoutScope.SOURCE:
            return job.definition.source_id == blackout.key
        case BlackoutScope.JOB_TYPE:
            return job.definition.job_type == blackout.key
