"""Controls: what operators have set about the admission of a tenant's jobs.

A *control* is a document of one kind under a name that is unique for its tenant and kind. The lease
shard that owns the tenant holds all of them in memory, decides every change, and stores it in the
commit that records it; so the order of the ledger is the order in which controls took effect.

I1  Fields stand in the sorted order of their stored names and hold no floats, so that the encoder's
    output is canonical JSON: ledger entry, row and answer hold the same bytes.
I2  A document that exists is valid: ``refuse_control`` is asked before, at the door and again by
    the shard.

A rate is kept in millionths of a token per minute, so that both "one a minute" and "2,500 a second"
are integers. Not here: calendars (``blackout``), shares of tenants (``governance``), how a gate
judges a job (``core/lease_shard``).
"""

import re
from typing import Final, Literal

import msgspec

from jobengine.domain.blackout import Blackout
from jobengine.domain.blackout_refusals import refuse_blackout
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.governance import Governance, refuse_governance

__all__ = [
    "CONTROL_KINDS",
    "Control",
    "ControlKind",
    "Pause",
    "Quota",
    "RatePolicy",
    "Scope",
    "Source",
    "Throttle",
    "Weight",
    "control_name",
    "decode_control",
    "encode_control",
    "refuse_control",
]

MICRO: Final = 1_000_000
PER_MINUTE_MICRO_MAX: Final = 60_000_000 * MICRO
"""A million tokens a second."""
BURST_MAX: Final = 1_000_000_000
WEIGHT_MAX: Final = 1_000

ControlKind = Literal["source", "quota", "throttle", "blackout", "pause", "weight", "governance"]
CONTROL_KINDS: Final[tuple[ControlKind, ...]] = (
    "source",
    "quota",
    "throttle",
    "blackout",
    "pause",
    "weight",
    "governance",
)
Scope = Literal["tenant", "project", "queue", "job_type", "source"]
"""What part of a tenant a control is about; ``tenant`` is all of it and has the empty key."""


