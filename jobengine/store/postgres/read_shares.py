"""How many of the connections for tenants' reads one tenant has at once.

I1  One tenant has at most half of them, or one: reads of its own that take long leave the others to
    everybody else.
I2  Whoever waits for a share stands in no other line; reads of one tenant are served in order of
    arrival.

Not here: the connections (``driver/pool.py``), what a read may take (``opening.py``).
"""

from types import TracebackType
from typing import Final

import attrs
import trio

from jobengine.store.errors import StoreBusyError

__all__ = ["ReadShares"]


@attrs.define(eq=False)
class _Tenant:
    """``readers`` have a place or wait for one; nothing is kept of a tenant that has none."""

    places: trio.Semaphore
    readers: int = 0


class ReadShares:
    """``timeout_s`` is how long a read waits for one that its tenant has before."""

    def __init__(self, connections: int, timeout_s: float) -> None:
        self.share_max: Final = max(1, connections // 2)
        self._timeout_s = timeout_s
        self._tenants: dict[str, _Tenant] = {}

    def of(self, tenant_id: str) -> "Share":
        """`async with shares.of(tenant_id)`: raises `StoreBusyError` when the time is up. Not a
        checkpoint where nothing has to be waited for."""
        return Share(self, tenant_id)

    async def enter(self, tenant_id: str) -> None:
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = _Tenant(trio.Semaphore(self.share_max))
        tenant.readers += 1
        try:
            try:
                tenant.places.acquire_nowait()
            except trio.WouldBlock:
                await self._wait(tenant)
        except BaseException:
            self._forget(tenant_id, tenant)
            raise

    def leave(self, tenant_id: str) -> None:
        tenant = self._tenants[tenant_id]
        tenant.places.release()
        self._forget(tenant_id, tenant)

    async def _wait(self, tenant: _Tenant) -> None:
        with trio.move_on_after(self._timeout_s):
            await tenant.places.acquire()
            return
        raise StoreBusyError(
            f"no connection within {self._timeout_s:g} s: the tenant's reads have "
            f"{self.share_max} already, which is its share"
        )

    def _forget(self, tenant_id: str, tenant: _Tenant) -> None:
        tenant.readers -= 1
        if not tenant.readers:
            del self._tenants[tenant_id]


class Share:
    """A place among the reads of a tenant."""

    __slots__ = ("_shares", "_tenant_id")

    def __init__(self, shares: ReadShares, tenant_id: str) -> None:
        self._shares = shares
        self._tenant_id = tenant_id

    async def __aenter__(self) -> None:
        await self._shares.enter(self._tenant_id)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shares.leave(self._tenant_id)
