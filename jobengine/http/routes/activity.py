"""What happened to a tenant's jobs in the last minutes, as this node has counted it."""

from typing import Annotated, Final

import msgspec

from jobengine.actors.activity import WINDOW_S
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call
from jobengine.http.route_shapes import reading
from jobengine.wire.activity import ActivitySecond, ActivityView

__all__ = ["ROUTES"]


class ActivityQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How far to look back."""

    seconds: Annotated[int, msgspec.Meta(ge=1, le=WINDOW_S)] = 300


async def show_activity(call: Call[ActivityQuery, None]) -> Answer:
    gateway = call.front.gateway
    heads = await gateway.store.heads([call.tenant_id])
    stored = heads[call.tenant_id].next_seq - 1 if call.tenant_id in heads else 0
    now_at = gateway.clock.moment().at
    recent = gateway.ledger.activity.recent(call.tenant_id, now_at, call.query.seconds)
    return json_answer(
        ActivityView(
            tenant_id=call.tenant_id,
            at=to_rfc3339(now_at),
            newest_seq=stored if recent.newest_seq is None else recent.newest_seq,
            since=to_rfc3339(recent.since_at),
            seconds=[
                ActivitySecond(
                    at=to_rfc3339(at),
                    created=counts.created,
                    scheduled=counts.scheduled,
                    started=counts.started,
                    completed=counts.completed,
                    failed=counts.failed,
                    retried=counts.retried,
                    cancelled=counts.cancelled,
                    dead_lettered=counts.dead_lettered,
                )
                for at, counts in recent.seconds
            ],
        )
    )


ROUTES: Final = (
    reading(
        "/activity",
        "getActivity",
        "Show what happened to the tenant's jobs lately, second by second",
        show_activity,
        ActivityView,
        query=ActivityQuery,
    ),
)
