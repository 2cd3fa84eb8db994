"""The alphabet of a rate bucket: what its lease shard asks of it, and what it answers.

A *limit* is one bucket of a tenant, named by its key; a *request* is one job that wants tokens of
several limits at once. The shard feeds the bucket its limits and the states last stored, so the
bucket reads nothing itself and a fresh one goes on where the last stood.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

__all__ = [
    "Adapted",
    "BucketLost",
    "BucketState",
    "Configure",
    "Denial",
    "Learn",
    "Limit",
    "Peek",
    "Peeked",
    "PushedBack",
    "RateGate",
    "RateRequest",
    "Refund",
    "Reserve",
    "Reserved",
    "Started",
]

RateGate = Literal["rate", "quota_hour", "retry_budget"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket. ``key`` names it for its tenant: ``host:registry.example``, ``tenant``,
    ``job_type:scan``, ``quota:nightly``, ``retry:osv``.

    ``per_minute_micro``: refill in millionths of a token a minute; ``burst``: tokens at most.
    ``hour_max``: starts in any 3,600 seconds at most (the ``quota_hour`` gate), instead of or
    beside the refill. With neither, everything is denied: a source without a rate policy.
    ``adaptive``: push-backs lower the refill; after one that does, nothing starts for
    ``cooldown_us``. A retry budget (gate ``retry_budget``) is refilled with ``per_minute_micro``,
    and with ``start_share_micro`` of a token for each start that is no retry.
    """

    key: str
    gate: RateGate
    per_minute_micro: int | None = None
    burst: int | None = None
    hour_max: int | None = None
    adaptive: bool = False
    cooldown_us: int = 0
    start_share_micro: int = 0


class BucketState(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    """What of a bucket outlives a restart; instants UTC microseconds, fields sorted by stored name.

    ``level_micro`` tokens (millionths) were there at ``at``. ``hour`` counts starts by minute since
    the epoch, newest last. ``learned_micro`` is the refill that push-backs have taught, None when
    there is nothing to heed; it had that value at ``learned_at`` and grows from there towards
    ``ceiling_micro``, where the upstream pushed back last. ``open_at``: a push-back forbids any
    start before.
    """

    at: int
    ceiling_micro: int | None = None
    hour: tuple[tuple[int, int], ...] = ()
    learned_at: int = 0
    learned_micro: int | None = None
    level_micro: int = 0
    open_at: int = 0
    pinned: bool = False


class RateRequest(msgspec.Struct, frozen=True, gc=False):
    """A job that wants to start: ``cost`` tokens of each rate, one start of each hourly quota, one
    of the retry budget when it is a ``retry``.

    ``line``: where it comes from. Lines that are denied take turns at a limit, by cost and
    ``weight``; a request without one takes none.
    """

    job_id: str
    keys: tuple[str, ...]
    cost: int = 1
    retry: bool = False
    line: str = ""
    weight: int = 1


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A closed gate: what was seen, what is allowed, and when it opens if nothing else happens.

    ``of_request``: it asks for more than the limit ever gives; others of the limit may pass.
    """

    gate: RateGate
    key: str
    observed: str
    limit: str
    opens_at: int | None
    message: str
    of_request: bool = False


# ---- from the shard


class Configure(_Message, frozen=True, kw_only=True):
    """The limits of a tenant from now on; what it has a state of and no limit for is forgotten.

    ``states`` count for keys that this bucket does not know yet. Stamps grow from one to the next,
    of whatever tenant.
    """

    tenant_id: str
    stamp: int = 0
    limits: Sequence[Limit]
    states: Mapping[str, BucketState]


class Reserve(_Message, frozen=True, kw_only=True):
    """Take tokens for as many of these as can have them, in this order, each all or nothing; ends
    in ``Reserved``, or ``BucketLost``."""

    tenant_id: str
    stamp: int
    requests: Sequence[RateRequest]


class Refund(_Message, frozen=True, kw_only=True):
    """Tokens of jobs that did not start after all."""

    tenant_id: str
    requests: Sequence[RateRequest]


class Started(_Message, frozen=True, kw_only=True):
    """First starts by the key of the retry budget that they feed."""

    tenant_id: str
    starts: Mapping[str, int]


class Peek(_Message, frozen=True, kw_only=True):
    """What would deny these now; ends in ``Peeked``, or ``BucketLost``. Takes nothing."""

    tenant_id: str
    stamp: int
    requests: Sequence[RateRequest]


class PushedBack(_Message, frozen=True, kw_only=True):
    """An upstream pushed back (429, 503, Retry-After): ``key`` is its limit; ends in ``Adapted``
    unless nothing changed.

    ``granted_at``: when the start that was pushed back had its tokens, if that is known. One from
    before the last halving does not halve again.
    """

    tenant_id: str
    key: str
    http_status: int
    retry_after_us: int | None = None
    granted_at: int | None = None


class Learn(_Message, frozen=True, kw_only=True):
    """An operator sets the learned refill (``pinned``: it stays), or None to forget what was
    learned; ends in ``Adapted`` if the limit learns at all."""

    tenant_id: str
    key: str
    learned_micro: int | None
    pinned: bool = False


# ---- to the shard


class Reserved(_Message, frozen=True, kw_only=True):
    """In the order of the requests: None where the tokens were taken, else the first closed gate.

    ``states`` are those of every bucket that was taken from, to be stored with the grants. ``at``:
    what the wall clock showed, by which all instants in here go.
    """

    tenant_id: str
    stamp: int
    at: int
    denials: Sequence[Denial | None]
    states: Mapping[str, BucketState]


class Peeked(_Message, frozen=True, kw_only=True):
    """In the order of the requests: every closed gate."""

    tenant_id: str
    stamp: int
    denials: Sequence[Sequence[Denial]]


class Adapted(_Message, frozen=True, kw_only=True):
    """A refill changed by what an upstream or an operator said; to be stored and told."""

    tenant_id: str
    key: str
    state: BucketState
    from_micro: int
    to_micro: int
    cause: str


class BucketLost(_Message, frozen=True, kw_only=True):
    """This tenant has no bucket: configure one, and ask again what is open.

    ``configured`` is the stamp of the last ``Configure`` that was heard before, of whatever tenant:
    what was asked since a later one was not lost.
    """

    tenant_id: str
    configured: int
