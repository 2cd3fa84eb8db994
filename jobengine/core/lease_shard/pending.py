"""What is owed once a commit has returned.

Until then the jobs it names are *busy*: whatever else is asked of them is deferred, and asked again
afterwards. Not here: paying it (``settlement``).
"""

from typing import Any

import msgspec

from jobengine.core.lease_shard.leases import Lease
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.sources import SourceChange
from jobengine.domain.job import Job
from jobengine.messages.session import DrainAsked, Nacked

__all__ = ["Pending"]


class Pending(msgspec.Struct, eq=False):
    """Owed after a commit of a tenant, in this order: memory settled, then everyone told."""

    tenant_id: str = ""
    grants: list[Lease] = []
    ended: list[Lease] = []
    kept: list[Lease] = []
    stops: list[Lease] = []
    drains: list[tuple[Session, DrainAsked]] = []
    placed: list[Job] = []
    displaced: list[Job] = []
    acks: dict[int, list[str | int | None]] = {}
    nacks: dict[int, list[Nacked]] = {}
    commands: list[Any] = []
    answers: list[tuple[int, Any]] = []
    operated: list[str] = []
    unique_keys: list[tuple[str, str]] = []
    source_changes: list[SourceChange] = []
    claims: list[tuple[str, str, str]] = []
    ended_runs: list[str] = []

    def ack(self, session_id: int, ref: str | int | None) -> None:
        if ref is not None:
            self.acks.setdefault(session_id, []).append(ref)
