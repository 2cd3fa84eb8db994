"""A run: its states, the document that defines it, the ids of its jobs, and what comes out of it.

I1  A change of a run's state is a row of ``RUN_TRANSITIONS``; a run only goes forward. What runs
    again is another run, with the results that are kept.
I2  ``RunDefinition`` stands in the sorted order of its stored names and holds no floats, so the
    encoder's output is canonical JSON.
I3  ``inputs_hash`` and ``outputs_hash`` do not depend on the order in which nodes were given, came
    or ended.
I4  The id of a job follows from tenant, run token and key, and from the instant at which the run
    was created; asking again under the same run token finds that run, hence the same ids.

Not here: which node may start (``trigger_rule``), who decides it (``core/dag_planner``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import MILLISECOND
from jobengine.domain.job import State
from jobengine.domain.node import Node

__all__ = [
    "ENDED",
    "ERRORS_MAX",
    "RUN_TRANSITIONS",
    "JobIds",
    "NodeError",
    "RollUp",
    "RunDefinition",
    "RunState",
    "RunTransition",
    "canonical_definition",
    "end_of_run",
    "find_run_transition",
    "inputs_hash",
    "outputs_hash",
    "refuse_run_transition",
    "roll_up",
]

ERRORS_MAX: Final = 100


class RunState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunTransition(NamedTuple):
    source: RunState | None
    target: RunState
    event: str
    note: str


RUN_TRANSITIONS: Final = (
    RunTransition(None, RunState.PENDING, "run.created", "always the first entry"),
    RunTransition(RunState.PENDING, RunState.RUNNING, "run.started", "its first node may start"),
    RunTransition(RunState.PENDING, RunState.CANCELLED, "run.cancelled", "nothing has started"),
    RunTransition(RunState.RUNNING, RunState.COMPLETED, "run.completed", "all that was to run did"),
    RunTransition(RunState.RUNNING, RunState.FAILED, "run.failed", "a node failed for good"),
    RunTransition(
        RunState.RUNNING, RunState.CANCELLED, "run.cancelled", "by request, or a node of it was"
    ),
)

ENDED: Final = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})

_by_pair: Final = {(row.source, row.target): row for row in RUN_TRANSITIONS}


def find_run_transition(source: RunState | None, target: RunState) -> RunTransition | None:
    """The table's row for this pair of states, or None when the change is illegal."""
    return _by_pair.get((source, target))


def refuse_run_transition(run_id: str, source: RunState, target: RunState) -> Refusal | None:
    """The answer to whoever asks for a change that the table does not have; None where it does."""
    if (source, target) in _by_pair:
        return None
    allowed = [str(row.target) for row in RUN_TRANSITIONS if row.source is source]
    legal = f"legal from there: {', '.join(allowed)}" if allowed else "that state is final"
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"run {run_id} is {source} and cannot become {target}; {legal}",
        {"runId": run_id, "from": str(source), "to": str(target), "allowed": allowed},
    )


# ---- what was asked for


class RunDefinition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    """What was asked for. ``fail_fast``: the first node that fails for good cancels the rest.
    ``inputs_digest`` is of the inputs of the DAG template ``dag_id`` at ``dag_version``."""

    dag_id: str | None = None
    dag_version: int | None = None
    fail_fast: bool = False
    inputs_digest: str | None = None
    jobs: tuple[Node, ...]


_encode: Final = msgspec.json.Encoder().encode


def canonical_definition(definition: RunDefinition) -> bytes:
    """As canonical JSON, with nodes by key and each one's dependencies sorted."""
    jobs = tuple(
        msgspec.structs.replace(node, depends_on=tuple(sorted(node.depends_on)))
        for node in sorted(definition.jobs, key=lambda node: node.key)
    )
    return _encode(msgspec.structs.replace(definition, jobs=jobs))


def inputs_hash(definition: RunDefinition) -> str:
    """Of everything that decides what the run does, but for its name."""
    return digest(canonical_definition(definition))


class JobIds:
    """The ids of a run's jobs: UUID version 7 (RFC 9562 §5.7), 36 characters.

    48 bits are the milliseconds of the run's creation, so that jobs of runs sort among all others
    by age and lie together in the store. The other 74 are of sha256 over tenant, run token and key.
    """

    __slots__ = ("_head", "_sha")

    def __init__(self, tenant_id: str, run_token: str, created_at: int) -> None:
        head = f"{created_at // MILLISECOND:012x}"
        self._head = f"{head[:8]}-{head[8:]}-7"
        self._sha = hashlib.sha256(_encode((tenant_id, run_token)))

    def of(self, key: str) -> str:
        sha = self._sha.copy()
        sha.update(key.encode())
        tail = sha.hexdigest()
        variant = "89ab"[int(tail[3], 16) & 3]
        return f"{self._head}{tail[:3]}-{variant}{tail[4:7]}-{tail[7:19]}"


# ---- what came out of it


class NodeError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``error`` is the class of the error, where the node has one."""

    error: str | None = None
    key: str


class RollUp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Nodes by how they ended; ``errors`` has the failed ones by key, ``ERRORS_MAX`` at most."""

    cancelled: int = 0
    completed: int = 0
    errors: tuple[NodeError, ...] = ()
    failed: int = 0
    outputs_hash: str


def outputs_hash(
    keys: Sequence[str], states: Sequence[State], digests: Mapping[int, str]
) -> str:  # fmt: skip
    """Over key, state and digest of the result of every node, by key. ``digests`` has those of
    nodes that have a result, by their place in ``keys``."""
    by_key = sorted(range(len(keys)), key=keys.__getitem__)
    return digest(_encode([(keys[place], states[place], digests.get(place)) for place in by_key]))


def roll_up(
    keys: Sequence[str],
    states: Sequence[State],
    digests: Mapping[int, str],
    errors: Mapping[int, str],
) -> RollUp:
    """What a run that has ended amounts to; ``digests`` and ``errors`` by place in ``keys``."""
    failed = [place for place, state in enumerate(states) if state is State.FAILED]
    failed.sort(key=keys.__getitem__)
    return RollUp(
        cancelled=states.count(State.CANCELLED),
        completed=states.count(State.COMPLETED),
        errors=tuple(
            NodeError(key=keys[place], error=errors.get(place)) for place in failed[:ERRORS_MAX]
        ),
        failed=len(failed),
        outputs_hash=outputs_hash(keys, states, digests),
    )


def end_of_run(rolled: RollUp, *, cancel_requested: bool, interrupted: bool) -> RunState:
    """How a run ends whose nodes have all ended. ``interrupted``: one was cancelled, or expired,
    though its trigger rule would have let it run.

    A branch that was not taken does not count: a node for the case of a failure is cancelled when
    there is none, and the run is completed.
    """
    if cancel_requested:
        return RunState.CANCELLED
    if rolled.failed:
        return RunState.FAILED
    return RunState.CANCELLED if interrupted else RunState.COMPLETED
