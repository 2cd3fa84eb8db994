"""What the REST front needs of the rest of the system, and its limits."""

import secrets
from collections.abc import Awaitable, Callable, Sequence

import attrs
import msgspec
import trio

from jobengine.actors.gateway import Gateway
from jobengine.auth.sealed import PAGES, Seal
from jobengine.auth.tokens import Tokens
from jobengine.auth.vault import Vault
from jobengine.domain.redaction import Redactor
from jobengine.http.callbacks import Callbacks
from jobengine.http.identities import Identities
from jobengine.http.limits import RateLimits, RequestGate
from jobengine.http.outgoing import OutgoingPolicy
from jobengine.http.run_snapshots import RunSnapshots
from jobengine.http.security import Cors
from jobengine.http.transfers import Transfers
from jobengine.http.turns import Turns

__all__ = ["Check", "Front", "FrontLimits", "Readiness"]


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One condition of readiness; `detail` says what is wrong, or what was found."""

    name: str
    ready: bool
    detail: str = ""


Readiness = Callable[[], Awaitable[Sequence[Check]]]
"""Answers within a bound of its own; an engine is ready when every check is."""


@attrs.frozen(kw_only=True)
class FrontLimits:
    """`body_s`: a body that has not arrived by then is refused with 408; of an artifact's bytes,
    each chunk. `artifact_bytes_max`: of one artifact; `tenant_artifact_bytes_max`: of all that a
    tenant has. `transfers_max`: artifacts that are on their way at once, in both directions, at
    most half of them one tenant's.
    `stream_buffer_events_max`: kept for a reader that is slow, before it is served from the ledger.
    """

    body_bytes_max: int = 8 * 1024 * 1024
    body_s: float = 30.0
    heartbeat_s: float = 15.0
    artifact_bytes_max: int = 64 * 1024 * 1024
    tenant_artifact_bytes_max: int = 10 * 1024 * 1024 * 1024
    transfers_max: int = 64
    stream_buffer_events_max: int = 1_024
    tenant_webhooks_max: int = 100


@attrs.frozen(kw_only=True)
class Front:
    """The ports of the REST front. Streams end when `stopping` is set. `tls`: its listener speaks
    nothing else. `vault` seals secrets of webhooks, those of one that is not given for as long as
    the front lasts; `outgoing` says where webhooks may lead; `turns` are taken by changes of a
    tenant's webhooks."""

    gateway: Gateway
    tokens: Tokens
    readiness: Readiness
    render_metrics: Callable[[], Awaitable[bytes]]
    limits: FrontLimits = attrs.field(factory=FrontLimits)
    redactor: Redactor = attrs.field(factory=Redactor)
    gate: RequestGate = attrs.field(factory=lambda: RequestGate(RateLimits()))
    cors: Cors = attrs.field(factory=Cors)
    tls: bool = False
    stopping: trio.Event = attrs.field(factory=trio.Event)
    vault: Vault = attrs.field(factory=lambda: Vault(secrets.token_bytes(32)))
    outgoing: OutgoingPolicy = attrs.field(factory=OutgoingPolicy)
    turns: Turns = attrs.field(factory=Turns)
    pages: Seal = attrs.field(
        default=attrs.Factory(lambda front: Seal(front.tokens.ring, PAGES), takes_self=True)
    )
    callbacks: Callbacks = attrs.field(
        default=attrs.Factory(lambda front: Callbacks(front.tokens.ring), takes_self=True)
    )
    runs: RunSnapshots = attrs.field(
        default=attrs.Factory(lambda front: RunSnapshots(front.gateway.store), takes_self=True)
    )
    transfers: Transfers = attrs.field(
        default=attrs.Factory(lambda front: Transfers(front.limits.transfers_max), takes_self=True)
    )
    identities: Identities = attrs.field(
        default=attrs.Factory(
            lambda front: Identities(front.tokens, front.gateway.store, front.gateway.clock),
            takes_self=True,
        )
    )
