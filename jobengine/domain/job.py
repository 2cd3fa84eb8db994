"""A job: its definition, its state, and the one table of legal transitions.

The machine is data. The store's guards, the API's refusals, the simulator, the replay verifier
and the diagram in ``docs/lifecycle.md`` all read ``TRANSITIONS``; nothing else names a pair of
states.

I1  Every change of a job's state is a row of ``TRANSITIONS``.
I2  ``attempt`` grows with each grant and never shrinks; it is also the fencing token of the lease.
I3  ``completed`` and ``cancelled`` are final; ``failed`` is left only by a retry.

Not here: when a transition is allowed by limits (admission), how it is stored.
Source: the lifecycle table of the specification.
"""

from enum import StrEnum
from typing import Final

import attrs
import msgspec

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = [
    "FINAL",
    "TRANSITIONS",
    "Backoff",
    "Definition",
    "Job",
    "Likeness",
    "Reason",
    "State",
    "Transition",
    "Trigger",
    "allowed_targets",
    "find_transition",
    "refuse_transition",
]


class State(StrEnum):
    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    CREATE = "create"
    RELEASE = "release"
    CANCEL = "cancel"
    GRANT = "grant"
    COMPLETE = "complete"
    FAIL = "fail"
    GIVE_BACK = "give_back"
    STOP = "stop"
    RETRY = "retry"


class Reason(StrEnum):
    USER_CANCELLED = "user_cancelled"
    UPSTREAM_FAILED = "upstream_failed"
    EXPIRED = "expired"
    RUN_CANCELLED = "run_cancelled"
    SKIPPED = "skipped"
    ERROR = "error"
    LEASE_EXPIRED = "lease_expired"
    TIMED_OUT = "timed_out"


@attrs.frozen
class Transition:
    """One legal change: the event it emits and the reasons it may carry."""

    source: State | None
    target: State
    trigger: Trigger
    event: str
    note: str
    reasons: frozenset[Reason] = frozenset()


_CANCEL_REASONS = frozenset(
    {Reason.USER_CANCELLED, Reason.UPSTREAM_FAILED, Reason.EXPIRED, Reason.RUN_CANCELLED}
)
_FAIL_REASONS = frozenset({Reason.ERROR, Reason.LEASE_EXPIRED, Reason.TIMED_OUT})

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(None, State.PENDING, Trigger.CREATE, "job.created", "always the first entry"),
    Transition(
        State.PENDING,
        State.SCHEDULED,
        Trigger.RELEASE,
        "job.scheduled",
        "dependencies met; waits only for admission and a worker",
    ),
    Transition(
        State.PENDING,
        State.CANCELLED,
        Trigger.CANCEL,
        "job.cancelled",
        "never started; `skipped` by its condition in a run",
        _CANCEL_REASONS | {Reason.SKIPPED},
    ),
    Transition(
        State.SCHEDULED,
        State.CANCELLED,
        Trigger.CANCEL,
        "job.cancelled",
        "never started again",
        _CANCEL_REASONS,
    ),
    Transition(
        State.SCHEDULED,
        State.RUNNING,
        Trigger.GRANT,
        "job.started",
        "attempt + 1, in the commit that stores the lease",
    ),
    Transition(
        State.RUNNING, State.COMPLETED, Trigger.COMPLETE, "job.completed", "the worker succeeded"
    ),
    Transition(
        State.RUNNING, State.FAILED, Trigger.FAIL, "job.failed", "failures + 1", _FAIL_REASONS
    ),
    Transition(
        State.RUNNING,
        State.SCHEDULED,
        Trigger.GIVE_BACK,
        "job.released",
        "drain or snooze; costs no retry",
    ),
    Transition(
        State.RUNNING,
        State.CANCELLED,
        Trigger.STOP,
        "job.cancelled",
        "the worker confirmed a cancel, or its lease ended after one",
        _CANCEL_REASONS,
    ),
    Transition(
        State.FAILED,
        State.SCHEDULED,
        Trigger.RETRY,
        "job.retried",
        "automatic while failures ≤ maxRetries, or by an operator",
    ),
)

FINAL: Final[frozenset[State]] = frozenset({State.COMPLETED, State.CANCELLED})

_by_pair: Final = {(row.source, row.target): row for row in TRANSITIONS}


