"""Occupancy: how much of each part of a tenant runs now, derived from its leases.

A job that runs, or is about to, *holds* one place in each *part* it belongs to: its tenant,
project, job type, source and concurrency key. Limits are compared with these counts in the
granting step; nothing is ever stored. All parts but the concurrency key are those of the job's kind
(``kinds``), where their counts are.

I1  A job holds its places from the decision to start it to the decision that ends its lease, in the
    order of the ledger; so no prefix of the ledger shows more places held than the limit of then.
I2  Holding twice or letting go twice changes nothing.
I3  A part of which ``free`` places are free has one left until ``taken`` has grown by as many,
    whoever took them and whatever was let go meanwhile.
"""

from collections.abc import Iterable, Sequence

from jobengine.core.lease_shard.kinds import Kind, Kinds
from jobengine.core.lease_shard.rules import Part
from jobengine.domain.job import Job

__all__ = ["Occupancy"]


class Occupancy:
    """Places held by part. ``by_key`` are those under concurrency keys, by tenant and key.
    ``taken`` counts the jobs that ever took theirs, of all tenants."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.by_key: dict[tuple[str, str], int] = {}
        self._held: dict[str, tuple[Kind, str | None]] = {}
        self.taken = 0

    def __len__(self) -> int:
        """Jobs that hold places."""
        return len(self._held)

    def of(self, part: Part) -> int:
        tenant_id, scope, key = part
        if scope == "concurrency_key":
            return self.of_key(tenant_id, key)
        return self._kinds.held_in(part)

    def of_key(self, tenant_id: str, key: str) -> int:
        """Places held under a concurrency key."""
        return self.by_key.get((tenant_id, key), 0)

    def of_all(self, parts: Iterable[Part]) -> int:
        return sum(self.of(part) for part in parts)

    def hold(self, job: Job, kind: Kind) -> None:
        if job.job_id in self._held:
            return
        kind.held += 1
        for count in kind.counts:
            count.held += 1
        key = job.definition.concurrency_key
        if key is not None:
            name = (job.tenant_id, key)
            self.by_key[name] = self.by_key.get(name, 0) + 1
        self._held[job.job_id] = (kind, key)
        self.taken += 1

    def hold_all(self, job_ids: Sequence[str], kind: Kind) -> None:
        """The same for jobs of one kind that hold nothing yet and have no concurrency key."""
        kind.held += len(job_ids)
        for count in kind.counts:
            count.held += len(job_ids)
        self._held.update(dict.fromkeys(job_ids, (kind, None)))
        self.taken += len(job_ids)

    def let_go(self, job: Job) -> tuple[Part, ...]:
        """The parts in which a place has become free."""
        held = self._held.pop(job.job_id, None)
        if held is None:
            return ()
        kind, key = held
        kind.held -= 1
        for count in kind.counts:
            count.held -= 1
        if key is None:
            return kind.parts
        name = (job.tenant_id, key)
        left = self.by_key[name] - 1
        if left:
            self.by_key[name] = left
        else:
            del self.by_key[name]
        return (*kind.parts, (job.tenant_id, "concurrency_key", key))
