"""How many jobs of each tenant wait: those in state ``pending`` or ``scheduled``.

I1  The counts are those that the store will have when every commit sent has returned: they begin
    with what it holds and move with each commit; one that is refused ends the shard's life.

Not here: how many may wait (``submits``).
"""

from collections.abc import Mapping

__all__ = ["Backlogs"]


class Backlogs:
    """Holds tenants that have a backlog, and no others."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.total = 0

    def restore(self, counts: Mapping[str, int]) -> None:
        """Begin with what the store holds."""
        self._counts = dict(counts)
        self.total = sum(counts.values())

    def of(self, tenant_id: str) -> int:
        return self._counts.get(tenant_id, 0)

    def grow(self, tenant_id: str, by: int) -> None:
        """More jobs wait, or fewer when ``by`` is negative."""
        if by:
            self.total += by
            count = self.of(tenant_id) + by
            if count:
                self._counts[tenant_id] = count
            else:
                self._counts.pop(tenant_id, None)
