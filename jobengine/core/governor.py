"""The governor: how many jobs of each tenant may run, so that all tenants share one capacity.

It is told the policy and, by the lease shards, what each tenant runs and could run; it commands
allotments, which the shards enforce. While the policy is ``unlimited`` it says nothing and is told
nothing.

Definitions. What a tenant *holds* says ``tenant_slots``. A slot is *free* when nobody holds it.

I1  Slots are given out of those that are free, so all that is held, and with it all that runs,
    never exceeds the capacity; unless it did when the policy came, and then nothing is given until
    it does no longer.
I2  Nothing is given before every shard has said what runs, and nothing to tenants of a shard that
    has to say it anew; meanwhile they hold what they held.
I3  What nobody else wants is left with whoever has demand.
I4  Where whole slots cannot be shared evenly, the odd ones go round: every ``turn_s`` it is counted
    who had more than its share and who less, and who is short goes first. So no tenant that is
    entitled to a part of a slot waits for ever.

Not here: the division itself (``shares``), what is known of one tenant (``tenant_slots``), where
the policy is stored (the ledger of the system tenant), enforcement (``lease_shard/allotments``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never

import attrs

from jobengine.core.machine import Answer
from jobengine.core.shares import Want, divide, most_of
from jobengine.core.tenant_slots import TenantSlots
from jobengine.domain.governance import UNLIMITED, Governance, Share, Strategy
from jobengine.domain.ids import shard_of
from jobengine.domain.instant import Moment
from jobengine.messages.admission import Allot
from jobengine.messages.governor import (
    Allotted,
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


@attrs.frozen(kw_only=True)
class GovernorLimits:
    """Seconds: between two divisions, until a fall of demand counts, and of a turn."""

    pause_s: float = 0.01
    linger_s: float = 0.1
    turn_s: float = 1.0


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
        self._tenants: dict[str, TenantSlots] = {}
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

    @property
    def capacity(self) -> int | None:
        """Slots of all tenants together; None while nothing is governed."""
        return self._told.policy.capacity if self._governs else None

    def holdings(self) -> Iterator[Holding]:
        """Of every tenant with demand or an allotment, in no order; none while nothing is."""
        for tenant in self._tenants.values() if self._governs else ():
            yield tenant.holding

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
                tenant.begin_anew(0, 0)
        for demand in message.demands:
            self._tenant(demand.tenant_id).begin_anew(demand.running, demand.waiting)
        self._divide_soon()

    def _take_answer(self, message: Allotted) -> None:
        tenant = self._tenants.get(message.tenant_id)
        if tenant is None or tenant.stamp != message.stamp:
            return
        tenant.take_answer(message.running)
        self._divide_soon()

    def _take_demands(self, message: Demands) -> None:
        if not self._governs or message.shard in self._asked:
            return
        for demand in message.demands:
            tenant = self._tenant(demand.tenant_id)
            tenant.take_demand(demand.running, demand.waiting, self._now_s)
        self._divide_soon()

    # ---- division

    def _divide_soon(self) -> None:
        """What is told at about the same time is taken together."""
        soon_at = self._now_s + self._limits.pause_s
        self._divide_at = soon_at if self._divide_at is None else min(self._divide_at, soon_at)

    def _divide(self) -> Iterator[Allot]:
        policy = self._told.policy
        for tenant in self._tenants.values():
            tenant.let_fall(self._now_s, self._limits.linger_s)
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
            most = most_of(policy, self._share(tenant.tenant_id))
            in_excess = wanted > free or not tenant.demand or tenant.allotment > most
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

    def _allot(self, tenant: TenantSlots, slots: int) -> Allot:
        tenant.allot(slots, self._stamp())
        return Allot(tenant_id=tenant.tenant_id, slots=slots, stamp=tenant.stamp)

    def _keep_reserves(self, policy: Governance) -> None:
        """Whoever has a reserve is known, with demand or without."""
        if policy.strategy is Strategy.RESERVED:
            for share in policy.tenants:
                if share.reserved:
                    self._tenant(share.tenant_id)

    def _count_turn(self) -> None:
        """I4"""
        if not self._in_turn or self._now_s < self._turn_at:
            return
        self._turn_at = self._now_s + self._limits.turn_s
        for tenant in self._tenants.values():
            tenant.count_turn(self._in_turn.get(tenant.tenant_id))

    def _next_at(self) -> float | None:
        falls = (tenant.falls_at(self._limits.linger_s) for tenant in self._tenants.values())
        instants = [at for at in falls if at is not None]
        if self._in_turn:
            instants.append(self._turn_at)
        return min(instants, default=None)

    # ---- what is known

    def _tenant(self, tenant_id: str) -> TenantSlots:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = TenantSlots(tenant_id, shard_of(tenant_id, self._shards))
            self._tenants[tenant_id] = tenant
        return tenant

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
            holdings=tuple(sorted(self.holdings())),
        )