def find_transition(source: State | None, target: State) -> Transition | None:
    """The table's row for this pair of states, or None when the change is illegal."""
    return _by_pair.get((source, target))


def allowed_targets(source: State | None) -> tuple[State, ...]:
    """Every state that may follow, in the table's order."""
    return tuple(row.target for row in TRANSITIONS if row.source is source)


def refuse_transition(job_id: str, source: State, target: State) -> Refusal:
    """The answer to an illegal change: 409, with the pair and what would be legal."""
    allowed = [str(state) for state in allowed_targets(source)]
    legal = f"legal from there: {', '.join(allowed)}" if allowed else "that state is final"
    return Refusal(
        ErrorCode.ILLEGAL_TRANSITION,
        f"job {job_id} is {source} and cannot become {target}; {legal}",
        {"jobId": job_id, "from": str(source), "to": str(target), "allowed": allowed},
    )


class Backoff(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    """How long to wait between attempts; fields in sorted order of their stored names."""

    base_us: int = 1_000_000
    jitter: str = "full"
    kind: str = "exponential"
    max_us: int = 300_000_000


class Definition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    """What a producer asked for; never changes once created, but for the priority of a job that
    waits, which an operator may set anew.

    The fields stand in the sorted order of their stored names and hold no floats, so the encoder's
    output *is* canonical JSON. Durations and instants are integer microseconds. The payload is kept
    apart; its digest stands here. ``node_key`` is the job's key in its run; while it is
    ``templated``, its payload is the template of one, which is filled in when it is released.
    """

    backoff: Backoff = Backoff()
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    correlation_id: str = ""
    cost: int = 1
    depends_on: tuple[str, ...] = ()
    expires_at: int | None = None
    hold: bool = False
    job_type: str
    labels: dict[str, str] = {}
    lease_us: int = 30_000_000
    max_retries: int = 3
    network_intent: str = "local"
    node_key: str | None = None
    not_before: int | None = None
    payload_digest: str
    priority: int = 5
    project_id: str = ""
    queue: str
    replay_of: str | None = None
    run_id: str | None = None
    source_id: str | None = None
    templated: bool = False
    timeout_us: int | None = None
    traceparent: str | None = None
    unique_key: str | None = None
    unique_scope: str = "active"
    unique_window_us: int = 0


@attrs.frozen(eq=False)
class Likeness:
    """What jobs have in common whose definitions differ in correlation id and payload digest alone.

    Whoever translates many jobs gives those that are alike the same record, by identity, so that
    what hangs on a definition is found once for all of them. ``definition`` is that of one.
    ``plain``: of the definition nothing but the job's kind says whether it may start, and nothing
    but its row, lease and entries follows from its creation and its success.
    """

    definition: Definition
    plain: bool

    @classmethod
    def of(cls, definition: Definition) -> "Likeness":
        special = (
            definition.hold
            or definition.not_before is not None
            or definition.expires_at is not None
            or definition.unique_key is not None
            or definition.concurrency_key is not None
            or definition.run_id is not None
            or definition.node_key is not None
            or definition.source_id is not None
            or definition.templated
        )
        return cls(definition, plain=not special)


class Job(msgspec.Struct, eq=False, kw_only=True, gc=False):
    """One job as its owner sees it; a projection of its ledger entries.

    ``definition_json`` and ``payload`` are canonical bytes, encoded once at the door and handed on
    unchanged to ledger, row and lease frame. ``due_at`` is the instant before which it must not
    start (a gate, not a state); ``rank`` orders it in its lane. Jobs known to be alike share
    ``like``.
    """

    job_id: str
    tenant_id: str
    definition: Definition
    definition_json: bytes
    payload: bytes
    created_at: int
    state: State = State.PENDING
    reason: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    due_at: int = 0
    scheduled_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    cancel_requested_at: int | None = None
    cancel_reason: str | None = None
    result: bytes | None = None
    error: bytes | None = None
    progress: bytes | None = None
    seqs: tuple[int, ...] = ()
    like: Likeness | None = None

    @property
    def was_delayed(self) -> bool:
        """Whether it had to wait for its instant when it was scheduled. Any other is ready, also
        for a clock that has been set back since."""
        return self.due_at > (self.scheduled_at or 0)

    def is_delayed(self, at: int) -> bool:
        """Whether it still has to wait for its instant."""
        return self.due_at > at and self.was_delayed
