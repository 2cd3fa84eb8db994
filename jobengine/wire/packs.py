"""Shapes of packs, their steps and their runs.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
I2  A step says nothing of when it runs: its place among the others does.

Not here: what steps compile to (``domain/pack_steps``).
"""

from typing import Annotated

import msgspec

from jobengine.domain.pack_steps import CONDITION_MAX
from jobengine.wire.documents import DocumentStateName
from jobengine.wire.fields import Instant, Key, Labels, LongText, raw_object
from jobengine.wire.jobs import JobRequest
from jobengine.wire.run_views import RunView
from jobengine.wire.runs import ExpressionText, JoinName, Version

__all__ = [
    "ApprovalStep",
    "ConditionalStep",
    "MapStep",
    "PackArtifactView",
    "PackLogLine",
    "PackRequest",
    "PackRunRequest",
    "PackRunView",
    "PackStep",
    "PackSummary",
    "PackView",
    "ParallelStep",
    "PolicyStep",
    "RunStep",
]

PackId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9._-]+$(?!\n)")
]
PackDigest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
StepKey = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$(?!\n)")
]
Condition = Annotated[str, msgspec.Meta(min_length=1, max_length=CONDITION_MAX)]
Message = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

_OF_SINGLE_JOBS = (
    ("depends_on", "dependsOn", "steps run in the order in which they stand"),
    ("hold", "hold", "put a step of kind `gate.approval` before this"),
    ("run_id", "runId", "it is the engine's to give"),
    ("unique_key", "uniqueKey", "the runToken makes a run unique"),
)


class _JobStep(JobRequest, omit_defaults=True, kw_only=True, gc=False):
    """A step with a worker, with the fields of its job."""

    key: StepKey
    template: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, name, why in _OF_SINGLE_JOBS:
            if getattr(self, field):
                raise ValueError(f"{name} is of single jobs; {why}")


class RunStep(_JobStep, tag_field="kind", tag="run", omit_defaults=True, kw_only=True, gc=False):
    """One job. Strings of its payload may hold `${inputs.…}` and `${results.KEY.…}`, unless
    `template` is false."""


class MapStep(_JobStep, tag_field="kind", tag="map", omit_defaults=True, kw_only=True, gc=False):
    """A job for each place of the list that `over` finds; its payload sees `item` and `index` too.
    `join` says when the step has ended well."""

    over: ExpressionText
    join: JoinName | None = None


class _Step(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    key: StepKey


class ParallelStep(_Step, tag_field="kind", tag="parallel", omit_defaults=True, kw_only=True):
    """Lists of steps that run side by side; the next step waits for all of them."""

    branches: "Annotated[list[Steps], msgspec.Meta(min_length=1)]"


class ConditionalStep(_Step, tag_field="kind", tag="conditional", omit_defaults=True, kw_only=True):
    """`then` where `when` is true, `else`, if there is any, where it is false."""

    when: Condition
    then: "Steps"
    otherwise: "list[PackStep]" = msgspec.field(name="else", default_factory=list)


class ApprovalStep(_Step, tag_field="kind", tag="gate.approval", omit_defaults=True, kw_only=True):
    """Waits for an operator, who is told `message`; it may hold expressions as a payload does."""

    message: Message
    labels: Labels = {}


class PolicyStep(_Step, tag_field="kind", tag="gate.policy", omit_defaults=True, kw_only=True):
    """Lets the run go on where `require` holds, and fails it else."""

    require: ExpressionText
    labels: Labels = {}


PackStep = RunStep | ParallelStep | MapStep | ConditionalStep | ApprovalStep | PolicyStep
Steps = Annotated[list[PackStep], msgspec.Meta(min_length=1)]


class PackRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A version of a pack, the next one where ``version`` is absent. ``inputs`` is the JSON Schema
    (2020-12) of a run's inputs; steps run one after another."""

    pack_id: PackId
    version: Version | None = None
    description: LongText = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=raw_object)
    steps: Steps
    fail_fast: bool = False


class PackRunRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A run of a pack, of the newest version unless one is named; or of the pack that ``digest``
    addresses. With both, the version must have that digest. ``projectId`` is needed, here or as
    `X-Stella-Project`."""

    run_token: Key
    pack_id: PackId | None = None
    version: Version | None = None
    digest: PackDigest | None = None
    project_id: Key | None = None
    inputs: msgspec.Raw = msgspec.field(default_factory=raw_object)
    fail_fast: bool | None = None
    correlation_id: Key | None = None

    def __post_init__(self) -> None:
        if self.pack_id is None:
            if self.digest is None:
                raise ValueError("names no pack; give packId, or digest")
            if self.version is not None:
                raise ValueError("version is of a pack; name its packId")


# ---- answers


class PackSummary(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A version of a pack in a list; ``digest`` addresses it."""

    pack_id: str
    version: int
    digest: str
    state: DocumentStateName
    created_at: Instant
    created_by: str
    disabled_at: Instant | None = None


class PackView(PackSummary, omit_defaults=True, kw_only=True):
    """A version of a pack, with ``steps`` as they were given. ``planHash`` is sha256 of the
    canonical JSON (RFC 8785) of ``plan``: the nodes that the steps compile to."""

    description: str
    inputs: msgspec.Raw
    fail_fast: bool
    steps: msgspec.Raw
    plan_hash: str
    plan: msgspec.Raw


class PackRunView(RunView, omit_defaults=True, kw_only=True):
    """A run of a pack."""

    version: int
    digest: str
    plan_hash: str


class PackLogLine(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """A log line of a run, with the node and the job that said it."""

    key: str
    job_id: str
    attempt: int
    at: str
    level: str
    text: str


class PackLogEvent(PackLogLine, kw_only=True, gc=False):
    """A log line as it is streamed. ``position`` is that of its stored row, which may hold several
    lines."""

    position: int


class PackArtifactView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """An artifact that an attempt of a node has named."""

    key: str
    job_id: str
    attempt: int
    name: str
    uri: str | None = None
    digest: str | None = None
    mime: str
    size_bytes: int
    at: Instant
