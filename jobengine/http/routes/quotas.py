"""Quotas: how much of a tenant, project or job type may run at once and start in any hour."""

from typing import Any, Final, cast

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.control import Quota
from jobengine.http.answer import Answer
from jobengine.http.control_collection import ControlCollection
from jobengine.http.control_views import control_in, kept, quota_view
from jobengine.http.controls import CHANGED, controls_page, first_facts, gates, tag
from jobengine.http.errors import invalid
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging
from jobengine.http.route_shapes import REPEATED, acting, reading
from jobengine.wire.jobs import Page
from jobengine.wire.quotas import QuotaPatch, QuotaRequest, QuotaUse, QuotaView

__all__ = ["ROUTES"]

QUOTAS: Final = ControlCollection(kind="quota", scope=Scope.QUOTA, shown=QuotaView, view=quota_view)
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
    return await QUOTAS.create(call, name, _useful(quota))


async def update_quota(call: Call[NoQuery, QuotaPatch]) -> Answer:
    patch = call.body

    def changed(present: Quota) -> Quota:
        quota = msgspec.structs.replace(
            present,
            max_active=kept(patch.max_active, present.max_active),
            max_per_hour=kept(patch.max_per_hour, present.max_per_hour),
            burst=kept(patch.burst, present.burst),
        )
        return _useful(quota)

    return await QUOTAS.update(call, changed)


async def pause_quota(call: Call[NoQuery, NoBody]) -> Answer:
    return await _switch(call, "paused", paused=True)


async def resume_quota(call: Call[NoQuery, NoBody]) -> Answer:
    return await _switch(call, "resumed", paused=False)


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
    """Apart from the limits: a quota that has none bounds nothing once it is resumed."""
    first = await first_facts(call)
    if first is not None:
        return json_answer(quota_view(first), replayed=True, ETag=tag(first.revision))

    def changed(present: Quota) -> Quota:
        return msgspec.structs.replace(present, paused=paused)

    return await QUOTAS.update(call, changed, event)


def _useful(quota: Quota) -> Quota:
    """Limits that are left out are forgotten more often than meant, so somebody has to say so."""
    if not quota.limited and not quota.paused:
        raise invalid(
            "maxActive", "or maxPerHour is needed: this limits nothing and pauses nothing"
        )
    return quota


_SWITCHED: Final = (*CHANGED, *REPEATED)

ROUTES: Final = (
    *QUOTAS.routes_of_all(
        create_quota,
        QuotaRequest,
        summary="Bound what runs at once and starts in an hour in a tenant, project or job type",
    ),
    reading(
        f"/quotas/{_SUMMARY}",
        "summariseQuotas",
        "Show how much of each quota is used, by id",
        summarise_quotas,
        Page[QuotaUse],
        query=Paging,
    ),
    *QUOTAS.routes_of_one(
        update_quota,
        QuotaPatch,
        show_summary="Show one quota",
        update_summary="Change a quota by a JSON merge patch; what runs above it goes on",
        delete_summary="Take a quota away that nothing waits at",
    ),
    acting(
        "/quotas/{quotaId}/pause",
        "pauseQuota",
        "Let nothing start that a quota is about",
        pause_quota,
        QuotaView,
        scopes=(Scope.QUOTA,),
        errors=_SWITCHED,
        answer_headers=("ETag",),
    ),
    acting(
        "/quotas/{quotaId}/resume",
        "resumeQuota",
        "Let what a quota is about start again",
        resume_quota,
        QuotaView,
        scopes=(Scope.QUOTA,),
        errors=_SWITCHED,
        answer_headers=("ETag",),
    ),
)
