"""A governor among shards that obey it, with every message under the test's control.

A shard here is the protocol and nothing else: it starts what its allotments and its workers let it
start. Messages lie in a queue for each direction of each shard; time is moved by hand.
"""

from collections import Counter, deque
from typing import Any

import attrs

from jobengine.core.governor import Governor, GovernorLimits
from jobengine.domain.governance import Governance, Share, Strategy
from jobengine.domain.ids import shard_of
from jobengine.domain.instant import Moment
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
from jobengine.messages.wake import Wake

SHARDS = 3


def policy(strategy: str, capacity: int, **shares: dict[str, int]) -> Governance:
    listed = tuple(Share(tenant_id=name, **given) for name, given in shares.items())
    return Governance(capacity=capacity, strategy=Strategy(strategy), tenants=listed)


@attrs.define(eq=False)
class Shard:
    number: int
    inbox: deque[Any] = attrs.field(factory=deque)
    outbox: deque[Any] = attrs.field(factory=deque)
    allotments: dict[str, int] | None = None
    running: Counter[str] = attrs.field(factory=Counter)
    backlog: Counter[str] = attrs.field(factory=Counter)
    told: dict[str, Demand] = attrs.field(factory=dict)

    def take(self) -> None:
        match self.inbox.popleft():
            case Govern(stamp=stamp, governed=governed):
                self.allotments = {} if governed else None
                self.told = {}
                if governed:
                    self.outbox.append(
                        Governed(shard=self.number, stamp=stamp, demands=self._changed())
                    )
            case Allot(tenant_id=tenant_id, slots=slots, stamp=stamp):
                if self.allotments is not None:
                    self.allotments[tenant_id] = slots
                running = self.running[tenant_id]
                self.outbox.append(Allotted(tenant_id=tenant_id, stamp=stamp, running=running))
        self.start()

    def start(self) -> None:
        for tenant_id in self.backlog:
            while self.backlog[tenant_id] and self._may_start(tenant_id):
                self.backlog[tenant_id] -= 1
                self.running[tenant_id] += 1

    def tell(self) -> None:
        if self.allotments is not None and (changed := self._changed()):
            self.outbox.append(Demands(shard=self.number, demands=changed))

    def crash(self, *, governed: bool, loses_one: bool) -> None:
        """Rebuilt from what runs; ``loses_one``: it had taken a message that it never answered."""
        if loses_one and self.inbox:
            self.inbox.popleft()
        self.allotments = {} if governed else None
        self.told = {}
        if governed:
            self.outbox.append(ShardBegun(shard=self.number))
        self.start()

    def _may_start(self, tenant_id: str) -> bool:
        if self.allotments is None:
            return True
        return self.running[tenant_id] < self.allotments.get(tenant_id, 0)

    def _changed(self) -> list[Demand]:
        changed = []
        for tenant_id in dict.fromkeys((*self.running, *self.backlog)):
            waiting = 0 if self._may_start(tenant_id) else self.backlog[tenant_id]
            demand = Demand(tenant_id, self.running[tenant_id], waiting)
            if self.told.get(tenant_id, Demand(tenant_id, 0, 0)) != demand:
                self.told[tenant_id] = demand
                changed.append(demand)
        return changed


class World:
    """``check`` runs after every step of anybody."""

    def __init__(self, first: Governance | None = None) -> None:
        self.now_s = 100.0
        self.shards = [Shard(number) for number in range(SHARDS)]
        self.commands: list[Any] = []
        self.revision = 0
        self.flag = False
        self.lives = 1
        self.policy = Governance()
        self.governor = Governor(SHARDS, GovernorLimits())
        self.known_held: int | None = None
        self.send(PolicyChanged(policy=self.policy, revision=0, changed_at=0))
        if first is not None:
            self.change(first)

    def shard(self, tenant_id: str) -> Shard:
        return self.shards[shard_of(tenant_id, SHARDS)]

    def running(self, tenant_id: str | None = None) -> int:
        if tenant_id is not None:
            return self.shard(tenant_id).running[tenant_id]
        return sum(sum(shard.running.values()) for shard in self.shards)

    def allotment(self, tenant_id: str) -> int:
        return (self.shard(tenant_id).allotments or {}).get(tenant_id, 0)

    def send(self, message: Any) -> None:
        for command in self.governor.handle(message, Moment(self.now_s, 0)):
            self.commands.append(command)
            if isinstance(command, Govern):
                self.flag = command.governed
                self.shards[command.shard].inbox.append(command)
            elif isinstance(command, Allot):
                self.shard(command.tenant_id).inbox.append(command)
        self.check()

    def change(self, to: Governance) -> None:
        self.policy = to
        self.revision += 1
        self.send(PolicyChanged(policy=to, revision=self.revision, changed_at=1))

    def restart_governor(self) -> None:
        self.lives += 1
        self.governor = Governor(SHARDS, GovernorLimits(), self.lives, governed=self.flag)
        self.known_held = None
        self.send(PolicyChanged(policy=self.policy, revision=self.revision, changed_at=1))

    def submit(self, tenant_id: str, jobs: int) -> None:
        shard = self.shard(tenant_id)
        shard.backlog[tenant_id] += jobs
        shard.start()
        self.check()

    def finish(self, tenant_id: str, jobs: int = 1) -> None:
        shard = self.shard(tenant_id)
        shard.running[tenant_id] -= min(jobs, shard.running[tenant_id])
        shard.start()
        self.check()

    def crash(self, number: int, *, loses_one: bool = False) -> None:
        self.shards[number].crash(governed=self.flag, loses_one=loses_one)
        self.check()

    def to_shard(self, number: int) -> None:
        if self.shards[number].inbox:
            self.shards[number].take()
            self.check()

    def to_governor(self, number: int) -> None:
        if self.shards[number].outbox:
            self.send(self.shards[number].outbox.popleft())

    def wait(self, seconds: float) -> None:
        """Time passes and no message arrives."""
        until_s = self.now_s + seconds
        while (at := self.governor.wakeup_at) is not None and at <= until_s:
            self.now_s = max(self.now_s, at)
            self.send(Wake())
        self.now_s = until_s

    def settle(self, seconds: float = 0.5) -> None:
        """Time passes and everything that is said arrives."""
        for _ in range(round(seconds / 0.05)):
            for _ in range(6):
                for shard in self.shards:
                    while shard.inbox:
                        self.to_shard(shard.number)
                    shard.tell()
                    while shard.outbox:
                        self.to_governor(shard.number)
                self.wait(0.01)

    def check(self) -> None:
        """What runs is held; and what is held never grows past the capacity."""
        governor, capacity = self.governor, self.policy.capacity
        if capacity is None or self.policy.strategy is Strategy.UNLIMITED or governor.counting:
            self.known_held = None
            return
        assert self.running() <= governor.held
        if self.known_held is not None:
            assert governor.held <= max(capacity, self.known_held)
        self.known_held = governor.held
