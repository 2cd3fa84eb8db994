"""Shell of the rate buckets of one lease shard: a task and a mailbox for each of its tenants.

The shard alone speaks to them, through ``deliver``, and hears their answers in its own mailbox. A
bucket begins with the first ``Configure`` of its tenant and ends when it was not spoken to for ten
minutes; the shard holds what it has to know of it.

I1  Whatever a bucket is asked before it is configured is answered by ``BucketLost``, once: the
    shard then configures it and asks again what was open. So nothing is reserved twice.
I2  Whatever it is told meanwhile is kept, in order, for when it is configured.
I3  What the buckets of a life that failed had been asked, and what is said before the next life has
    begun, is answered and kept in the same way when that begins; but what a bucket had taken out of
    its mailbox fails with it.
I4  A bucket is retired only when nothing lies in its mailbox, in one step without a wait; what
    comes afterwards meets I1 and I2.

Mailboxes, and what is kept, are bounded by what the shard has outstanding, which is a limit of its
core.
"""

from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.rate_bucket import RateBucket
from jobengine.messages.rate_bucket import (
    Adapted,
    BucketLost,
    Configure,
    Peek,
    Peeked,
    Reserve,
    Reserved,
)

__all__ = ["RateBucketActor"]

_IDLE_S: Final = 600.0
_SAID_AGAIN: Final = (Configure, Reserve, Peek)
_CAPACITY: Final = 1_024
"""Of requests. The shard sends deliveries, which need no room."""


@attrs.define(eq=False)
class _Tenant:
    mailbox: Mailbox[Any]
    spoken_to_at: float
    """Monotonic seconds."""


@attrs.define(kw_only=True, eq=False)
class RateBucketActor:
    """``shard`` is the number of the lease shard whose mailbox ``owner`` is."""

    shard: int
    owner: Address[Any]
    clock: Clock
    asks: Asks
    idle_s: float = _IDLE_S
    _tenants: dict[str, _Tenant] = attrs.field(init=False, factory=dict)
    _lost: dict[str, bool] = attrs.field(init=False, factory=dict)
    """Tenants without a bucket whose shard may believe they have one; whether it was told."""
    _untold: dict[str, list[Any]] = attrs.field(init=False, factory=dict)
    """What the next bucket of a tenant is told first."""
    _configured: int = attrs.field(init=False, default=0)
    """The stamp of the last ``Configure``."""
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)

    @property
    def tenants(self) -> int:
        """Buckets that run."""
        return len(self._tenants)

    async def run(self, life: Life) -> None:
        for tenant_id, tenant in self._tenants.items():
            self._lost[tenant_id] = False
            said_since = self._untold.pop(tenant_id, [])
            while left := tenant.mailbox.take_nowait():
                self._keep(left)
            self._keep(said_since)
        self._tenants.clear()
        for tenant_id, told in list(self._lost.items()):
            if not told:
                self._tell_lost(tenant_id)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                life.ready()
                await self._retire_idle()
            finally:
                self._nursery = None

    def deliver(self, message: Any) -> None:
        """Hand a message of the shard to the bucket of its tenant; never waits."""
        tenant_id: str = message.tenant_id
        tenant = self._tenants.get(tenant_id)
        configures = isinstance(message, Configure)
        if configures:
            self._configured = message.stamp
        if self._nursery is None:
            self._keep([message])
            if configures or tenant_id not in self._lost:
                self._lost[tenant_id] = False
        elif tenant is not None:
            tenant.spoken_to_at = trio.current_time()
            tenant.mailbox.deliver(message)
        elif configures:
            self._begin(self._nursery, message)
        else:
            self._keep([message])
            if tenant_id not in self._lost:
                self._tell_lost(tenant_id)

    def _keep(self, messages: Sequence[Any]) -> None:
        """Keep for the next bucket what nobody will say again."""
        for message in messages:
            if not isinstance(message, _SAID_AGAIN):
                self._untold.setdefault(message.tenant_id, []).append(message)

    def _tell_lost(self, tenant_id: str) -> None:
        self._lost[tenant_id] = True
        self.owner.deliver(BucketLost(tenant_id=tenant_id, configured=self._configured))

    def _begin(self, nursery: trio.Nursery, message: Configure) -> None:
        tenant_id = message.tenant_id
        mailbox: Mailbox[Any] = Mailbox(f"rate-bucket-{tenant_id}", _CAPACITY)
        for each in (message, *self._untold.pop(tenant_id, ())):
            mailbox.deliver(each)
        self._lost.pop(tenant_id, None)
        self._tenants[tenant_id] = _Tenant(mailbox, trio.current_time())
        nursery.start_soon(self._run_tenant, tenant_id, mailbox)

    async def _run_tenant(self, tenant_id: str, mailbox: Mailbox[Any]) -> None:
        answer = self.owner.deliver
        perform: Perform = {Reserved: answer, Peeked: answer, Adapted: answer}
        try:
            await run_shell(RateBucket(tenant_id), mailbox, perform, self.clock, asks=self.asks)
        except BaseException:
            # This life ends: what is said from now on is for the next.
            self._nursery = None
            raise

    async def _retire_idle(self) -> None:
        """Look through the buckets ten times in ``idle_s``, for ever."""
        while True:
            await trio.sleep(self.idle_s / 10)
            spoken_to_min = trio.current_time() - self.idle_s
            idle = [
                tenant_id
                for tenant_id, tenant in self._tenants.items()
                if tenant.spoken_to_at <= spoken_to_min and not tenant.mailbox.statistics().depth
            ]
            for tenant_id in idle:
                # Its task takes an empty closed mailbox for its end.
                self._tenants.pop(tenant_id).mailbox.close()
