"""What doors and planners ask a lease shard about runs and registered documents.

The shard owns the jobs of a run, so it alone commits: it creates the run with its jobs, and carries
out what the run's planner commands. Each is answered after the commit, or by a ``Refusal``.

Not here: what a planner is told and what it commands (``dag_planner``).
"""

from collections.abc import Mapping, Sequence

import msgspec

from jobengine.domain.change import RegistryRow
from jobengine.domain.graph import Edge, Graph
from jobengine.domain.node import Node
from jobengine.domain.records import NewJob
from jobengine.domain.run_record import RunRecord
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FinishRun,
    GrowRun,
    OpenNodes,
    ReleaseJobs,
)
from jobengine.messages.run_facts import JobEnd

__all__ = [
    "CarryOut",
    "CreateRun",
    "DisableDocument",
    "DocumentFacts",
    "FilledIn",
    "RegisterDocument",
    "RegistryAnswer",
    "RunCommand",
    "RunCreated",
    "RunFacts",
    "RunPlan",
    "ShardBegun",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A run as validated at a door. ``nodes`` and ``edges`` are a graph without a cycle; joins are
    not among ``nodes``. ``jobs`` has the job of each node that is not kept, joins included, as they
    are to be created: pending, without unique keys. ``kept`` maps keys of nodes to jobs of earlier
    runs; ``ends`` is how those ended, for the planner. ``graph`` is what nodes and edges make,
    where it was built with them; whoever hands the plan on gives it away."""

    record: RunRecord
    nodes: Sequence[Node]
    edges: Sequence[Edge] = ()
    jobs: Sequence[NewJob]
    kept: Mapping[str, str] = {}
    ends: Sequence[JobEnd] = ()
    graph: Graph | None = None


class CreateRun(_Message, frozen=True, kw_only=True):
    """Create a run and all of its jobs in one commit, and tell its planner; answered by
    ``RunCreated``.

    The run token names the run: where the tenant has one of that token and of equal ``inputs_hash``
    it is the answer, one of another hash refuses the request.
    """

    ask_id: int
    tenant_id: str
    actor: Actor
    plan: RunPlan
    claim: IdempotencyClaim | None = None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is kept under the idempotency key of a ``CreateRun``, as JSON."""

    existing: bool = False
    run_id: str


class RunCreated(msgspec.Struct, frozen=True, kw_only=True):
    """``existing``: the run was there. ``stored`` (``RunFacts``) and ``replayed`` as for a submit;
    of a replayed answer ``run`` is the run as it is now, None when it is gone."""

    run: RunRecord | None
    existing: bool = False
    stored: bytes | None = None
    replayed: bool = False


RunCommand = ReleaseJobs | OpenNodes | EndNodes | CancelJobs | GrowRun | CommitCancel | FinishRun


class FilledIn(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a templated job, filled in: canonical JSON and its digest."""

    payload: bytes
    digest: str


class CarryOut(_Message, frozen=True, kw_only=True):
    """Carry out a planner's command; answered by None.

    ``filled_in`` has the payloads of templated jobs that are to be released or opened, by job id;
    ``jobs`` the jobs of a growth.
    """

    ask_id: int
    tenant_id: str
    command: RunCommand
    filled_in: Mapping[str, FilledIn] = {}
    jobs: Sequence[NewJob] = ()


class ShardBegun(_Message, frozen=True, kw_only=True):
    """To the planner of a shard: the shard was rebuilt from the store. What it had committed and
    not told is told no more, so the runs have to be read again."""


# ---- registered documents


class RegisterDocument(_Message, frozen=True, kw_only=True):
    """Register a version of a document; answered by ``RegistryAnswer``. Without ``version`` it is
    the next one; a given one is above the newest, or is there already and is the answer if its
    digest is equal, else the request is refused."""

    ask_id: int
    tenant_id: str
    actor: Actor
    kind: str
    name: str
    version: int | None = None
    digest: str
    body: bytes
    claim: IdempotencyClaim | None = None


class DisableDocument(_Message, frozen=True, kw_only=True):
    """Let no new run use this version, or let them again with ``enable``; answered by
    ``RegistryAnswer``."""

    ask_id: int
    tenant_id: str
    actor: Actor
    kind: str
    name: str
    version: int
    enable: bool = False
    claim: IdempotencyClaim | None = None


class DocumentFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is kept under the idempotency key of a change of a document, as JSON: the version as it
    was then, without its body."""

    created_at: int
    created_by: str
    digest: str
    disabled_at: int | None = None
    existing: bool = False
    kind: str
    name: str
    version: int


class RegistryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``existing``: it was so already. ``stored`` (a ``DocumentFacts``) and ``replayed`` as for a
    submit; a replayed answer has no ``row``."""

    row: RegistryRow | None
    existing: bool = False
    stored: bytes | None = None
    replayed: bool = False
