"""What a DAG planner commands, and what comes of that.

Each command ends in ``Performed``, ``Refused`` or ``Unsettled``, but for the two that read: they
say themselves what they end in. Not here: what else a planner is told (``run_facts``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.errors import Refusal
from jobengine.domain.graph import Edge
from jobengine.domain.job import Reason, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import RollUp, RunState
from jobengine.messages.lease_shard import Actor

__all__ = [
    "CancelJobs",
    "CommitCancel",
    "EndNodes",
    "FindRuns",
    "FinishRun",
    "GrowRun",
    "NewNode",
    "NodeEnd",
    "NodeRef",
    "OpenNode",
    "OpenNodes",
    "Performed",
    "ReadRun",
    "Refused",
    "ReleaseJobs",
    "StartRerun",
    "Unsettled",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


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
