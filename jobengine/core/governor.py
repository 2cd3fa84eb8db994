"""The governor: how many jobs of each tenant may run, so that all tenants share one capacity.

It is told the policy and, by the lease shards, what each tenant runs and could run; it commands
allotments, which the shards enforce. While the policy is ``unlimited`` it says nothing and is told
nothing.

Definitions. A tenant *holds* the slots that it may still be using: its allotment, but while a lower
one is on its way the old one, and while more run than it allows, as many as run. A slot is *free*
when nobody holds it.

I1  Slots are given out of those that are free, so all that is held, and with it all that runs,
    never exceeds the capacity; unless it did when the policy came, and then nothing is given until
    it does no longer.
I2  At most one allotment of a tenant is on its way. What a shard says of a tenant before it has
    answered that one does not lower what the tenant holds.
I3  Nothing is given before every shard has said what runs, and nothing to tenants of a shard that
    has to say it anew; meanwhile they hold what they held.
I4  A fall of demand counts when it has lasted ``linger_s``: the moment between two jobs of a worker
    is no reason to give its slot away. What nobody else wants is left with whoever has demand.
I5  Where whole slots cannot be shared evenly, the odd ones go round: every ``turn_s`` it is counted
    who had more than its share and who less, and who is short goes first. So no tenant that is
    entitled to a part of a slot waits for ever.

Not here: the division itself (``shares``), where the policy is stored (the ledger of the system
tenant), enforcement (``lease_shard/allotments``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never

import attrs

from jobengine.core.machine import Answer
from jobengine.core.shares import MICRO, Want, divide
from jobengine.domain.governance import CAPACITY_MAX, UNLIMITED, Governance, Share, Strategy
from jobengine.domain.ids import shard_of
from jobengine.domain.instant import Moment
from jobengine.messages.admission import Allot
from jobengine.messages.governor import (
    Allotted,
    Demand,
    Demands,
    Govern,
    GovernanceAnswer,
    Governed,
    Holding,
    PolicyChanged,
    ReadGovernance,
    ShardBegun,
)
from jobengine.messages.wake import Wake

__all__ = ["Governor", "GovernorLimits", "GovernorMessage"]

GovernorMessage = PolicyChanged | ShardBegun | Governed | Allotted | Demands | ReadGovernance

_INCARNATION_SHIFT: Final = 40
_CREDIT_MAX: Final = 10 * MICRO


@attrs.frozen(kw_only=True)
class GovernorLimits:
    """Seconds: between two divisions, until a fall of demand counts, and of a turn."""

    pause_s: float = 0.01
    linger_s: float = 0.1
    turn_s: float = 1.0


@attrs.define(eq=False)
class _Tenant:
    """``demand`` is what counts of running + waiting; ``stamp`` that of the allotment on its way,
    or 0; ``credit`` in millionths of a slot."""

    tenant_id: str
    shard: int
    running: int = 0
    waiting: int = 0
    demand: int = 0
    fell_at: float | None = None
    allotment: int = 0
    held: int = 0
    stamp: int = 0
    credit: int = 0

    @property
    def empty(self) -> bool:
        return not (self.demand or self.allotment or self.held or self.stamp)


class Governor:
    """``governed``: whether the shards have been told to obey allotments, by an earlier life."""

    def __init__(
        self,
        shards: int,
        limits: GovernorLimits,
        incarnation: int = 1,
        *,
        governed: bool = False,
    ) -> None:
        self._shards = shards
        self._limits = limits
        self._governs = governed
        self._told = PolicyChanged(policy=UNLIMITED, revision=-1, changed_at=0)
        self._shares: dict[str, Share] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._asked: dict[int, int] = {}
        self._silent: dict[int, None] = {}
        self._in_turn: dict[str, int] = {}
        self._turn_at = 0.0
        self._now_s = 0.0
        self._divide_at: float | None = None
        self._last_stamp = incarnation << _INCARNATION_SHIFT

    @property
    def wakeup_at(self) -> float | None:
        """When to divide anew: something has changed, a fall has lasted, or a turn is over."""
        return self._divide_at if self._governs and not self.counting else None

    @property
    def counting(self) -> bool:
        """Whether some shard has not yet said what runs, so that nothing can be given."""
        return bool(self._silent)

    @property
    def held(self) -> int:
        """Slots that are not free."""
        return sum(tenant.held for tenant in self._tenants.values())

    def handle(self, message: GovernorMessage | Wake, now: Moment) -> Sequence[Any]:
        self._now_s = now.mono
        commands: list[Any] = []
        match message:
            case PolicyChanged():
                commands.extend(self._change_policy(message))
            case ShardBegun():
                if self._governs:
                    commands.append(self._ask(message.shard))
            case Governed():
                self._take_shard(message)
            case Allotted():
                self._take_answer(message)
            case Demands():
                self._take_demands(message)
            case ReadGovernance():
                commands.append(Answer(message.ask_id, self._answer()))
            case Wake():
                pass
            case _:
                assert_never(message)
        due_at = self.wakeup_at
        if due_at is not None and due_at <= now.mono:
            commands.extend(self._divide())
        return commands

    # ---- what is told

    def _change_policy(self, message: PolicyChanged) -> Iterator[Govern]:
        if message.revision <= self._told.revision:
            return
        is_first, governed = self._told.revision < 0, self._governs
        self._told = message
        self._shares = {share.tenant_id: share for share in message.policy.tenants}
        self._governs = message.policy.strategy is not Strategy.UNLIMITED
        self._divide_soon()
        if governed and self._governs and not is_first:
            return
        if governed or self._governs:
            self._tenants, self._in_turn, self._asked = {}, {}, {}
            self._silent = dict.fromkeys(range(self._shards)) if self._governs else {}
            for shard in range(self._shards):
                yield self._ask(shard)

    def _ask(self, shard: int) -> Govern:
        stamp = self._stamp()
        if self._governs:
            self._asked[shard] = stamp
        return Govern(shard=shard, stamp=stamp, governed=self._governs)

    def _take_shard(self, message: Governed) -> None:
        """A shard has forgotten every allotment: its tenants hold what they run."""
        if self._asked.get(message.shard) != message.stamp:
            return
        del self._asked[message.shard]
        self._silent.pop(message.shard, None)
        for tenant in self._tenants.values():
            if tenant.shard == message.shard:
                tenant.running = tenant.waiting = tenant.demand = 0
                tenant.allotment = tenant.held = tenant.stamp = 0
                tenant.fell_at = None
        for demand in message.demands:
            tenant = self._tenant(demand.tenant_id)
            tenant.running, tenant.waiting = demand.running, demand.waiting
            tenant.demand = demand.running + demand.waiting
            tenant.held = demand.running
        self._divide_soon()

    def _take_answer(self, message: Allotted) -> None:
        tenant = self._tenants.get(message.tenant_id)
        if tenant is None or tenant.stamp != message.stamp:
            return
        tenant.stamp = 0
        tenant.running = message.running
        tenant.held = max(tenant.allotment, message.running)
        self._divide_soon()

    def _take_demands(self, message: Demands) -> None:
        if not self._governs or message.shard in self._asked:
            return
        for demand in message.demands:
            self._take_demand(self._tenant(demand.tenant_id), demand)
        self._divide_soon()

    def _take_demand(self, tenant: _Tenant, demand: Demand) -> None:
        tenant.running, tenant.waiting = demand.running, demand.waiting
        if not tenant.stamp:
            tenant.held = max(tenant.allotment, demand.running)
        if demand.running + demand.waiting >= tenant.demand:
            tenant.demand = demand.running + demand.waiting
            tenant.fell_at = None
        elif tenant.fell_at is None:
            tenant.fell_at = self._now_s

    # ---- division

    def _divide_soon(self) -> None:
        """What is told at about the same time is taken together."""
        soon_at = self._now_s + self._limits.pause_s
        self._divide_at = soon_at if self._divide_at is None else min(self._divide_at, soon_at)

    def _divide(self) -> Iterator[Allot]:
        policy = self._told.policy
        self._let_fall()
        self._keep_reserves(policy)
        self._count_turn()
        wants = [
            Want(self._share(tenant.tenant_id), tenant.demand, tenant.credit)
            for tenant in self._tenants.values()
        ]
        slots, in_turn = divide(policy, wants)
        self._in_turn = dict(in_turn)
        yield from self._move(policy, slots)
        for tenant_id in [name for name, tenant in self._tenants.items() if tenant.empty]:
            del self._tenants[tenant_id]
        self._divide_at = self._next_at()

    def _move(self, policy: Governance, slots: Mapping[str, int]) -> Iterator[Allot]:
        """One step from what is allotted to what should be."""
        assert policy.capacity is not None
        free = policy.capacity - self.held
        movable = [
            tenant
            for tenant in self._tenants.values()
            if not tenant.stamp and tenant.shard not in self._asked
        ]
        short = [tenant for tenant in movable if slots[tenant.tenant_id] > tenant.allotment]
        wanted = sum(max(0, slots[tenant.tenant_id] - tenant.held) for tenant in short)
        for tenant in movable:
            target = slots[tenant.tenant_id]
            in_excess = wanted > free or not tenant.demand or tenant.allotment > self._most(tenant)
            if tenant.allotment > target and in_excess:
                yield self._allot(tenant, target)
        classed = policy.strategy is Strategy.PRIORITY
        short.sort(
            key=lambda tenant: (
                -self._share(tenant.tenant_id).priority if classed else 0,
                tenant.held,
                tenant.tenant_id,
            )
        )
        for tenant in short:
            given = min(slots[tenant.tenant_id], tenant.held + max(0, free))
            if given > tenant.allotment:
                free -= max(0, given - tenant.held)
                yield self._allot(tenant, given)

    def _allot(self, tenant: _Tenant, slots: int) -> Allot:
        tenant.stamp = self._stamp()
        tenant.allotment = slots
        tenant.held = max(tenant.held, slots)
        return Allot(tenant_id=tenant.tenant_id, slots=slots, stamp=tenant.stamp)

    def _let_fall(self) -> None:
        """I4"""
        for tenant in self._tenants.values():
            if tenant.fell_at is not None and tenant.fell_at + self._limits.linger_s <= self._now_s:
                tenant.demand = tenant.running + tenant.waiting
                tenant.fell_at = None

    def _keep_reserves(self, policy: Governance) -> None:
        """Whoever has a reserve is known, with demand or without."""
        if policy.strategy is Strategy.RESERVED:
            for share in policy.tenants:
                if share.reserved:
                    self._tenant(share.tenant_id)

    def _count_turn(self) -> None:
        """I5"""
        if not self._in_turn or self._now_s < self._turn_at:
            return
        self._turn_at = self._now_s + self._limits.turn_s
        for tenant in self._tenants.values():
            entitled = self._in_turn.get(tenant.tenant_id)
            if entitled is None:
                tenant.credit = 0
            else:
                credit = tenant.credit + entitled - tenant.held * MICRO
                tenant.credit = max(-_CREDIT_MAX, min(credit, _CREDIT_MAX))

    def _next_at(self) -> float | None:
        linger_s = self._limits.linger_s
        instants = [
            tenant.fell_at + linger_s
            for tenant in self._tenants.values()
            if tenant.fell_at is not None
        ]
        if self._in_turn:
            instants.append(self._turn_at)
        return min(instants, default=None)

    # ---- what is known

    def _tenant(self, tenant_id: str) -> _Tenant:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = _Tenant(tenant_id, shard_of(tenant_id, self._shards))
            self._tenants[tenant_id] = tenant
        return tenant

    def _most(self, tenant: _Tenant) -> int:
        """What a tenant may have even where nobody else wants it."""
        if self._told.policy.strategy is not Strategy.MAX_LIMIT:
            return CAPACITY_MAX
        return self._share(tenant.tenant_id).cap or CAPACITY_MAX

    def _share(self, tenant_id: str) -> Share:
        return self._shares.get(tenant_id) or Share(tenant_id=tenant_id)

    def _stamp(self) -> int:
        self._last_stamp += 1
        return self._last_stamp

    def _answer(self) -> GovernanceAnswer:
        told = self._told
        return GovernanceAnswer(
            policy=told.policy,
            revision=max(0, told.revision),
            changed_at=told.changed_at if told.revision > 0 else None,
            holdings=[
                Holding(
                    tenant.tenant_id,
                    tenant.allotment,
                    tenant.held,
                    tenant.running,
                    tenant.waiting,
                )
                for _, tenant in sorted(self._tenants.items())
            ]
            if self._governs
            else (),
        )
