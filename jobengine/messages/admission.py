"""The alphabet of admission: what doors ask of a lease shard about its gates, and its answers.

The exchange about rates is in ``messages/rate_bucket.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from jobengine.domain.control import Control, ControlKind
from jobengine.domain.records import Lane
from jobengine.messages.answers import ControlFacts
from jobengine.messages.lease_shard import Actor, IdempotencyClaim

__all__ = [
    "Allot",
    "BreakerVerb",
    "ChangeControl",
    "ControlAnswer",
    "Expect",
    "Explain",
    "ExplainAnswer",
    "Explanation",
    "GateClosed",
    "GateFacts",
    "GateKind",
    "GatesAnswer",
    "LearnRate",
    "OperateBreaker",
    "ReadGates",
    "SetLoad",
]

Expect = Literal["any", "absent", "present"]
BreakerVerb = Literal["open", "close", "release"]
GateKind = Literal["breaker", "concurrency", "bucket", "quota", "source"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class _Change(_Message, frozen=True, kw_only=True):
    ask_id: int
    tenant_id: str
    actor: Actor
    claim: IdempotencyClaim | None = None


class ChangeControl(_Change, frozen=True, kw_only=True):
    """Set a control, or take it away (``control`` None); answered by ``ControlAnswer`` or a
    ``Refusal``. It takes effect with the decision: what starts later in the ledger obeys it.

    ``event`` is the kind of the ledger entry. ``revision``, when given, must be the present one.
    A control that jobs wait at, or a source that jobs belong to, is taken away with ``force`` only.
    """

    event: str
    kind: ControlKind
    name: str
    control: Control | None
    expect: Expect = "any"
    revision: int | None = None
    force: bool = False


class ControlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """After the commit; ``replayed`` when these are the facts of an earlier request."""

    facts: ControlFacts
    replayed: bool = False


class OperateBreaker(_Change, frozen=True, kw_only=True):
    """Force the breaker of a source open or closed, or give it back to what it sees; answered by
    ``GatesAnswer``."""

    source_id: str
    verb: BreakerVerb


class LearnRate(_Change, frozen=True, kw_only=True):
    """Set what a source's host has taught (``pinned``: it stays), or forget it with None; answered
    by ``GatesAnswer``. In millionths of a token a minute."""

    source_id: str
    learned_micro: int | None
    pinned: bool = False


class ReadGates(_Message, frozen=True, kw_only=True):
    """Where a tenant's gates stand, of these kinds and keys only where they are given; answered by
    ``GatesAnswer``."""

    ask_id: int
    tenant_id: str
    kinds: Sequence[GateKind] | None = None
    keys: Sequence[str] | None = None


class GateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One gate as it stands; ``key`` is the source's id, the bucket's key, or the quota's name, and
    ``state`` JSON-ready, with instants in UTC microseconds."""

    kind: GateKind
    key: str
    state: Mapping[str, Any]


class GatesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    gates: Sequence[GateFacts]
    running: int
    replayed: bool = False


class Explain(_Message, frozen=True, kw_only=True):
    """Why these jobs do not start; answered by ``ExplainAnswer``, unknown ones left out.

    With a ``queue`` instead: the first ``jobs_max`` of those that wait there in memory."""

    ask_id: int
    tenant_id: str
    job_ids: Sequence[str] = ()
    queue: str | None = None
    jobs_max: int = 0


class GateClosed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One closed gate; ``opens_at`` in UTC microseconds, or ``opens_on`` says what opens it."""

    gate: str
    key: str
    observed: str
    limit: str
    message: str
    opens_at: int | None = None
    opens_on: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One job's closed gates; none if and only if the next admission step takes it, or it does not
    wait. ``place`` is its (lane, rank) when it waits in a lane, for its position."""

    job_id: str
    state: str
    gates: Sequence[GateClosed]
    place: tuple[Lane, int] | None = None
    position: int | None = None
    estimated_start_at: int | None = None


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    jobs: Sequence[Explanation]


class SetLoad(_Message, frozen=True, kw_only=True):
    """The load of the node: work of low priority is deferred from ``elevated`` on."""

    level: Literal["normal", "elevated", "shedding"]


class Allot(_Message, frozen=True, kw_only=True):
    """How many jobs of a tenant may run at once by the strategy across tenants; answered by
    ``Allotted`` with the stamp."""

    tenant_id: str
    slots: int
    stamp: int
