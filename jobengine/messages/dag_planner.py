"""The alphabet of a DAG planner: what doors ask of it and are answered, and all that it is told.

All of a tenant's runs have one planner. A run goes by its id, a node by its key, a job by its id.
Each request is answered by the value that it names, or by a ``Refusal``. Not here: the facts
(``run_facts``), the planner's commands and what comes of them (``planner_commands``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.graph import Edge
from jobengine.domain.job import State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.trigger_rule import TriggerRule
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import Performed, Refused, Unsettled
from jobengine.messages.run_facts import (
    ExpandNode,
    JobEnd,
    JobsEnded,
    NodeDecided,
    NodeSkipped,
    RunGone,
    RunsFound,
    RunStarted,
    RunsTold,
    SubRunEnded,
)

__all__ = [
    "AdmitRun",
    "ApproveGate",
    "CancelRun",
    "CompleteCallback",
    "EndedRun",
    "ExplainNode",
    "ExtendRun",
    "NodeAnswer",
    "NodeExplanation",
    "PlannerMessage",
    "RejectGate",
    "ReplayFrom",
    "RetryFailed",
    "RunAnswer",
    "UnmetDependency",
]


class _Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    ask_id: int
    tenant_id: str


class AdmitRun(_Ask, frozen=True, kw_only=True):
    """Is there room for a run of so many nodes? Answered by None. ``inside``: a live run wants
    it."""

    nodes: int
    inside: bool = False


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


PlannerMessage = (
    RunStarted
    | RunGone
    | RunsFound
    | RunsTold
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
