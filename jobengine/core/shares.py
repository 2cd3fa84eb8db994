"""Shares: a capacity divided among tenants, by each strategy.

Definitions. A tenant's *demand* is how many slots it can use. Its *entitlement* is its share as a
fraction; slots are whole, so the *seats* that rounding down leaves over go to those with the most
*credit*, which is how far a tenant has lately fallen short of its entitlement.

I1  No tenant gets more than its demand, but for its reserve; together they get no more than the
    capacity.
I2  No slot is left over while a tenant wants it and may have it: of what others leave, everybody
    takes by weight (weighted max-min fairness).
I3  A slot more or less than its entitlement is what rounding costs a tenant, and no more.

A reserve is kept free: nobody else is lent a reserved slot, since running work is never stopped and
a lent slot might come back late; that is what "at any time" costs.

Source: Bertsekas and Gallager, Data Networks, 6.5.2 (max-min fair shares).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from jobengine.domain.governance import CAPACITY_MAX, Governance, Share, Strategy

__all__ = ["MICRO", "Division", "Want", "divide", "most_of"]

MICRO: Final = 1_000_000


class Want(NamedTuple):
    """``credit`` in millionths of a slot."""

    share: Share
    demand: int
    credit: int


class Division(NamedTuple):
    """Whole slots by tenant; and of the tenants that get less than they want, their entitlement in
    millionths of a slot, where rounding leaves seats to be shared in turn."""

    slots: Mapping[str, int]
    in_turn: Mapping[str, int]


class _Claim(NamedTuple):
    tenant_id: str
    weight: int
    demand: int
    credit: int


def divide(policy: Governance, wants: Sequence[Want]) -> Division:
    """Divide a policy's capacity; a tenant that wants nothing gets its reserve or nothing."""
    capacity = policy.capacity
    assert capacity is not None, "nothing is divided while nothing is limited"
    match policy.strategy:
        case Strategy.PRIORITY:
            return _by_priority(capacity, wants)
        case Strategy.RESERVED:
            return _by_reserve(capacity, wants)
        case Strategy.MAX_LIMIT:
            return _by_weight(capacity, _claims(wants, _capped))
        case _:
            return _by_weight(capacity, _claims(wants, lambda want: want.demand))


def most_of(policy: Governance, share: Share) -> int:
    """What a tenant may have even where nobody else wants it."""
    if policy.strategy is not Strategy.MAX_LIMIT or share.cap is None:
        return CAPACITY_MAX
    return share.cap


def _capped(want: Want) -> int:
    cap = want.share.cap
    return want.demand if cap is None else min(want.demand, cap)


def _claims(wants: Iterable[Want], demand_of: Callable[[Want], int]) -> list[_Claim]:
    return [
        _Claim(want.share.tenant_id, want.share.weight, demand_of(want), want.credit)
        for want in wants
    ]


def _by_priority(capacity: int, wants: Sequence[Want]) -> Division:
    """Class by class, the highest first; within one all weigh the same."""
    slots: dict[str, int] = {}
    in_turn: dict[str, int] = {}
    ordered = sorted(wants, key=lambda want: (-want.share.priority, want.share.tenant_id))
    for _, of_class in groupby(ordered, key=lambda want: want.share.priority):
        claims = [_Claim(want.share.tenant_id, 1, want.demand, want.credit) for want in of_class]
        part = _by_weight(capacity, claims)
        capacity -= sum(part.slots.values())
        slots.update(part.slots)
        in_turn.update(part.in_turn)
    return Division(slots, in_turn)


def _by_reserve(capacity: int, wants: Sequence[Want]) -> Division:
    """Everybody's reserve, and the rest by weight."""
    reserves = {want.share.tenant_id: want.share.reserved for want in wants}
    left = capacity - sum(reserves.values())
    rest = _by_weight(left, _claims(wants, lambda want: max(0, want.demand - want.share.reserved)))
    return Division(
        {name: reserves[name] + slots for name, slots in rest.slots.items()},
        {name: reserves[name] * MICRO + part for name, part in rest.in_turn.items()},
    )


def _by_weight(capacity: int, claims: Sequence[_Claim]) -> Division:
    slots = {claim.tenant_id: 0 for claim in claims}
    open_ = sorted(
        (claim for claim in claims if claim.demand > 0),
        key=lambda claim: (claim.demand / claim.weight, claim.tenant_id),
    )
    left, weights = capacity, sum(claim.weight for claim in open_)
    contented = 0
    for claim in open_:
        if claim.demand * weights > left * claim.weight:
            break
        slots[claim.tenant_id] = claim.demand
        left -= claim.demand
        weights -= claim.weight
        contented += 1
    rest = open_[contented:]
    for claim in rest:
        slots[claim.tenant_id] = left * claim.weight // weights
    seats = left - sum(slots[claim.tenant_id] for claim in rest)
    uneven = [claim for claim in rest if left * claim.weight % weights]
    for claim in sorted(uneven, key=lambda claim: (-claim.credit, claim.tenant_id))[:seats]:
        slots[claim.tenant_id] += 1
    in_turn = {claim.tenant_id: left * MICRO * claim.weight // weights for claim in uneven}
    return Division(slots, in_turn)
