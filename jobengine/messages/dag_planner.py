"""The alphabet of a DAG planner: what doors and shards tell it, what it commands, what comes of
that.

A run goes by its id, a node by its key, a job by its id. All of a tenant's runs have one planner.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.errors import Refusal
from jobengine.domain.graph import Edge, Graph
from jobengine.domain.job import Reason, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import RollUp, RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.messages.lease_shard import Actor

__all__ = [
    "AdmitRun",
    "ApproveGate",
    "CancelJobs",
    "CancelRun",
    "CommitCancel",
    "CompleteCallback",
    "EndNodes",
    "EndedRun",
    "ExpandNode",
    "ExplainNode",
    "ExtendRun",
    "FindRuns",
    "FinishRun",
    "GrowRun",
    "JobEnd",
    "JobsEnded",
    "NewNode",
    "NodeAnswer",
    "NodeDecided",
    "NodeEnd",
    "NodeExplanation",
    "NodeRef",
    "NodeSkipped",
    "OpenNode",
    "OpenNodes",
    "ParentNode",
    "Performed",
    "PlannerMessage",
    "ReadRun",
    "Refused",
    "RejectGate",
    "ReleaseJobs",
    "ReplayFrom",
    "RetryFailed",
    "RunAnswer",
    "RunGone",
    "RunRef",
    "RunStarted",
    "RunsFound",
    "StartRerun",
    "SubRunEnded",
    "UnmetDependency",
    "Unsettled",
    "sub_run_ended",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


# ---- facts


class JobEnd(NamedTuple):
    """Of one node, for good: a failed one is not retried by itself. ``digest`` is of the result,
    ``error`` the class of the error. ``skipped``: cancelled because its condition did not hold."""

    key: str
    state: State
    digest: str | None = None
    error: str | None = None
    skipped: bool = False


class ParentNode(NamedTuple):
    """The node of another run of this tenant that ends with this run."""

    run_id: str
    key: str


class RunStarted(_Message, frozen=True, kw_only=True):
    """A run is committed: a new one, one that was recovered, or one that was to be read. Told
    before any end of a node that is not in it.

    ``nodes`` and ``edges`` are the run as it was created and has grown since, in that order.
    ``ends`` has the nodes that have ended; ``started`` those that are scheduled, running or open;
    ``stopping`` those of them whose cancel is requested; the jobs of all others are pending.
    ``graph`` is what nodes and edges make, where somebody has built it; it is the planner's from
    then on. ``stamp`` is of the ``ReadRun`` that this is the answer to.
    """

    stamp: int | None = None
    tenant_id: str
    run_id: str
    run_token: str
    created_at: int
    state: RunState = RunState.PENDING
    nodes: Sequence[Node]
    edges: Sequence[Edge] = ()
    graph: Graph | None = None
    ends: Sequence[JobEnd] = ()
    started: Sequence[str] = ()
    stopping: Sequence[str] = ()
    fail_fast: bool = False
    cancel_requested: bool = False
    parent: ParentNode | None = None


class RunRef(NamedTuple):
    tenant_id: str
    run_id: str


class RunsFound(_Message, frozen=True, kw_only=True):
    """The runs that had not ended when they were looked for; ``stamp`` is of the ``FindRuns``."""

    stamp: int
    runs: Sequence[RunRef]


class RunGone(_Message, frozen=True, kw_only=True):
    """The run that was to be read has ended, so; ``stamp`` is of the ``ReadRun``."""

    stamp: int
    run_id: str
    state: RunState


class JobsEnded(_Message, frozen=True, kw_only=True):
    """Committed ends of nodes of one run."""

    run_id: str
    ends: Sequence[JobEnd]


class NodeSkipped(_Message, frozen=True, kw_only=True):
    """The condition of a node that was to go on does not hold."""

    run_id: str
    key: str


class NodeDecided(_Message, frozen=True, kw_only=True):
    """A node that was to go on ends at once: its policy was judged, or what it is to do could not
    be made of its templates. ``error`` is the class of an error, ``message`` its words."""

    run_id: str
    key: str
    state: State
    error: str | None = None
    message: str | None = None


class ExpandNode(_Message, frozen=True, kw_only=True):
    """The list of an open ``map`` node has ``count`` places. What comes of ``OpenNodes``."""

    run_id: str
    key: str
    count: int


class SubRunEnded(_Message, frozen=True, kw_only=True):
    """What a ``sub_run`` node was opened for has ended, or could not be started (``failed``)."""

    run_id: str
    key: str
    state: RunState
    result: bytes | None = None
    error: str | None = None
    message: str | None = None


def sub_run_ended(parent: ParentNode, run_id: str, state: RunState) -> SubRunEnded:
    """What the end of the run ``run_id`` means to the node that it was started for."""
    failed = state is RunState.FAILED
    return SubRunEnded(
        run_id=parent.run_id,
        key=parent.key,
        state=state,
        result=msgspec.json.encode({"runId": run_id}) if state is RunState.COMPLETED else None,
        error="sub_run_failed" if failed else None,
        message=f"run {run_id} has failed" if failed else None,
    )


# ---- requests of doors; each is answered by the named value or a ``Refusal``


class _Ask(_Message, frozen=True, kw_only=True):
    ask_id: int
    tenant_id: str


class AdmitRun(_Ask, frozen=True, kw_only=True):
    """Is there room for a run of so many nodes? Answered by None."""

    nodes: int


class _RunAsk(_Ask, frozen=True, kw_only=True):
    run_id: str
    actor: Actor


class CancelRun(_RunAsk, frozen=True, kw_only=True):
    """Answered by a ``RunAnswer`` once it is committed that the run is to be cancelled."""


class ExtendRun(_RunAsk, frozen=True, kw_only=True):
    """More nodes and edges; answered by a ``RunAnswer`` with the ids of the new jobs.

    ``body`` is what the door made of the new jobs; it is handed on unchanged to ``GrowRun``.
    """

    nodes: Sequence[Node] = ()
    edges: Sequence[Edge] = ()
    body: bytes = b""


class ApproveGate(_RunAsk, frozen=True, kw_only=True):
    """Complete an open ``approval`` node; answered by a ``NodeAnswer``."""

    key: str


class RejectGate(_RunAsk, frozen=True, kw_only=True):
    """Fail an open ``approval`` node; answered by a ``NodeAnswer``."""

    key: str


class CompleteCallback(_RunAsk, frozen=True, kw_only=True):
    """End an open ``callback`` node, ``completed`` or ``failed``; answered by a ``NodeAnswer``. The
    door has checked the signature; a second call finds the node closed."""

    key: str
    state: State
    result: bytes | None = None
    error: str | None = None


class ExplainNode(_Ask, frozen=True, kw_only=True):
    """Why a node does not go on; answered by a ``NodeExplanation``."""

    run_id: str
    key: str


class UnmetDependency(NamedTuple):
    """A dependency that has not ended; ``started``: its job was released, or it is open."""

    key: str
    job_id: str
    started: bool


class NodeExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """``started``: the node may go on. Else it waits by ``rule`` for ``unmet`` dependencies, of
    which the first are named; there are ``unmet_total``, none where it is about to move on."""

    key: str
    kind: NodeKind
    rule: TriggerRule
    started: bool
    unmet: Sequence[UnmetDependency] = ()
    unmet_total: int = 0


class EndedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the store has it: with how every node ended once it has ended itself."""

    state: RunState
    nodes: Sequence[Node]
    edges: Sequence[Edge] = ()
    ends: Sequence[JobEnd] = ()


