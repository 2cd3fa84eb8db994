"""The alphabet of a worker session.

What a lease shard tells a session, what the worker behind it says (already translated from the
wire by the door), and what the session commands: things to say to the worker, requests for the
gateway, and the requests to the shard that are named in ``messages/lease_shard.py``.
"""

from collections.abc import Sequence

import msgspec

from jobengine.domain.errors import Refusal
from jobengine.domain.job import Job
from jobengine.domain.records import NewJob
from jobengine.messages.lease_shard import IdempotencyClaim, JobOutcome
from jobengine.messages.worker_reports import Attach, LeaseClaim, Report

__all__ = [
    "SCOPE_SUBMIT",
    "SCOPE_WORK",
    "AskSubmit",
    "AttachBriefly",
    "Attached",
    "BearerEnded",
    "Beaten",
    "Closed",
    "CreditSaid",
    "DrainAsked",
    "DrainSaid",
    "EngineStops",
    "FromShard",
    "Grant",
    "Granted",
    "Greeted",
    "HangUp",
    "HeartbeatSaid",
    "Nacked",
    "Opened",
    "Peer",
    "Received",
    "Said",
    "SendLeases",
    "SessionMessage",
    "Settled",
    "ShardRestarted",
    "StopLease",
    "SubmitAnswered",
    "SubmitSaid",
    "Tell",
    "Unreadable",
    "Welcomed",
]

SCOPE_SUBMIT = "orch:submit"
SCOPE_WORK = "orch:work"


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


# ---- from the shard


class Attached(_Message, frozen=True, kw_only=True):
    resumed: Sequence[str]
    lost: Sequence[str]


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A lease whose commit has returned. ``job`` must be read at once: it goes on changing."""

    job: Job
    lease_id: str
    token: int
    until_at: int


class Granted(_Message, frozen=True, kw_only=True):
    leases: Sequence[Grant]


class Nacked(msgspec.Struct, frozen=True):
    ref: str | int | None
    refusal: Refusal


class Settled(_Message, frozen=True, kw_only=True):
    """Reports that are durable now (``acks``) and those that were refused."""

    acks: Sequence[str | int | None] = ()
    nacks: Sequence[Nacked] = ()


class Beaten(_Message, frozen=True, kw_only=True):
    """Answer to a heartbeat: leases to stop, and named leases that are not this session's."""

    ref: str | int | None
    stop: Sequence[str]
    lost: Sequence[str]


class StopLease(_Message, frozen=True, kw_only=True):
    """A cancel was asked for: the worker should stop this attempt and confirm."""

    lease_id: str
    reason: str
    grace_s: float


class DrainAsked(_Message, frozen=True, kw_only=True):
    """An operator wants this worker to take nothing more; also the command to tell it so. What it
    holds should have ended by then, in UTC microseconds; nothing happens to it after."""

    deadline_at: int


class ShardRestarted(_Message, frozen=True, kw_only=True):
    """The shard was rebuilt and knows no sessions: attach again."""


FromShard = Attached | Granted | Settled | Beaten | StopLease | DrainAsked | ShardRestarted


# ---- from the worker


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end, as its token says; ``scopes`` are names such as ``orch:work``."""

    tenant_id: str
    subject: str
    scopes: frozenset[str]


class Opened(_Message, frozen=True, kw_only=True):
    """The connection stands; first message of every session."""

    peer: Peer


class Greeted(_Message, frozen=True, kw_only=True):
    """``hello``; filters and ``resume`` as in ``Attach``."""

    ref: str | int | None = None
    worker_id: str
    task_runner_id: str
    queues: frozenset[str]
    job_types: frozenset[str]
    capacity: int
    auto_credit: bool = False
    resume: Sequence[LeaseClaim] = ()


class CreditSaid(_Message, frozen=True, kw_only=True):
    ref: str | int | None = None
    slots: int


class HeartbeatSaid(_Message, frozen=True, kw_only=True):
    """Fields as in ``Beat``."""

    ref: str | int | None = None
    leases: Sequence[LeaseClaim] | None = None
    progress: dict[str, bytes] = {}


class DrainSaid(_Message, frozen=True, kw_only=True):
    ref: str | int | None = None


class SubmitSaid(_Message, frozen=True, kw_only=True):
    """Jobs to create; a ``Refusal`` stands in the place of one that cannot be."""

    ref: str | int | None = None
    jobs: Sequence[NewJob | Refusal]
    claim: IdempotencyClaim | None = None


class Unreadable(_Message, frozen=True, kw_only=True):
    """A message that could not be understood or does not belong here; also the command to say so.

    ``path`` is where in the frame, as JSONPath.
    """

    ref: str | int | None = None
    code: str
    message: str
    path: str | None = None


Said = Greeted | CreditSaid | HeartbeatSaid | DrainSaid | SubmitSaid | Report | Unreadable | Nacked
"""One message of a worker. A ``Nacked`` was understood, and is refused by the door already."""


class Received(_Message, frozen=True, kw_only=True):
    """One frame of the worker."""

    said: Sequence[Said]


class Closed(_Message, frozen=True, kw_only=True):
    """The connection is gone."""


# ---- from the engine


class EngineStops(_Message, frozen=True, kw_only=True):
    """The node is going down; also the command to tell the worker. UTC microseconds."""

    deadline_at: int


class BearerEnded(_Message, frozen=True, kw_only=True):
    """The token that opened the session counts no more; the reason says since when or why."""

    reason: str


class SubmitAnswered(_Message, frozen=True, kw_only=True):
    """What became of a submit, in its order; also the command to tell the worker. ``backlog`` is
    how many jobs of the tenant wait."""

    ref: str | int | None
    outcomes: Sequence[JobOutcome] = ()
    backlog: int = 0
    refusal: Refusal | None = None


class AttachBriefly(Attach, frozen=True, kw_only=True):
    """An ``Attach`` for one request. It knows nothing of the worker's other leases, so what it does
    not name is not to be given back."""


SessionMessage = FromShard | Opened | Received | Closed | EngineStops | BearerEnded | SubmitAnswered
"""All that a session is told."""


# ---- commands


class Welcomed(_Message, frozen=True, kw_only=True):
    """Command: answer ``hello``."""

    ref: str | int | None
    session_id: int
    resumed: Sequence[str]
    lost: Sequence[str]


class SendLeases(_Message, frozen=True, kw_only=True):
    """Command: hand these leases to the worker, reading their jobs at once."""

    leases: Sequence[Grant]
    task_runner_id: str


class AskSubmit(_Message, frozen=True, kw_only=True):
    """Command: create these jobs; ends in ``SubmitAnswered`` with the same ``ref``."""

    said: SubmitSaid


class HangUp(_Message, frozen=True, kw_only=True):
    """Command: close the connection when everything said before it has been sent.

    ``code`` is a WebSocket close code (RFC 6455 §7.4).
    """

    code: int
    reason: str


class Tell(_Message, frozen=True, kw_only=True):
    """Command of a shard: say this to a session; dropped when the session is gone."""

    session_id: int
    message: FromShard
