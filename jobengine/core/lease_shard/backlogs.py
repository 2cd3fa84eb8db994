"""How many jobs of each tenant wait: those in state ``pending`` or ``scheduled``.

I1  The counts are those that the store will have when every commit sent has returned: they begin
    with what it holds and move with each commit; one that is refused ends the shard's life.

Not here: which new jobs count (``creations``, ``runs``).
"""

from collections.abc import Mapping
from typing import Final

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = ["Backlogs"]

_RETRY_S: Final = 5


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

    def refuse(self, tenant_id: str, new_jobs: int, jobs_max: int) -> Refusal | None:
        """Why so many new jobs of a tenant may not wait as well, if they may not."""
        backlog = self.of(tenant_id)
        if not new_jobs or backlog + new_jobs <= jobs_max:
            return None
        return Refusal(
            ErrorCode.BACKLOG_FULL,
            f"{backlog} jobs of the tenant wait and at most {jobs_max} may, so none of these "
            f"{new_jobs} is created; retry when some have started",
            {
                "backlog": backlog,
                "backlogMax": jobs_max,
                "jobs": new_jobs,
                "retryAfterSeconds": _RETRY_S,
            },
        )
