"""Answers about runs: a run, its nodes, its graph and chart, its first sign of life, its record.

An answer may grow fields, so a reader ignores those that it does not know.

Not here: what is asked for (``runs``), how a view is made of rows (``http/run_views``).
"""

from typing import Annotated, Any, Literal

import msgspec

from jobengine.wire.fields import Instant
from jobengine.wire.jobs import JobStateName
from jobengine.wire.runs import TriggerName

__all__ = [
    "DagNode",
    "DagView",
    "ExtendedView",
    "FirstSignal",
    "FirstSignalView",
    "GanttLane",
    "GanttSpan",
    "GanttView",
    "NodeErrorView",
    "NodeView",
    "RollUpView",
    "RunLedgerRecord",
    "RunLedgerStep",
    "RunStateName",
    "RunView",
]

RunStateName = Literal["pending", "running", "completed", "failed", "cancelled"]


class NodeErrorView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A node that failed, and the class of its error where it has one."""

    key: str
    error: str | None = None


class RollUpView(msgspec.Struct, rename="camel", kw_only=True):
    """Nodes of a run that has ended, by how they did; the first 100 errors by key."""

    completed: int
    failed: int
    cancelled: int
    errors: list[NodeErrorView]
    outputs_hash: str


class RunView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A run. ``jobIds`` is there in the answer to its creation, by key."""

    run_id: str
    tenant_id: str
    project_id: str | None = None
    run_token: str
    state: RunStateName
    nodes: int
    dag_id: str | None = None
    dag_version: int | None = None
    pack_id: str | None = None
    fail_fast: bool = False
    inputs: msgspec.Raw
    inputs_hash: str
    outputs_hash: str | None = None
    replay_of: str | None = None
    parent_run_id: str | None = None
    parent_key: str | None = None
    correlation_id: str
    traceparent: str | None = None
    created_by: str
    created_at: Instant
    started_at: Instant | None = None
    finished_at: Instant | None = None
    duration_ms: int | None = None
    cancel_requested_at: Instant | None = None
    roll_up: RollUpView | None = None
    job_ids: dict[str, str] = {}


class NodeView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A node that is ended from outside; ``callbackUrl`` ends an open callback."""

    run_id: str
    key: str
    job_id: str
    kind: str
    state: JobStateName
    open: bool = False
    callback_url: str | None = None


class ExtendedView(msgspec.Struct, rename="camel", kw_only=True):
    """The ids of the new jobs, joins included."""

    run_id: str
    job_ids: list[str]


class DagNode(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """A node as a console draws it. ``estimateMs`` is what jobs of its type took before; ``open``:
    it waits for the outside; ``kept``: an earlier run has its result."""

    key: str
    job_id: str
    kind: str
    type: str
    state: JobStateName
    reason: str | None = None
    attempt: int
    level: int
    on_critical_path: bool
    trigger: TriggerName = "all_succeeded"
    of: str | None = None
    open: bool = False
    kept: bool = False
    error: str | None = None
    queue_ms: int | None = None
    run_ms: int | None = None
    estimate_ms: int
    started_at: Instant | None = None
    finished_at: Instant | None = None


EdgeView = Annotated[list[str], msgspec.Meta(min_length=2, max_length=2)]
"""Two keys: the second depends on the first."""


class DagView(msgspec.Struct, rename="camel", kw_only=True):
    """Nodes in topological order, ties by key; edges by (from, to) in the order of the nodes.
    ``criticalMs`` sums up the estimates on the critical path."""

    run_id: str
    state: RunStateName
    nodes: list[DagNode]
    edges: list[EdgeView]
    levels: int
    width: int
    critical_path: list[str]
    critical_ms: int


class GanttSpan(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """``to`` is absent while the span goes on; ``outcome`` is of an attempt that has ended."""

    kind: Literal["queue", "run", "backoff"]
    attempt: int
    from_: Instant = msgspec.field(name="from")
    to: Instant | None = None
    worker_id: str | None = None
    outcome: str | None = None


class GanttLane(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The spans of a node, in order of time."""

    key: str
    job_id: str
    state: JobStateName
    level: int
    on_critical_path: bool
    spans: list[GanttSpan]


class GanttView(msgspec.Struct, rename="camel", kw_only=True):
    """Lanes in topological order, ties by key. ``from`` and ``to`` are the edges of the chart."""

    run_id: str
    state: RunStateName
    from_: Instant = msgspec.field(name="from")
    to: Instant
    lanes: list[GanttLane]


class FirstSignal(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The earliest sign of life of a run that is fit to show to a person."""

    type: Literal[
        "queued", "started", "phase", "blocked", "failed", "succeeded", "canceled", "unavailable"
    ]
    stage: str
    step: str
    message: str
    at: Instant
    artifact: dict[str, Any] | None = None


class FirstSignalView(msgspec.Struct, rename="camel", kw_only=True):
    run_id: str
    first_signal: FirstSignal
    summary_etag: str


class RunLedgerStep(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """A node in the record of its run; ``status`` is how it ended."""

    step_id: str
    inputs_hash: str
    outputs_hash: str | None
    status: JobStateName
    attempt: int
    duration_ms: int | None
    logs_ref: str
    metrics_ref: str
    error_code: str | None
    retryable: bool | None


class RunLedgerRecord(msgspec.Struct, rename="camel", kw_only=True):
    """What stays of a run, in the fields and the order that auditors read. ``steps`` by key."""

    tenant: str
    run_id: str
    dag_id: str | None
    dag_version: int | None
    run_token: str
    trace_id: str | None
    status: RunStateName
    inputs_hash: str
    outputs_hash: str | None
    started_utc: Instant | None
    ended_utc: Instant | None
    duration_ms: int | None
    steps: list[RunLedgerStep]
