"""Quotas: how much of a tenant, project or job type may run at once and start in any hour."""

from typing import Any, Final, cast

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.control import Quota
from jobengine.domain.errors import ErrorCode
from jobengine.http.answer import Answer
from jobengine.http.control_views import control_in, kept, quota_view
from jobengine.http.controls import (
    CHANGED,
    CREATED,
    IF_MATCH,
    MERGE_PATCH,
    REPEATED,
    change,
    controls_page,
    first_answer,
    gates,
    modify,
    remove,
    require,
    tag,
)
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, Route
from jobengine.http.routes.sources import RemoveQuery
from jobengine.wire.admission import QuotaPatch, QuotaRequest, QuotaUse, QuotaView, Removed
from jobengine.wire.jobs import Page

__all__ = ["ROUTES"]

_SUMMARY: Final = "summary"


async def create_quota(call: Call[NoQuery, QuotaRequest]) -> Answer:
    body = call.body
    name = body.quota_id or call.front.gateway.new_id()
    if name == _SUMMARY:
        raise invalid("quotaId", f"{_SUMMARY} is a path of its own; choose another name")
    quota = Quota(
        burst=body.burst,
        key=body.key or "",
        max_active=body.max_active,
        max_per_hour=body.max_per_hour,
        paused=body.paused,
        scope=body.scope,
    )
    done = await change(call, "quota.created", "quota", name, quota, expect="absent")
    return json_answer(
        quota_view(done.facts),
        200 if done.replayed else 201,
        replayed=done.replayed,
        Location=f"{BASE}/quotas/{done.facts.name}",
        ETag=tag(done.facts.revision),
    )


async def list_quotas(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "quota")
    return page_answer([quota_view(row) for row in rows], token)


async def show_quota(call: Call[NoQuery, None]) -> Answer:
    row = await require(call, "quota", "quotaId")
    return json_answer(quota_view(row), ETag=tag(row.revision))


async def update_quota(call: Call[NoQuery, QuotaPatch]) -> Answer:
    patch = call.body

    def changed(present: Quota) -> Quota:
        return msgspec.structs.replace(
            present,
            max_active=kept(patch.max_active, present.max_active),
            max_per_hour=kept(patch.max_per_hour, present.max_per_hour),
            burst=kept(patch.burst, present.burst),
        )

    done = await modify(call, "quota.updated", "quota", "quotaId", changed)
    return json_answer(quota_view(done.facts), ETag=tag(done.facts.revision))


async def delete_quota(call: Call[RemoveQuery, None]) -> Answer:
    return await remove(call, "quota.deleted", "quota", "quotaId", force=call.query.force)


async def pause_quota(call: Call[NoQuery, NoBody]) -> Answer:
    return await _switch(call, "quota.paused", paused=True)


async def resume_quota(call: Call[NoQuery, NoBody]) -> Answer:
    return await _switch(call, "quota.resumed", paused=False)


async def summarise_quotas(call: Call[Paging, None]) -> Answer:
    rows, token = await controls_page(call, "quota")
    names = [row.name for row in rows]
    live = await gates(call, ("quota", "bucket"), [*names, *(f"quota:{name}" for name in names)])
    items = []
    for row in rows:
        quota = cast(Quota, control_in(row))
        use = live.get(("quota", row.name), {"running": 0, "waiting": 0})
        hour = live.get(("bucket", f"quota:{row.name}"))
        items.append(
            QuotaUse(
                quota_id=row.name,
                scope=cast(Any, quota.scope),
                key=quota.key or None,
                paused=quota.paused,
                running=use["running"],
                max_active=quota.max_active,
                starts_this_hour=None if hour is None else hour["startsInHour"],
                max_per_hour=quota.max_per_hour,
                waiting=use["waiting"],
            )
        )
    return page_answer(items, token)


async def _switch(call: Call[NoQuery, NoBody], event: str, *, paused: bool) -> Answer:
    first = await first_answer(call)
    if first is not None:
        return json_answer(quota_view(first), replayed=True, ETag=tag(first.revision))

    def changed(present: Quota) -> Quota:
        if not paused and present.max_active is None and present.max_per_hour is None:
            raise invalid("maxActive", "or maxPerHour is missing; delete it instead")
        return msgspec.structs.replace(present, paused=paused)

    done = await modify(call, event, "quota", "quotaId", changed)
    return json_answer(
        quota_view(done.facts), replayed=done.replayed, ETag=tag(done.facts.revision)
    )


_READ = (Scope.READ,)
_QUOTA = (Scope.QUOTA,)
_MISSING = (ErrorCode.NOT_FOUND,)


def _switch_route(verb: str, summary: str, handler: Any) -> Route:
    return Route(
        method="POST",
        path=f"/quotas/{{quotaId}}/{verb}",
        name=f"{verb}Quota",
        summary=summary,
        handler=handler,
        scopes=_QUOTA,
        body=NoBody,
        body_optional=True,
        answers={200: QuotaView},
        answer_headers=("ETag",),
        errors=(*CHANGED, *REPEATED),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/quotas",
        name="createQuota",
        summary="Bound what runs at once and starts in an hour in a tenant, project or job type",
        handler=create_quota,
        scopes=_QUOTA,
        body=QuotaRequest,
        answers={201: QuotaView, 200: QuotaView},
        answer_headers=("ETag",),
        location=True,
        errors=CREATED,
    ),
    Route(
        method="GET",
        path="/quotas",
        name="listQuotas",
        summary="List the quotas, by id",
        handler=list_quotas,
        scopes=_READ,
        query=Paging,
        answers={200: Page[QuotaView]},
    ),
    Route(
        method="GET",
        path=f"/quotas/{_SUMMARY}",
        name="summariseQuotas",
        summary="Show how much of each quota is used, by id",
        handler=summarise_quotas,
        scopes=_READ,
        query=Paging,
        answers={200: Page[QuotaUse]},
    ),
    Route(
        method="GET",
        path="/quotas/{quotaId}",
        name="getQuota",
        summary="Show one quota",
        handler=show_quota,
        scopes=_READ,
        answers={200: QuotaView},
        answer_headers=("ETag",),
        errors=_MISSING,
    ),
    Route(
        method="PATCH",
        path="/quotas/{quotaId}",
        name="updateQuota",
        summary="Change a quota by a JSON merge patch; what runs above it goes on",
        handler=update_quota,
        scopes=_QUOTA,
        body=QuotaPatch,
        consumes=MERGE_PATCH,
        headers=(IF_MATCH,),
        answers={200: QuotaView},
        answer_headers=("ETag",),
        errors=CHANGED,
    ),
    Route(
        method="DELETE",
        path="/quotas/{quotaId}",
        name="deleteQuota",
        summary="Take a quota away that nothing waits at",
        handler=delete_quota,
        scopes=_QUOTA,
        query=RemoveQuery,
        headers=(IF_MATCH,),
        answers={200: Removed},
        errors=(*CHANGED, ErrorCode.IN_USE),
    ),
    _switch_route("pause", "Let nothing start that a quota is about", pause_quota),
    _switch_route("resume", "Let what a quota is about start again", resume_quota),
)
