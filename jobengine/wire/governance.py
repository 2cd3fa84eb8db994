"""Shapes of governance: how tenants share what may run at once, and what each has now.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
"""

from typing import Literal

import msgspec

from jobengine.wire.fields import Instant, Key

__all__ = ["GovernanceRequest", "GovernanceView", "ShareRequest", "ShareView", "StrategyName"]

StrategyName = Literal["unlimited", "proportional", "priority", "reserved", "max-limit"]


class ShareRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """What a tenant is given; each strategy goes by its own field. `reserved` and `cap` in jobs
    that run at once; 9 is the highest `priority`."""

    tenant_id: Key
    weight: int = 1
    priority: int = 0
    reserved: int = 0
    cap: int | None = None


class GovernanceRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """The whole policy. `capacity`: jobs that may run at once, all tenants together; needed but for
    `unlimited`. Tenants that are not listed have the defaults of those that are."""

    strategy: StrategyName
    capacity: int | None = None
    tenants: list[ShareRequest] = []


class ShareView(msgspec.Struct, kw_only=True, rename="camel"):
    """`listed`: the policy names it; others have the defaults. `allotment`: what may run now;
    `running` more than that drains. `waiting`: jobs that only the allotment keeps from free slots
    of workers. None of the three is known while nothing is limited."""

    tenant_id: str
    listed: bool
    weight: int
    priority: int
    reserved: int
    cap: int | None
    allotment: int | None
    running: int | None
    waiting: int | None


class GovernanceView(msgspec.Struct, kw_only=True, rename="camel"):
    """`tenants`: those listed and those that have work, by id; `complete` is false where there are
    more. `revision` 0: never set."""

    strategy: StrategyName
    capacity: int | None
    revision: int
    changed_at: Instant | None
    complete: bool
    tenants: list[ShareView]
