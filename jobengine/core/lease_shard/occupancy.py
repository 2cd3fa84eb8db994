"""Occupancy: how much of each part of a tenant runs now, derived from its leases.

A job that runs, or is about to, *holds* one place in each *part* it belongs to: its tenant,
project, job type, source and concurrency key. Limits are compared with these counts in the
granting step; nothing is ever stored.

I1  A job holds its places from the decision to start it to the decision that ends its lease, in the
    order of the ledger; so no prefix of the ledger shows more places held than the limit of then.
I2  Holding twice or letting go twice changes nothing.
"""

from collections import Counter
from collections.abc import Iterable

from jobengine.domain.job import Job

__all__ = ["Occupancy", "Part", "parts_of"]

Part = tuple[str, str, str]
"""Tenant, scope and key: ("acme", "source", "osv"); the whole tenant has the key ""."""


def parts_of(job: Job) -> tuple[Part, ...]:
    """The parts of its tenant that a job belongs to."""
    tenant_id, definition = job.tenant_id, job.definition
    parts = [(tenant_id, "tenant", ""), (tenant_id, "job_type", definition.job_type)]
    if definition.project_id:
        parts.append((tenant_id, "project", definition.project_id))
    if definition.source_id is not None:
        parts.append((tenant_id, "source", definition.source_id))
    if definition.concurrency_key is not None:
        parts.append((tenant_id, "concurrency_key", definition.concurrency_key))
    return tuple(parts)


class Occupancy:
    """Places held by part."""

    def __init__(self) -> None:
        self._counts: Counter[Part] = Counter()
        self._held: dict[str, tuple[Part, ...]] = {}

    def __len__(self) -> int:
        """Jobs that hold places."""
        return len(self._held)

    def of(self, part: Part) -> int:
        return self._counts.get(part, 0)

    def tenants(self) -> list[str]:
        """Who has jobs that hold places."""
        return [tenant_id for tenant_id, scope, _ in self._counts if scope == "tenant"]

    def of_all(self, parts: Iterable[Part]) -> int:
        return sum(self._counts.get(part, 0) for part in parts)

    def hold(self, job: Job) -> None:
        if job.job_id in self._held:
            return
        parts = self._held[job.job_id] = parts_of(job)
        counts = self._counts
        for part in parts:
            counts[part] += 1

    def let_go(self, job: Job) -> tuple[Part, ...]:
        """The parts in which a place has become free."""
        parts = self._held.pop(job.job_id, ())
        counts = self._counts
        for part in parts:
            left = counts[part] - 1
            if left:
                counts[part] = left
            else:
                del counts[part]
        return parts