class _Rerun(_RunAsk, frozen=True, kw_only=True):
    """``rerun_id`` and ``run_token`` are of the run to be started, ``ended`` is the present one."""

    ended: EndedRun
    rerun_id: str
    run_token: str


class RetryFailed(_Rerun, frozen=True, kw_only=True):
    """Run again what did not complete, and all behind it; answered by a ``RunAnswer``."""


class ReplayFrom(_Rerun, frozen=True, kw_only=True):
    """Run one node again, all behind it, and what did not complete; answered by a ``RunAnswer``."""

    key: str


class RunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """After the commit. ``run_id`` is of the run that changed or was started."""

    run_id: str
    job_ids: Sequence[str] = ()


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """After the commit."""

    run_id: str
    key: str
    job_id: str
    state: State


# ---- commands; each ends in ``Performed``, ``Refused`` or ``Unsettled``


class _Command(_Message, frozen=True, kw_only=True):
    stamp: int
    tenant_id: str
    run_id: str


class NodeRef(NamedTuple):
    key: str
    job_id: str


class ReleaseJobs(_Command, frozen=True, kw_only=True):
    """Command: pending to scheduled; one that is released or has ended already is left alone.
    ``begins``: in the same commit the run becomes running, unless it is.

    ``evaluated`` are those among them that have a condition or a template: they are released if it
    holds, filled in; else ``NodeSkipped`` or ``NodeDecided`` is told of them.
    """

    job_ids: Sequence[str]
    begins: bool
    evaluated: Sequence[NodeRef] = ()


