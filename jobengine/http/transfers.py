"""Transfers: how many artifacts are on their way at once, and how many of them are one tenant's.

I1  At most `transfers_max` are under way, and at most half of them are one tenant's: slow clients
    of one tenant leave the other half to everybody else.
I2  Only tenants with a transfer under way are kept, so there are no more than transfers.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError

__all__ = ["Transfers"]


class Transfers:
    """Lets transfers through, or refuses them at once; nothing waits here."""

    def __init__(self, transfers_max: int) -> None:
        self._transfers_max = transfers_max
        self._share_max = max(1, transfers_max // 2)
        self._by_tenant: Counter[str] = Counter()

    @contextmanager
    def one_of(self, tenant_id: str) -> Iterator[None]:
        """A transfer of a tenant, for as long as the block lasts. Raises `RefusedError`
        (`OVERLOADED`)."""
        self.require_free(tenant_id)
        self._by_tenant[tenant_id] += 1
        try:
            yield
        finally:
            self._by_tenant[tenant_id] -= 1
            if not self._by_tenant[tenant_id]:
                del self._by_tenant[tenant_id]

    def require_free(self, tenant_id: str) -> None:
        """Raises `RefusedError` where a transfer of the tenant would be refused now (I1)."""
        if self._by_tenant[tenant_id] >= self._share_max:
            message = (
                f"the tenant's share is taken: {self._share_max} of its artifacts are on their "
                "way; come again"
            )
        elif self._by_tenant.total() >= self._transfers_max:
            message = "too many artifacts are on their way; come again"
        else:
            return
        raise RefusedError(Refusal(ErrorCode.OVERLOADED, message))
