"""Whose event is posted next, when not all can be at once.

Definitions. A webhook is a *laggard* while its last attempt has failed or was slow, else *brisk*.

I1  Tenants take turns, and so do the webhooks of a tenant.
I2  Laggards never have more than half of the places, and no tenant has: so receivers that are dead
    or slow, or all of one tenant's, leave places to the others.
I3  Brisk webhooks and laggards are asked by turns while both wait, so that neither starves.
"""

from collections import deque

__all__ = ["Turns"]

Key = tuple[str, str]
"""Tenant and webhook id."""


class _Lane:
    """Webhooks by tenant; the tenant that was served stands last."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, key: Key) -> None:
        self._waiting.setdefault(key[0], deque()).append(key)

    def take(self, may: dict[str, int], tenant_max: int) -> Key | None:
        for tenant_id in self._waiting:
            if may.get(tenant_id, 0) < tenant_max:
                keys = self._waiting.pop(tenant_id)
                key = keys.popleft()
                if keys:
                    self._waiting[tenant_id] = keys
                return key
        return None


class Turns:
    """Places for ``places_max`` POSTs, and who waits for one."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._share_max = max(1, places_max // 2)
        self._lanes = {False: _Lane(), True: _Lane()}
        self._taken: dict[Key, bool] = {}
        self._of_tenant: dict[str, int] = {}
        self._laggards = 0
        self._next_lags = False

    @property
    def taken(self) -> int:
        return len(self._taken)

    def wait(self, key: Key, *, lags: bool) -> None:
        """Ask for a place; a webhook asks once, and not while it has one."""
        self._lanes[lags].put(key)

    def take(self) -> Key | None:
        """Give a place to whoever is next, None when there is none to give or nobody to give it."""
        if len(self._taken) >= self._places_max:
            return None
        for lags in (self._next_lags, not self._next_lags):
            if lags and self._laggards >= self._share_max:
                continue
            key = self._lanes[lags].take(self._of_tenant, self._share_max)
            if key is not None:
                self._next_lags = not lags
                self._hold(key, lags)
                return key
        return None

    def leave(self, key: Key) -> None:
        """Give a place back."""
        self._laggards -= self._taken.pop(key)
        tenant_id = key[0]
        left = self._of_tenant[tenant_id] - 1
        if left:
            self._of_tenant[tenant_id] = left
        else:
            del self._of_tenant[tenant_id]

    def _hold(self, key: Key, lags: bool) -> None:
        self._taken[key] = lags
        self._laggards += lags
        self._of_tenant[key[0]] = self._of_tenant.get(key[0], 0) + 1
