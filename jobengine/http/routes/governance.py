"""Governance: how tenants share what may run at once. The platform's, so no tenant may touch it."""

from typing import Any, Final

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.governance import (
    LISTED_MAX,
    POLICY_NAME,
    Governance,
    Share,
    Strategy,
)
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.controls import IF_MATCH, change, tag
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoQuery, Route
from jobengine.messages.governor import GovernanceAnswer, Holding
from jobengine.wire.governance import GovernanceRequest, GovernanceView, ShareView

__all__ = ["ROUTES"]

_SHOWN_MAX: Final = 2 * LISTED_MAX


async def show_governance(call: Call[NoQuery, None]) -> Answer:
    return await _shown(call)


async def set_governance(call: Call[NoQuery, GovernanceRequest]) -> Answer:
    body = call.body
    policy = Governance(
        capacity=body.capacity,
        strategy=Strategy(body.strategy),
        tenants=tuple(
            Share(
                cap=share.cap,
                priority=share.priority,
                reserved=share.reserved,
                tenant_id=share.tenant_id,
                weight=share.weight,
            )
            for share in body.tenants
        ),
    )
    revision = await _wanted_revision(call)
    await change(
        call,
        "governance.changed",
        "governance",
        POLICY_NAME,
        policy,
        expect="absent" if revision == 0 else "any",
        revision=revision or None,
    )
    return await _shown(call)


async def _wanted_revision(call: Call[Any, Any]) -> int | None:
    """The revision that `If-Match` asks for, which is the present one; None when it does not
    matter."""
    said = call.headers.get(IF_MATCH, "*").strip()
    if said == "*":
        return None
    revision = (await call.front.gateway.governance()).revision
    if tag(revision) in (one.strip() for one in said.split(",")):
        return revision
    raise RefusedError(
        Refusal(
            ErrorCode.REVISION_MISMATCH,
            f"the policy has revision {revision}; read it again and decide anew",
            {"path": IF_MATCH, "revision": revision},
        )
    )


async def _shown(call: Call[Any, Any]) -> Answer:
    found = await call.front.gateway.governance()
    return json_answer(_view(found), ETag=tag(found.revision))


def _view(found: GovernanceAnswer) -> GovernanceView:
    policy = found.policy
    shares = {share.tenant_id: share for share in policy.tenants}
    holdings = {holding.tenant_id: holding for holding in found.holdings}
    governed = policy.strategy is not Strategy.UNLIMITED
    names = [*shares, *(name for name in holdings if name not in shares)]
    return GovernanceView(
        strategy=policy.strategy.value,
        capacity=policy.capacity,
        revision=found.revision,
        changed_at=None if found.changed_at is None else to_rfc3339(found.changed_at),
        complete=len(names) <= _SHOWN_MAX,
        tenants=[
            _share_view(
                name,
                shares.get(name),
                holdings.get(name, Holding(name, 0, 0, 0, 0)) if governed else None,
            )
            for name in sorted(names[:_SHOWN_MAX])
        ],
    )


def _share_view(name: str, listed: Share | None, holding: Holding | None) -> ShareView:
    share = listed or Share(tenant_id=name)
    return ShareView(
        tenant_id=name,
        listed=listed is not None,
        weight=share.weight,
        priority=share.priority,
        reserved=share.reserved,
        cap=share.cap,
        allotment=None if holding is None else holding.allotment,
        running=None if holding is None else holding.running,
        waiting=None if holding is None else holding.waiting,
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/governance",
        name="getGovernance",
        summary="Show how tenants share what may run at once, and what each has",
        handler=show_governance,
        scopes=(Scope.QUOTA,),
        answers={200: GovernanceView},
        answer_headers=("ETag",),
        of_platform=True,
    ),
    Route(
        method="PUT",
        path="/governance",
        name="setGovernance",
        summary="Set how tenants share what may run at once",
        handler=set_governance,
        scopes=(Scope.QUOTA,),
        headers=(IF_MATCH,),
        body=GovernanceRequest,
        answers={200: GovernanceView},
        answer_headers=("ETag",),
        errors=(ErrorCode.REVISION_MISMATCH,),
        of_platform=True,
    ),
)
