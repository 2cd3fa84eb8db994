"""Runs and their nodes as they are read back.

Not here: nodes and edges as they were asked for (``run_part``).
"""

import msgspec

from jobengine.domain.job import State
from jobengine.domain.run import RollUp, RunState

__all__ = ["NodeRecord", "PackOrigin", "RunRecord"]


class PackOrigin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The pack that a run is of; in sorted order, so the encoder's output is canonical JSON."""

    digest: str
    pack_id: str
    plan_hash: str
    version: int


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run. ``inputs`` is canonical JSON; ``rolled`` is there once the run has ended."""

    tenant_id: str
    run_id: str
    run_token: str
    state: RunState
    nodes: int
    created_at: int
    created_by: str
    started_at: int | None = None
    finished_at: int | None = None
    cancel_requested_at: int | None = None
    rolled: RollUp | None = None
    project_id: str = ""
    dag_id: str | None = None
    dag_version: int | None = None
    fail_fast: bool = False
    inputs: bytes = b"{}"
    inputs_hash: str = ""
    traceparent: str | None = None
    correlation_id: str = ""
    replay_of: str | None = None
    parent_run: str | None = None
    parent_key: str | None = None
    pack: PackOrigin | None = None


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """The job of a node, without what it is to do. ``result_digest`` is sha256 of the result as it
    is stored, ``error_class`` the ``class`` of the error, ``error_retryable`` what it says."""

    job_id: str
    node_key: str
    job_type: str
    queue: str
    state: State
    reason: str | None
    attempt: int
    failures: int
    created_at: int
    due_at: int
    scheduled_at: int | None
    started_at: int | None
    finished_at: int | None
    cancel_requested_at: int | None
    payload_digest: str
    result_digest: str | None
    error_class: str | None
    error_retryable: bool | None
    progress: bytes | None
    seqs: tuple[int, ...]
