"""Occupancy: how much of each part of a tenant runs now, derived from its leases.

A job that runs, or is about to, *holds* one place in each *part* it belongs to: its tenant,
project, job type, source and concurrency key. Limits are compared with these counts in the
granting step; nothing is ever stored.

Definition. Jobs of the same tenant, job type, project and source are one *kind*: they hold the same
places, but for their concurrency keys. The counters of a kind are found once for all its jobs.

I1  A job holds its places from the decision to start it to the decision that ends its lease, in the
    order of the ledger; so no prefix of the ledger shows more places held than the limit of then.
I2  Holding twice or letting go twice changes nothing.
I3  A part of which ``free`` places are free has one left until ``taken`` has grown by as many,
    whoever took them and whatever was let go meanwhile.
I4  What no job holds is forgotten.
"""

from collections.abc import Iterable

from jobengine.domain.job import Job

__all__ = ["Occupancy", "Part"]

Part = tuple[str, str, str]
"""Tenant, scope and key: ("acme", "source", "osv"); the whole tenant has the key ""."""

_Name = tuple[str, str, str | None, str | None]
"""Of a kind: tenant, job type, project and source."""


class _Count:
    """Places held in one part."""

    __slots__ = ("held", "part")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.held = 0


class _Kind:
    """``parts`` are those of ``counts``."""

    __slots__ = ("counts", "jobs", "name", "parts")

    def __init__(self, name: _Name, counts: tuple[_Count, ...]) -> None:
        self.name = name
        self.counts = counts
        self.parts = tuple([count.part for count in counts])
        self.jobs = 0


class Occupancy:
    """Places held by part. ``taken`` counts the jobs that ever took theirs, of all tenants."""

    def __init__(self) -> None:
        self._counts: dict[Part, _Count] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        self._kinds: dict[_Name, _Kind] = {}
        self._held: dict[str, tuple[_Kind, str | None]] = {}
        self.taken = 0

    def __len__(self) -> int:
        """Jobs that hold places."""
        return len(self._held)

    def of(self, part: Part) -> int:
        tenant_id, scope, key = part
        if scope == "concurrency_key":
            return self.of_key(tenant_id, key)
        count = self._counts.get(part)
        return 0 if count is None else count.held

    def of_key(self, tenant_id: str, key: str) -> int:
        """Places held under a concurrency key."""
        return self._by_key.get((tenant_id, key), 0)

    def tenants(self) -> list[str]:
        """Who has jobs that hold places."""
        return [tenant_id for tenant_id, scope, _ in self._counts if scope == "tenant"]

    def of_all(self, parts: Iterable[Part]) -> int:
        return sum(self.of(part) for part in parts)

    def hold(self, job: Job) -> None:
        if job.job_id in self._held:
            return
        definition = job.definition
        name = (job.tenant_id, definition.job_type, definition.project_id, definition.source_id)
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind(name, self._counts_of(name))
        kind.jobs += 1
        for count in kind.counts:
            count.held += 1
        key = definition.concurrency_key
        if key is not None:
            name_of_key = (job.tenant_id, key)
            self._by_key[name_of_key] = self._by_key.get(name_of_key, 0) + 1
        self._held[job.job_id] = (kind, key)
        self.taken += 1

    def let_go(self, job: Job) -> tuple[Part, ...]:
        """The parts in which a place has become free."""
        held = self._held.pop(job.job_id, None)
        if held is None:
            return ()
        kind, key = held
        for count in kind.counts:
            count.held -= 1
        kind.jobs -= 1
        if not kind.jobs:
            self._forget(kind)
        return kind.parts if key is None else (*kind.parts, self._let_go_of_key(kind.name[0], key))

    def _let_go_of_key(self, tenant_id: str, key: str) -> Part:
        left = self._by_key[(tenant_id, key)] - 1
        if left:
            self._by_key[(tenant_id, key)] = left
        else:
            del self._by_key[(tenant_id, key)]
        return tenant_id, "concurrency_key", key

    def _counts_of(self, name: _Name) -> tuple[_Count, ...]:
        tenant_id, job_type, project_id, source_id = name
        parts = [(tenant_id, "tenant", ""), (tenant_id, "job_type", job_type)]
        if project_id:
            parts.append((tenant_id, "project", project_id))
        if source_id is not None:
            parts.append((tenant_id, "source", source_id))
        counts = self._counts
        return tuple([counts.setdefault(part, _Count(part)) for part in parts])

    def _forget(self, kind: _Kind) -> None:
        """I4: a count is shared by kinds, and goes with the last of them that is held."""
        del self._kinds[kind.name]
        for count in kind.counts:
            if not count.held:
                del self._counts[count.part]