class _Document(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    pass


class RatePolicy(_Document, frozen=True, kw_only=True):
    """A token bucket: ``burst`` tokens at most, refilled with ``per_minute_micro`` millionths of a
    token a minute. After a push-back nothing starts for ``cooldown_us`` at least."""

    burst: int
    cooldown_us: int = 0
    per_minute_micro: int


class Source(_Document, frozen=True, kw_only=True):
    """An upstream that jobs talk to. Without a rate policy its jobs are denied.

    ``lock_key``: jobs of all sources with the same one run one at a time. ``auth_ref`` names a
    secret and never is one.
    """

    auth_ref: str | None = None
    capabilities: tuple[str, ...] = ()
    connector_id: str | None = None
    host: str
    lock_key: str | None = None
    max_active: int | None = None
    rate_policy: RatePolicy | None = None
    source_type: str
    weight: int = 1


class Quota(_Document, frozen=True, kw_only=True):
    """How much of a tenant, project or job type may run at once, and start in any hour.

    ``burst`` bounds starts at once, refilled evenly over the hour. ``paused`` is apart from the
    limits: a quota may have none, and then lets nothing start or bounds nothing.
    """

    burst: int | None = None
    key: str = ""
    max_active: int | None = None
    max_per_hour: int | None = None
    paused: bool = False
    scope: Scope = "tenant"

    @property
    def limited(self) -> bool:
        return self.max_active is not None or self.max_per_hour is not None


class Throttle(_Document, frozen=True, kw_only=True):
    """A rate that all jobs of a tenant or job type share, or a lower one for a source."""

    key: str = ""
    rate: RatePolicy
    scope: Scope = "tenant"


class Pause(_Document, frozen=True, kw_only=True):
    """Nothing of this part starts until it is resumed."""

    key: str = ""
    scope: Scope = "tenant"


class Weight(_Document, frozen=True, kw_only=True):
    """The share of a job type against the other job types of its source."""

    key: str
    scope: Scope = "job_type"
    weight: int


Control = Source | Quota | Throttle | Blackout | Pause | Weight | Governance

_TYPES: Final[dict[ControlKind, type[Control]]] = {
    "source": Source,
    "quota": Quota,
    "throttle": Throttle,
    "blackout": Blackout,
    "pause": Pause,
    "weight": Weight,
    "governance": Governance,
}
_decoders = {kind: msgspec.json.Decoder(type_) for kind, type_ in _TYPES.items()}
_encoder = msgspec.json.Encoder()


def control_name(scope: Scope, key: str) -> str:
    """The name of a control that there is one of for each part of a tenant."""
    return f"{scope}:{key}" if key else scope


def encode_control(control: Control) -> bytes:
    """Canonical JSON."""
    return _encoder.encode(control)


def decode_control(kind: ControlKind, body: bytes) -> Control:
    return _decoders[kind].decode(body)


_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_PORT_MAX: Final = 65_535
_REFERENCE: Final = re.compile(r"(env|file|secret|vault):[A-Za-z0-9_][A-Za-z0-9_./#@-]{0,254}")
_COUNT_MAX: Final = 10_000_000


def refuse_control(control: Control, at: int) -> Refusal | None:
    """Why a control makes no sense by itself, naming the field and the remedy; None when it does.

    ``at`` is the present instant in UTC microseconds, for windows that lie in the past.
    """
    match control:
        case Source():
            return _refuse_source(control)
        case Quota():
            return _refuse_quota(control)
        case Throttle():
            return _refuse_scope(control.scope, control.key) or _refuse_rate("rate", control.rate)
        case Blackout():
            return refuse_blackout(control, at)
        case Pause():
            return _refuse_scope(control.scope, control.key)
        case Weight():
            return _refuse_count("weight", control.weight, WEIGHT_MAX)
        case Governance():
            return refuse_governance(control)


def _refuse_source(source: Source) -> Refusal | None:
    host = _HOST.fullmatch(source.host)
    if host is None or not 0 < int(host["port"] or _PORT_MAX) <= _PORT_MAX:
        return _refusal(
            "host", "is no host name; give one like registry.example.org, with a port if need be"
        )
    if source.auth_ref is not None and not _REFERENCE.fullmatch(source.auth_ref):
        return _refusal(
            "authRef",
            "names a secret and never is one; give env:NAME, file:, secret: or vault:PATH",
        )
    refusal = _refuse_count("weight", source.weight, WEIGHT_MAX)
    if refusal is None and source.max_active is not None:
        refusal = _refuse_count("maxActive", source.max_active, _COUNT_MAX)
    if refusal is None and source.rate_policy is not None:
        refusal = _refuse_rate("ratePolicy", source.rate_policy)
    return refusal


def _refuse_quota(quota: Quota) -> Refusal | None:
    if quota.scope not in ("tenant", "project", "job_type"):
        return _refusal("scope", "is tenant, project or job_type for a quota")
    refusal = _refuse_scope(quota.scope, quota.key)
    if quota.burst is not None and quota.max_per_hour is None:
        refusal = refusal or _refusal("burst", "goes with maxPerHour; give both or leave it out")
    for path, value in (
        ("maxActive", quota.max_active),
        ("maxPerHour", quota.max_per_hour),
        ("burst", quota.burst),
    ):
        if refusal is None and value is not None:
            refusal = _refuse_count(path, value, _COUNT_MAX)
    return refusal


def _refuse_rate(path: str, rate: RatePolicy) -> Refusal | None:
    if not 0 < rate.per_minute_micro <= PER_MINUTE_MICRO_MAX:
        return _refusal(path, "needs a rate above 0 and up to 1,000,000 a second")
    if rate.cooldown_us < 0 or rate.cooldown_us > 24 * 3600 * MICRO:
        return _refusal(f"{path}.cooldownSeconds", "is 0 to 86,400")
    return _refuse_count(f"{path}.burst", rate.burst, BURST_MAX)


def _refuse_scope(scope: Scope, key: str) -> Refusal | None:
    if scope == "tenant" and key:
        return _refusal("key", "is left out for the whole tenant; or choose another scope")
    if scope != "tenant" and not key:
        return _refusal("key", f"names the {scope} that this is about")
    return None


def _refuse_count(path: str, value: int, most: int) -> Refusal | None:
    if 1 <= value <= most:
        return None
    return _refusal(path, f"is a whole number from 1 to {most:,}")


def _refusal(path: str, problem: str) -> Refusal:
    return Refusal(
        ErrorCode.INVALID_FIELD,
        f"{path} {problem}",
        {"path": path},
    )
