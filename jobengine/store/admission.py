"""What the engine asks of its store about admission: controls, states of gates, backlogs, places.

They are written by ``commit``, like everything else.
"""

from collections.abc import Sequence
from typing import Protocol

from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import ControlKind
from jobengine.domain.records import Lane

__all__ = ["AdmissionStore"]


class AdmissionStore(Protocol):
    async def controls(self, shard: int) -> Sequence[ControlRow]:
        """Every control of a shard's tenants, by (tenant, kind, name)."""

    async def gate_states(self, shard: int) -> Sequence[GateStateRow]:
        """What gates of a shard's tenants remember, by (tenant, name)."""

    async def backlogs(self, shard: int) -> dict[str, int]:
        """Waiting jobs of a shard by tenant; tenants without any are left out."""

    async def control_list(
        self, tenant_id: str, kind: ControlKind, after: str, controls_max: int
    ) -> Sequence[ControlRow]:
        """Controls of a tenant and kind after a name, by name."""

    async def control(self, tenant_id: str, kind: ControlKind, name: str) -> ControlRow | None: ...

    async def jobs_ahead(self, lane: Lane, key: tuple[int, str], now_at: int, jobs_max: int) -> int:
        """Due jobs of a lane before (rank, job id), counted up to ``jobs_max``."""
