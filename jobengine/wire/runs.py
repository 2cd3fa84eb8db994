"""Requests of runs: what producers, workers and operators ask for.

I1  A request refuses unknown fields.
I2  A node says nothing that its kind has no use for; what it must say, it says.

Not here: what is answered (``run_views``), whether the nodes form a graph (``domain/graph``),
documents that are registered (``documents``).
"""

from typing import Annotated, Final, Literal

import msgspec

from jobengine.wire.fields import Key, Name, Text, raw_object
from jobengine.wire.jobs import JobRequest

__all__ = [
    "EdgeRequest",
    "EndNodeRequest",
    "ExtendRequest",
    "NodeKeyRequest",
    "NodeRequest",
    "ReplayFromRequest",
    "RerunRequest",
    "RunRequest",
    "SubRunRequest",
]

NodeKindName = Literal["job", "approval", "callback", "policy", "sub_run", "map"]
TriggerName = Literal["all_succeeded", "all_done", "any_succeeded", "any_failed", "none_failed"]
JoinName = Literal["all_succeeded", "all_done", "none_failed"]
NodeKey = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
ExpressionText = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

_OF_WORKERS: Final = (
    ("concurrency_key", "concurrencyKey"),
    ("expires_at", "expiresAt"),
    ("job_type", "jobType"),
    ("not_before", "notBefore"),
    ("queue", "queue"),
    ("source_id", "sourceId"),
    ("timeout_seconds", "timeoutSeconds"),
)


class SubRunRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """The run that a ``sub_run`` node stands for: a version of a DAG, the newest if none is named.
    ``inputs`` may be a template."""

    dag_id: Name
    version: Version | None = None
    inputs: msgspec.Raw = msgspec.field(default_factory=raw_object)


class NodeRequest(JobRequest, omit_defaults=True, kw_only=True, gc=False):
    """A node: its place in the graph, and the fields of its job.

    ``job`` has a worker; ``map`` has one for each place of the list that ``over`` finds, and joins
    by the rule ``join``. ``approval`` waits for an operator, ``callback`` for a signed request;
    ``policy`` completes where ``require`` holds, and fails else; ``sub_run`` ends as its run does.
    With ``template`` the strings of the payload may hold expressions.
    """

    key: NodeKey
    kind: NodeKindName = "job"
    job_type: Name | None = None  # type: ignore[assignment]
    depends_on: Annotated[list[NodeKey], msgspec.Meta(max_length=100_000)] = msgspec.field(
        default_factory=list
    )
    trigger: TriggerName = "all_succeeded"
    when: ExpressionText | None = None
    template: bool | None = None
    over: ExpressionText | None = None
    join: JoinName | None = None
    require: ExpressionText | None = None
    run: SubRunRequest | None = None
    message: Text | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        works = self.kind in ("job", "map")
        if works and self.job_type is None:
            raise ValueError(f"a node of kind `{self.kind}` needs jobType")
        if not works:
            self._refuse_worker_fields()
        for name, kind in (("over", "map"), ("require", "policy"), ("run", "sub_run")):
            given = getattr(self, name) is not None
            if given != (self.kind == kind):
                verb = "belongs to" if given else "is needed by"
                raise ValueError(f"{name} {verb} a node of kind `{kind}`; this is `{self.kind}`")
        if self.join is not None and self.kind != "map":
            raise ValueError("join belongs to a node of kind `map`")
        if self.message is not None and self.kind != "approval":
            raise ValueError("message belongs to a node of kind `approval`")
        if self.hold:
            raise ValueError("hold is of single jobs; put a node of kind `approval` before this")
        if self.run_id is not None:
            raise ValueError("runId is the engine's to give; leave it out")
        if self.unique_key is not None:
            raise ValueError("uniqueKey is of single jobs; the runToken makes a run unique")

    def _refuse_worker_fields(self) -> None:
        for field, name in _OF_WORKERS:
            if getattr(self, field) is not None:
                raise ValueError(f"{name} is of nodes with a worker; this is `{self.kind}`")


class EdgeRequest(
    msgspec.Struct, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True
):
    """``to`` depends on ``from``; both are keys."""

    source: NodeKey
    target: NodeKey


class RunRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A run: ``jobs`` with their dependencies, as ``dependsOn`` or as ``edges``, or a version of a
    DAG with ``inputs``. The tenant's first run of a ``runToken`` is the only one."""

    run_token: Key
    project_id: Key | None = None
    dag_id: Name | None = None
    version: Version | None = None
    inputs: msgspec.Raw = msgspec.field(default_factory=raw_object)
    jobs: list[NodeRequest] = []
    edges: list[EdgeRequest] = []
    fail_fast: bool | None = None
    correlation_id: Key | None = None

    def __post_init__(self) -> None:
        if self.dag_id is None:
            if not self.jobs:
                raise ValueError("a run needs jobs, or a dagId")
            if self.version is not None:
                raise ValueError("version is of a DAG; name its dagId")
        elif self.jobs or self.edges:
            raise ValueError("jobs and edges come from the DAG; leave out either them or dagId")


class ExtendRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """More nodes and edges for a run that is under way; edges go into nodes that have not begun."""

    jobs: list[NodeRequest] = []
    edges: list[EdgeRequest] = []

    def __post_init__(self) -> None:
        if not self.jobs and not self.edges:
            raise ValueError("names nothing to add; give jobs or edges")


class RerunRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """``runToken`` of the new run; one is made where it is absent."""

    run_token: Key | None = None


class ReplayFromRequest(RerunRequest, kw_only=True):
    """``key`` names the node from which on everything runs again."""

    key: NodeKey


class NodeKeyRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """``key`` names the node that is meant."""

    key: NodeKey


class EndNodeRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What a callback reports; the body may be absent, which is success without a result."""

    state: Literal["completed", "failed"] = "completed"
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Key | None = None

    def __post_init__(self) -> None:
        if self.error is not None and self.state != "failed":
            raise ValueError("error belongs to state `failed`")
