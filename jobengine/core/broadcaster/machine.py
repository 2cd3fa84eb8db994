"""The broadcaster: decides what each reader of events gets, from where, and when.

Whoever follows a tenant is a *reader* with a filter and a cursor. What was published lately is held
in the tenant's *ring*; a reader that the ring does not reach back to is served from *pages* of the
ledger until it does. What is to be handed out waits in *line*; in a *round* so much of it is done
as the pace allows, and then others get the thread.

It hears from the ledger's shell (``Published``, ``Doubted``), from its own shell for the readers
(``Follow``, ``Leave``, ``Full``, ``Roomy``) and for the store (``LedgerRead``, ``LedgerUnread``).

I1  Each reader gets every event behind its cursor that its filter lets through, once and in order;
    what retention has taken is named by a ``gap``. See ``followed_tenant``.
I2  Readers with the same filter and cursor get the same ``Batch``.
I3  A reader that is full is given nothing; it costs its cursor.
I4  Memory is bounded by ``BroadcasterLimits`` and the number of readers; nothing is kept for a
    tenant that nobody follows.
I5  What is published costs next to nothing until a round gets to it; a round is bounded, and paced
    by what it took. See ``pace``.
I6  Readers without room, tenants that are busy and a store that does not answer delay nobody else:
    line and reads go round.

Not here: the wire (``http``), sinks and the store (``actors/broadcaster``).
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, assert_never

import attrs

from jobengine.core.broadcaster.followed_tenant import FollowedTenant
from jobengine.core.broadcaster.limits import BroadcasterLimits
from jobengine.core.broadcaster.pace import Pace
from jobengine.core.broadcaster.reads import LedgerReads
from jobengine.core.broadcaster.topic import Group, Reader
from jobengine.domain.instant import Moment
from jobengine.messages.broadcaster import (
    Command,
    Deliver,
    Doubted,
    Follow,
    Full,
    Leave,
    LedgerRead,
    LedgerUnread,
    Message,
    Moved,
    Published,
    Roomy,
    Rounded,
    Spare,
    TellLogged,
    TellMoved,
    TimeRound,
    Unwatch,
    Watch,
)
from jobengine.messages.wake import Wake

__all__ = ["BroadcasterCore", "Census"]

_INCARNATION_SHIFT: Final = 40
_UNITS_TO_DELIVER: Final = 8
_EVENTS_A_UNIT: Final = 8
_ANY_JOB: Final = "*"


@attrs.frozen(kw_only=True)
class Census:
    """How readers stand. ``behind`` are those that wait for the ledger or get its pages; ``lag`` is
    by how many events the last one is behind what was published."""

    readers: int
    behind: int
    full: int
    lag: int


class BroadcasterCore:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: BroadcasterLimits, incarnation: int = 1) -> None:
        self.wakeup_at: float | None = None
        self.pace = Pace()
        self._limits = limits
        self._reads = LedgerReads(limits, incarnation << _INCARNATION_SHIFT)
        self._line: deque[tuple[FollowedTenant, Group]] = deque()
        self._tenants: dict[str, FollowedTenant] = {}
        self._readers: dict[int, tuple[FollowedTenant, Reader]] = {}
        self._watchers: dict[int, None] = {}
        self._unmade: dict[FollowedTenant, None] = {}
        self._logged: dict[int, None] = {}
        self._rounding = False
        self._round = 0
        self._due_mono: float | None = None

    @property
    def readers(self) -> int:
        return len(self._readers)

    def census(self) -> Census:
        """Looks at every reader."""
        behind = full = lag = 0
        for tenant, reader in self._readers.values():
            group = reader.group
            if group is None:
                full += 1
            elif group.behind or group.paged:
                behind += 1
            if tenant.ring.begun:
                lag = max(lag, tenant.ring.tip - tenant.position(reader))
        return Census(readers=len(self._readers), behind=behind, full=full, lag=lag)

    def handle(self, message: Message | Wake, now: Moment) -> Sequence[Command]:
        commands: list[Command] = []
        match message:
            case Published():
                self._published(message, commands)
            case Wake():
                self._wake(now, commands)
            case Rounded():
                self._rounding = False
                self.pace.rounded(message.took_s, message.sent_bytes, now.mono)
            case Spare():
                self._spare(message, now)
            case Full():
                self._full(message)
            case Roomy():
                self._roomy(message)
            case Follow():
                self._follow(message)
            case Leave():
                self._leave(message)
            case LedgerRead():
                self._reads.finish(message)
            case LedgerUnread():
                self._reads.fail(message.stamp, now.mono)
            case Doubted():
                for tenant in self._tenants.values():
                    tenant.doubt()
            case Watch():
                self._watchers[message.watcher_id] = None
            case Unwatch():
                self._watchers.pop(message.watcher_id, None)
            case _:
                assert_never(message)
        commands.extend(self._reads.start(now.mono))
        self._set_wakeup(now)
        return commands

    def _set_wakeup(self, now: Moment) -> None:
        if self._rounding or not (self._line or self._unmade or self._logged):
            self._due_mono = None
        elif self._due_mono is None:
            self._due_mono = max(now.mono, self.pace.resume_at)
        self.wakeup_at = self._due_mono
        retry_at = self._reads.retry_at
        if retry_at is not None and self._reads.hungry:
            self.wakeup_at = retry_at if self._due_mono is None else min(retry_at, self._due_mono)

    # ---- readers

    def _follow(self, message: Follow) -> None:
        if message.reader_id in self._readers:
            return
        tenant = self._tenants.get(message.tenant_id)
        if tenant is None:
            tenant = FollowedTenant(message.tenant_id, self._limits, self._line, self._reads.hungry)
            self._tenants[message.tenant_id] = tenant
        reader = tenant.follow(
            message.reader_id, message.wanted, message.after_seq, message.logs_of
        )
        self._readers[message.reader_id] = (tenant, reader)
        self._note_unmade(tenant)

    def _leave(self, message: Leave) -> None:
        found = self._readers.pop(message.reader_id, None)
        if found is None:
            return
        tenant, reader = found
        tenant.leave(reader)
        self._logged.pop(message.reader_id, None)
        if not tenant.topics:
            del self._tenants[tenant.tenant_id]
            self._unmade.pop(tenant, None)
            self._reads.close(tenant)

    def _full(self, message: Full) -> None:
        found = self._readers.get(message.reader_id)
        if found is not None:
            tenant, reader = found
            tenant.part(reader)

    def _roomy(self, message: Roomy) -> None:
        found = self._readers.get(message.reader_id)
        if found is not None:
            tenant, reader = found
            if reader.group is None:
                tenant.join(reader)
                self._note_unmade(tenant)

    # ---- what was published

    def _published(self, message: Published, commands: list[Command]) -> None:
        limits = self._limits
        bytes_max = min(limits.ring_bytes_max, limits.rings_bytes_max // max(1, len(self._tenants)))
        for block in message.blocks:
            tenant = self._tenants.get(block.tenant_id)
            if tenant is not None:
                tenant.publish(block, bytes_max)
                self._note_unmade(tenant)
        for tenant_id, job_id in message.logged:
            tenant = self._tenants.get(tenant_id)
            if tenant is not None:
                for name in (job_id, _ANY_JOB):
                    self._logged.update(dict.fromkeys(tenant.log_readers.get(name, ())))
        if self._watchers and message.blocks:
            moved = tuple(Moved(block.tenant_id, block.last_seq) for block in message.blocks)
            commands.extend(TellMoved(watcher_id=each, moved=moved) for each in self._watchers)

    def _note_unmade(self, tenant: FollowedTenant) -> None:
        if tenant.unmade:
            self._unmade[tenant] = None

    # ---- rounds

    def _spare(self, message: Spare, now: Moment) -> None:
        if message.number == self._round and not self._rounding:
            self.pace.spare(now.mono)
            self._due_mono = None

    def _wake(self, now: Moment, commands: list[Command]) -> None:
        if self._due_mono is None or now.mono < self._due_mono:
            return
        units = self.pace.units
        left = units
        for reader_id in list(self._logged):
            commands.append(TellLogged(reader_id=reader_id))
            left -= _UNITS_TO_DELIVER
        self._logged.clear()
        left -= self._make(left // 2)
        for _ in range(len(self._line)):
            if left <= 0:
                break
            tenant, group = self._line.popleft()
            left -= self._serve(tenant, group, left, commands)
            self._note_unmade(tenant)
        self._round += 1
        commands.append(TimeRound(number=self._round))
        self._rounding = True
        self.pace.began(units - left)

    def _make(self, units: int) -> int:
        """Make events of what was published, tenant by tenant; what that cost."""
        left = units
        while self._unmade and left > 0:
            tenant = next(iter(self._unmade))
            del self._unmade[tenant]
            if tenant.unmade:
                left -= tenant.make()
                self._note_unmade(tenant)
        return units - left

    def _serve(
        self, tenant: FollowedTenant, group: Group, units: int, commands: list[Command]
    ) -> int:
        """Hand out a group's next batch to as many of its readers as the units suffice for, or to
        one; what that cost."""
        tenant.dequeued(group)
        if not group.readers:
            return 0
        spent = 0
        if group.batch is None:
            spent = tenant.build(group)
        batch = group.batch
        if batch is None:
            if not group.live:
                tenant.settle(group)
            return spent
        each = _UNITS_TO_DELIVER + len(batch.events) // _EVENTS_A_UNIT
        count = max(1, (units - spent) // each)
        readers = list(group.readers.values())[:count]
        commands.extend(Deliver(reader_id=reader.reader_id, batch=batch) for reader in readers)
        if group.live:
            tenant.served_live(group, len(readers))
        else:
            tenant.served(group, readers)
        return spent + each * len(readers)
