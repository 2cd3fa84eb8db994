"""Reads of the ledger for those that the ring does not reach back to.

Tenants take turns, one page each. A tenant's next page begins, in turn, at the lowest cursor that
waits, so that it serves many, and at the cursor that has waited longest, so that none starves.

I1  Reads under way and pages held are at most ``pages_max`` together, reads ``reads_max``, and one
    of a tenant. A page that somebody is in line for is not dropped.
I2  Nothing is concluded from what was not found by a read that began before the last doubt.
"""

import attrs

from jobengine.core.broadcaster.followed_tenant import FollowedTenant
from jobengine.core.broadcaster.limits import BroadcasterLimits
from jobengine.core.broadcaster.page import Page
from jobengine.messages.broadcaster import LedgerRead, ReadLedger

__all__ = ["LedgerReads"]

_EXPONENT_MAX = 16


@attrs.frozen
class _Read:
    tenant: FollowedTenant
    after_seq: int
    tip: int
    doubts: int


class LedgerReads:
    """``hungry`` has the tenants that wait, in the order of their turns."""

    def __init__(self, limits: BroadcasterLimits, stamp: int) -> None:
        self.hungry: dict[FollowedTenant, None] = {}
        self.retry_at: float | None = None
        """Monotonic seconds before which the store is left alone."""
        self._limits = limits
        self._stamp = stamp
        self._failures = 0
        self._under_way: dict[int, _Read] = {}
        self._paged: dict[FollowedTenant, None] = {}
        self._lowest = False

    def start(self, mono: float) -> list[ReadLedger]:
        """The reads that may begin now."""
        if not self.hungry or len(self._under_way) >= self._limits.reads_max:
            return []
        if self.retry_at is not None:
            if mono < self.retry_at:
                return []
            self.retry_at = None
        commands: list[ReadLedger] = []
        for tenant in list(self.hungry):
            if not tenant.behind:
                del self.hungry[tenant]
            elif not tenant.paged and not self._is_under_way(tenant):
                if len(self._under_way) >= self._limits.reads_max or not self._make_room(tenant):
                    break
                del self.hungry[tenant]
                commands.append(self._read(tenant))
        return commands

    def finish(self, message: LedgerRead) -> None:
        read = self._under_way.pop(message.stamp, None)
        if read is None:
            return
        self._failures = 0
        tenant = read.tenant
        if not tenant.topics:
            return
        if message.blocks:
            self._hold(tenant, Page(read.after_seq, message.blocks), read.after_seq)
        elif read.doubts == tenant.doubts:
            ring = tenant.ring
            gone_seq = min(read.tip, ring.floor) if ring.begun else 0
            if gone_seq > read.after_seq:
                self._hold(tenant, Page(read.after_seq, (), gone_seq), read.after_seq)
            else:
                tenant.read(None, read.after_seq)
        if tenant.behind:
            self.hungry[tenant] = None

    def fail(self, stamp: int, mono: float) -> None:
        read = self._under_way.pop(stamp, None)
        if read is None:
            return
        limits = self._limits
        backoff_s = limits.backoff_s_first * 2.0 ** min(self._failures, _EXPONENT_MAX)
        self.retry_at = mono + min(limits.backoff_s_max, backoff_s)
        self._failures += 1
        if read.tenant.behind:
            self.hungry[read.tenant] = None

    def close(self, tenant: FollowedTenant) -> None:
        """Nobody follows the tenant any more."""
        self.hungry.pop(tenant, None)
        self._paged.pop(tenant, None)
        tenant.page = None

    def _hold(self, tenant: FollowedTenant, page: Page, after_seq: int) -> None:
        self._paged[tenant] = None
        tenant.read(page, after_seq)

    def _is_under_way(self, tenant: FollowedTenant) -> bool:
        return any(read.tenant is tenant for read in self._under_way.values())

    def _make_room(self, tenant: FollowedTenant) -> bool:
        if tenant not in self._paged:
            if len(self._under_way) + len(self._paged) < self._limits.pages_max:
                return True
            idle = next((each for each in self._paged if not each.paged), None)
            if idle is None:
                return False
            tenant = idle
        del self._paged[tenant]
        tenant.page = None
        return True

    def _read(self, tenant: FollowedTenant) -> ReadLedger:
        self._stamp += 1
        self._lowest = not self._lowest
        after_seq = next(iter(tenant.behind)).after_seq
        if self._lowest:
            after_seq = min(group.after_seq for group in tenant.behind)
        tip = tenant.ring.tip if tenant.ring.begun else 0
        self._under_way[self._stamp] = _Read(tenant, after_seq, tip, tenant.doubts)
        return ReadLedger(stamp=self._stamp, tenant_id=tenant.tenant_id, after_seq=after_seq)
