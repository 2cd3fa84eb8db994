"""Allotments: what the governor lets each tenant of this shard run, and what it is told of them.

The shard enforces an allotment exactly, in its granting step (``gates``); it has no say in how
large it is. Of a tenant's *demand* it tells what runs, and what *waits*: jobs that only the
allotment keeps from free slots of workers.

I1  What is told after ``Allotted`` or ``Governed`` was true after it.
I2  While no strategy is in force nothing is remembered, told or woken for.
I3  Demand is told when it has changed, and at most once in ``demand_interval_s``.

Not here: the division of a capacity (``core/governor``).
"""

from collections.abc import Iterable

from jobengine.core.lease_shard.closed_gate import allotment_subject
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.change import ControlRow
from jobengine.domain.control import decode_control
from jobengine.domain.governance import POLICY_NAME, SYSTEM_TENANT, Governance
from jobengine.messages.admission import Allot
from jobengine.messages.governor import (
    Allotted,
    Demand,
    Demands,
    Govern,
    Governed,
    PolicyChanged,
    ShardBegun,
)

__all__ = ["Allotments"]


class Allotments:
    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._told: dict[str, Demand] = {}
        self._again_at = 0.0

    @property
    def wakeup_at(self) -> float | None:
        """When demand that has changed may be told."""
        return self._again_at if self._state.touched else None

    def restore(self, controls: Iterable[ControlRow], *, governed: bool) -> None:
        """In the first message of a life: tell the policy, which may have changed unheard, and
        that nothing is allotted, where anything has to be."""
        state = self._state
        for row in controls:
            if (row.tenant_id, row.kind, row.name) == (SYSTEM_TENANT, "governance", POLICY_NAME):
                policy = decode_control(row.kind, bytes(row.body))
                assert isinstance(policy, Governance)
                told = PolicyChanged(policy=policy, revision=row.revision, changed_at=row.at)
                state.commands.append(told)
        if governed:
            state.gates.allotments = {}
            state.commands.append(ShardBegun(shard=state.shard))

    def govern(self, message: Govern) -> None:
        """Allotments begin to count, and all are nothing; or they count no longer."""
        state = self._state
        self._told = {}
        state.touched = {}
        if not message.governed:
            state.gates.allotments = None
            for tenant_id in state.waiting_room.tenants():
                state.open_subject(allotment_subject(tenant_id))
            return
        state.gates.allotments = {}
        tenants = dict.fromkeys((*state.kinds.tenants_holding(), *state.waiting_room.tenants()))
        state.commands.append(
            Governed(shard=state.shard, stamp=message.stamp, demands=self._changed(tenants))
        )

    def allot(self, message: Allot) -> None:
        state, tenant_id = self._state, message.tenant_id
        allotments = state.gates.allotments
        if allotments is not None:
            before = allotments.get(tenant_id, 0)
            if message.slots:
                allotments[tenant_id] = message.slots
            else:
                allotments.pop(tenant_id, None)
            if message.slots > before:
                state.free_places(allotment_subject(tenant_id), message.slots - before)
            state.touch(tenant_id)
        state.commands.append(
            Allotted(tenant_id=tenant_id, stamp=message.stamp, running=self._running(tenant_id))
        )

    def tell_demands(self) -> None:
        """Tell what has changed, if it is time."""
        state = self._state
        if not state.touched or state.now.mono < self._again_at:
            return
        changed = self._changed(state.touched)
        state.touched = {}
        if changed:
            self._again_at = state.now.mono + state.limits.demand_interval_s
            state.commands.append(Demands(shard=state.shard, demands=changed))

    def _changed(self, tenants: Iterable[str]) -> list[Demand]:
        """What of these tenants differs from what was told last."""
        changed = []
        for tenant_id in tenants:
            demand = Demand(tenant_id, self._running(tenant_id), self._waiting(tenant_id))
            idle = not (demand.running or demand.waiting)
            if demand == self._told.get(tenant_id) or (idle and tenant_id not in self._told):
                continue
            if idle:
                del self._told[tenant_id]
            else:
                self._told[tenant_id] = demand
            changed.append(demand)
        return changed

    def _running(self, tenant_id: str) -> int:
        return self._state.occupancy.of((tenant_id, "tenant", ""))

    def _waiting(self, tenant_id: str) -> int:
        state = self._state
        lanes = state.waiting_room.lanes_under(allotment_subject(tenant_id))
        return state.sessions.fillable([(lane, len(state.window(lane))) for lane in lanes])
