"""Governance: how tenants share what may run at once over all of them.

A *policy* has a strategy and a capacity in running jobs. Of each tenant that it lists it knows what
the strategies go by; a tenant that is not listed has the defaults. All of it is kept whatever the
strategy, so that the strategy can be changed and changed back; each goes by its own numbers alone.

I1  As in ``control``: fields in the sorted order of their stored names, no floats.
I2  Reserved slots never exceed the capacity together, and a cap is never below its own reserve,
    whatever the strategy: so no change of the strategy alone can contradict itself.

Not here: the division (``core/shares``), who holds what now (``core/governor``).
"""

from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = [
    "CAPACITY_MAX",
    "LISTED_MAX",
    "POLICY_NAME",
    "PRIORITY_MAX",
    "SHARE_WEIGHT_MAX",
    "SYSTEM_TENANT",
    "UNLIMITED",
    "Governance",
    "Share",
    "Strategy",
    "refuse_governance",
]

SYSTEM_TENANT: Final = "_system"
"""Whose ledger records what is the platform's and no tenant's. It has no jobs."""
POLICY_NAME: Final = "policy"
"""The name of the one control of this kind."""
CAPACITY_MAX: Final = 10_000_000
LISTED_MAX: Final = 1_000
PRIORITY_MAX: Final = 9
SHARE_WEIGHT_MAX: Final = 1_000
_TENANT_CHARACTERS_MAX: Final = 256
_NAMED_MAX: Final = 20


class Strategy(StrEnum):
    UNLIMITED = "unlimited"
    PROPORTIONAL = "proportional"
    PRIORITY = "priority"
    RESERVED = "reserved"
    MAX_LIMIT = "max-limit"


class Share(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What one tenant is given: ``cap`` and ``reserved`` in running jobs; a higher ``priority`` is
    served first."""

    cap: int | None = None
    priority: int = 0
    reserved: int = 0
    tenant_id: str
    weight: int = 1


class Governance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``capacity``: jobs that may run at once, all tenants together; None where nothing limits."""

    capacity: int | None = None
    strategy: Strategy = Strategy.UNLIMITED
    tenants: tuple[Share, ...] = ()


UNLIMITED: Final = Governance()


def refuse_governance(policy: Governance) -> Refusal | None:
    """Why a policy makes no sense, naming tenants, numbers and remedy; None when it does."""
    if policy.capacity is None and policy.strategy is not Strategy.UNLIMITED:
        return _refusal("capacity", f"is needed for {policy.strategy}: how many jobs run at once")
    if policy.capacity is not None and not 1 <= policy.capacity <= CAPACITY_MAX:
        return _refusal("capacity", f"is a whole number from 1 to {CAPACITY_MAX:,}")
    if len(policy.tenants) > LISTED_MAX:
        return _refusal(
            "tenants", f"lists {len(policy.tenants):,} tenants, and {LISTED_MAX:,} are the most"
        )
    for index, share in enumerate(policy.tenants):
        refusal = _refuse_share(f"tenants[{index}]", share, policy.capacity)
        if refusal is not None:
            return refusal
    return _refuse_twice(policy) or _refuse_reserves(policy)


def _refuse_share(path: str, share: Share, capacity: int | None) -> Refusal | None:
    name = share.tenant_id
    if not 0 < len(name) <= _TENANT_CHARACTERS_MAX or not name.isprintable():
        return _refusal(f"{path}.tenantId", "is a printable text of 1 to 256 characters")
    if name == SYSTEM_TENANT:
        return _refusal(
            f"{path}.tenantId", f"{name} has no jobs, so it gets no share; leave it out"
        )
    for field, value, least, most in (
        ("weight", share.weight, 1, SHARE_WEIGHT_MAX),
        ("priority", share.priority, 0, PRIORITY_MAX),
        ("reserved", share.reserved, 0, CAPACITY_MAX),
        ("cap", share.cap, 1, CAPACITY_MAX),
    ):
        if value is not None and not least <= value <= most:
            return _refusal(
                f"{path}.{field}", f"of {name} is a whole number from {least} to {most:,}"
            )
    if share.cap is not None and share.cap < share.reserved:
        return _refusal(
            f"{path}.cap",
            f"of {name} is {share.cap} and its reserved slots are {share.reserved}; "
            "raise the cap or reserve less",
        )
    return None


def _refuse_twice(policy: Governance) -> Refusal | None:
    counts = Counter(share.tenant_id for share in policy.tenants)
    twice = sorted(name for name, count in counts.items() if count > 1)
    return _refusal("tenants", f"lists {twice[0]} more than once") if twice else None


def _refuse_reserves(policy: Governance) -> Refusal | None:
    """I2"""
    reserves = {share.tenant_id: share.reserved for share in policy.tenants if share.reserved}
    total = sum(reserves.values())
    if policy.capacity is None or total <= policy.capacity:
        return None
    largest = sorted(reserves, key=lambda name: (-reserves[name], name))
    said = ", ".join(f"{name} {reserves[name]}" for name in largest[:_NAMED_MAX])
    more = f" and {len(largest) - _NAMED_MAX} more" if len(largest) > _NAMED_MAX else ""
    return Refusal(
        ErrorCode.INVALID_FIELD,
        f"tenants reserve {total} slots ({said}{more}), and the capacity is {policy.capacity}; "
        "raise the capacity or reserve less",
        {"path": "tenants", "capacity": policy.capacity, "reserved": total},
    )


def _refusal(path: str, problem: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_FIELD, f"{path} {problem}", {"path": path})
