"""What has become of runs and of their nodes, as a DAG planner is told it by doors, shards and its
shell.

A run goes by its id, a node by its key, a job by its id. Not here: what came of the planner's own
commands (``planner_commands``), what doors ask of it (``dag_planner``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.graph import Edge, Graph
from jobengine.domain.job import State
from jobengine.domain.node import Node
from jobengine.domain.run import RunState

__all__ = [
    "ExpandNode",
    "JobEnd",
    "JobsEnded",
    "NodeDecided",
    "NodeSkipped",
    "ParentNode",
    "RunGone",
    "RunRef",
    "RunStarted",
    "RunsFound",
    "RunsTold",
    "SubRunEnded",
    "sub_run_ended",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


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


class RunsTold(_Message, frozen=True, kw_only=True):
    """Each run that had not ended when this life of the planner began has been told."""


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
