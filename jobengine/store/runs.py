"""What the engine asks of its store about runs and registered documents.

They are written by ``commit``, like everything else.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from jobengine.domain.change import ArtifactRow, LogRow, RegistryRow
from jobengine.domain.run import RunState
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.store.log_pages import LOG_BYTES_MAX

__all__ = ["RunFilter", "RunStore"]


@attrs.frozen(kw_only=True)
class RunFilter:
    """``pack_id`` names the pack that runs are of; ``packs``: only those that are of any pack."""

    states: frozenset[RunState] = frozenset()
    dag_id: str | None = None
    project_id: str | None = None
    pack_id: str | None = None
    packs: bool = False
    created_from_at: int | None = None
    created_before_at: int | None = None


class RunStore(Protocol):
    async def run(self, tenant_id: str, run_id: str) -> RunRecord | None: ...

    async def run_by_token(self, tenant_id: str, run_token: str) -> RunRecord | None: ...

    async def run_list(
        self, tenant_id: str, wanted: RunFilter, after: tuple[int, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        """A tenant's runs newest first, by (created at, run id) descending."""

    async def run_export(
        self,
        tenant_id: str,
        from_at: int,
        before_at: int,
        after: tuple[int, str] | None,
        runs_max: int,
    ) -> Sequence[RunRecord]:
        """Ended runs that started in the span, by (started at, run id); a run that was cancelled
        before it started counts by its end."""

    async def runs_live(
        self, shard: int, after: tuple[str, str] | None, runs_max: int
    ) -> Sequence[RunRecord]:
        """Pending and running runs of a shard's tenants, after (tenant, run id), in that order."""

    async def run_parts(self, tenant_id: str, run_id: str) -> Sequence[RunPart]:
        """The parts of a run in the order in which they came."""

    async def run_nodes(
        self, tenant_id: str, run_id: str, after: str | None, nodes_max: int
    ) -> Sequence[NodeRecord]:
        """The jobs of a run after a job id, by job id, without definitions and payloads."""

    async def node_records(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[NodeRecord]:
        """Of the jobs named those that exist, by job id."""

    async def run_logs(
        self,
        tenant_id: str,
        run_id: str,
        after: int,
        rows_max: int,
        bytes_max: int = LOG_BYTES_MAX,
    ) -> Sequence[tuple[int, LogRow]]:
        """Stored log lines of the jobs of a run as (position, lines), after a position, by it: in
        the order in which they were committed. Stops as ``logs`` does."""

    async def run_artifacts(
        self, tenant_id: str, run_id: str, after: tuple[str, int, str] | None, rows_max: int
    ) -> Sequence[tuple[str, ArtifactRow]]:
        """Artifacts of the jobs of a run, each with its node's key, after (key, attempt, name), in
        that order."""

    async def typical_durations(self, tenant_id: str, jobs_max: int) -> Mapping[str, int]:
        """Median microseconds that attempts took by job type, among the completed of the tenant's
        ``jobs_max`` newest jobs."""

    async def registered(
        self, tenant_id: str, kind: str, name: str, version: int | None
    ) -> RegistryRow | None:
        """A version of a document; without ``version`` the newest, disabled or not."""

    async def registered_digest(self, tenant_id: str, kind: str, digest: str) -> RegistryRow | None:
        """The oldest version of any document of this kind with this digest."""

    async def registry_list(
        self,
        tenant_id: str,
        kind: str,
        name: str | None,
        after: tuple[str, int] | None,
        rows_max: int,
    ) -> Sequence[RegistryRow]:
        """Versions of documents of a kind without their bodies, of one name or of all, after (name,
        version), in that order."""