class OpenNode(NamedTuple):
    """``evaluated`` as in ``ReleaseJobs``."""

    key: str
    job_id: str
    kind: NodeKind
    evaluated: bool = False


class OpenNodes(_Command, frozen=True, kw_only=True):
    """Command: nodes without a worker may go on: they become running, without a lease. Then an
    ``approval`` and a ``callback`` wait for the outside; for a ``sub_run`` its run is started, or
    found; of a ``map`` the list is read; a ``policy`` is judged. One that is open already is opened
    again after a restart: what it stands for is asked for anew, and nothing is recorded twice."""

    nodes: Sequence[OpenNode]
    begins: bool


class NodeEnd(NamedTuple):
    """``actor`` is who ended it, None: the engine. ``error`` is the class of an error, ``message``
    its words."""

    key: str
    job_id: str
    state: State
    result: bytes | None = None
    error: str | None = None
    actor: Actor | None = None
    message: str | None = None


class EndNodes(_Command, frozen=True, kw_only=True):
    """Command: end nodes that no worker has or had, through the states in between; one that has
    ended already is left alone. Told back as ``JobsEnded``."""

    ends: Sequence[NodeEnd]


class CancelJobs(_Command, frozen=True, kw_only=True):
    """Command: cancel jobs; one that runs is asked to stop, a node without a worker stops at once.
    One that has ended already is left alone. Told back as ``JobsEnded``."""

    job_ids: Sequence[str]
    reason: Reason


class NewNode(NamedTuple):
    node: Node
    job_id: str


class GrowRun(_Command, frozen=True, kw_only=True):
    """Command: create pending jobs, and store nodes and edges, in one commit. With ``opened`` the
    nodes are the instances of that ``map`` node, which completes in the same commit.

    A ``map`` node among ``nodes`` is followed by its join.
    """

    nodes: Sequence[NewNode]
    edges: Sequence[Edge]
    body: bytes
    actor: Actor | None
    opened: NodeEnd | None


class CommitCancel(_Command, frozen=True, kw_only=True):
    """Command: record that the run is to be cancelled, and who asked for it."""

    actor: Actor


class FinishRun(_Command, frozen=True, kw_only=True):
    """Command: the run ends. ``begins`` as in ``ReleaseJobs``."""

    state: RunState
    rolled: RollUp
    begins: bool


class StartRerun(_Command, frozen=True, kw_only=True):
    """Command: create a run that replays part of ``replay_of``; told back as ``RunStarted``.

    The nodes in ``kept`` are completed from the beginning, with the results that they have there;
    all others get jobs of their own.
    """

    replay_of: str
    run_token: str
    actor: Actor
    nodes: Sequence[Node]
    edges: Sequence[Edge]
    kept: Sequence[str]


class ReadRun(_Command, frozen=True, kw_only=True):
    """Command: wait until nothing of the run is under way, then read it; ends in ``RunStarted``,
    ``RunGone`` or ``Unsettled``. What is told of the run while it is read is told as well."""


class FindRuns(_Message, frozen=True, kw_only=True):
    """Command: name the runs of this planner's shard that have not ended; ends in ``RunsFound`` or
    ``Unsettled``."""

    stamp: int


class Performed(_Message, frozen=True, kw_only=True):
    """It is committed, or was already; ``run_id`` is of the run that a ``StartRerun`` has made."""

    stamp: int
    run_id: str | None = None


class Refused(_Message, frozen=True, kw_only=True):
    """It was decided against: nothing has changed."""

    stamp: int
    refusal: Refusal


class Unsettled(_Message, frozen=True, kw_only=True):
    """No answer: it may have taken effect, or take effect yet."""

    stamp: int


PlannerMessage = (
    RunStarted
    | RunGone
    | RunsFound
    | JobsEnded
    | NodeSkipped
    | NodeDecided
    | ExpandNode
    | SubRunEnded
    | AdmitRun
    | ExplainNode
    | CancelRun
    | ExtendRun
    | ApproveGate
    | RejectGate
    | CompleteCallback
    | RetryFailed
    | ReplayFrom
    | Performed
    | Refused
    | Unsettled
)
"""What a planner may be told."""
