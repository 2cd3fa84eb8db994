"""What one stream shows: made of an admitted request, and all that is kept of it."""

from collections.abc import Awaitable, Callable, Sequence

import attrs

from jobengine.actors.gateway import Gateway
from jobengine.domain.event_filter import EventFilter
from jobengine.http.streams.besides import Beside
from jobengine.http.streams.form import Shown

__all__ = ["Plan"]


@attrs.frozen(kw_only=True)
class Plan:
    """`begins_after`: what the form says of the beginning; `after_seq` where that is a line of a
    log. `ended` returns, with the reason, when the bearer counts no more. `logs_of` as of
    `gateway.streams.follow`. `events_max`: how many may be kept for a reader that is slow."""

    gateway: Gateway
    tenant_id: str
    after_seq: int
    wanted: EventFilter
    shown: Shown = Shown.EVENTS
    begins_after: int | str | None
    logs_of: str | None = None
    besides: Sequence[Beside] = ()
    ended: Callable[[], Awaitable[str]]
    heartbeat_s: float
    events_max: int
