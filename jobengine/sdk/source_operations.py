"""What a client can ask about sources: the upstreams, their rates, tokens and circuit breakers.

Fields of what is created or changed have the names of the wire types (`jobengine.wire.sources`),
which say what they mean. A change that names the `revision` it was made from raises `ApiError` 412
when there is another by now. Removing again what was removed raises 404, also where the first
answer was lost.
"""

from typing import Any

import attrs
import msgspec

from jobengine.sdk.exchange import Exchange, Operation, forced, named, query_of, signed
from jobengine.wire.controls import PauseView, Removed
from jobengine.wire.jobs import Page
from jobengine.wire.rates import BucketRequest, BucketSet, BucketView, RatePolicy, ThrottleView
from jobengine.wire.sources import (
    BreakerView,
    SourcePatch,
    SourceRequest,
    SourceThrottle,
    SourceView,
)

__all__ = ["SourceOperations"]


@attrs.frozen
class SourceOperations(Exchange):
    def create_source(
        self, /, source_id: str, *, reason: str, ticket: str, **fields: Any
    ) -> Operation[SourceView]:
        """Register an upstream; `fields` are SourceRequest's, `source_type` and `host` needed."""
        body = SourceRequest(source_id=source_id, **fields)
        return (yield from self._operate("/sources", SourceView, reason, ticket, body))

    def sources_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[SourceView]]:
        """One page of the sources, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/sources", Page[SourceView], query))

    def source(self, source_id: str) -> Operation[SourceView]:
        """One source, with what moves by itself."""
        return (yield from self._get(named("sources", source_id), SourceView))

    def update_source(
        self,
        /,
        source_id: str,
        *,
        reason: str,
        ticket: str,
        revision: int | None = None,
        **fields: Any,
    ) -> Operation[SourceView]:
        """Change the `fields` (SourcePatch's) of a source; None takes one away."""
        path, body = named("sources", source_id), SourcePatch(**fields)
        headers = signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, SourceView, headers, body))

    def delete_source(
        self,
        source_id: str,
        *,
        reason: str,
        ticket: str,
        revision: int | None = None,
        force: bool = False,
    ) -> Operation[Removed]:
        """Take a source away; one that is in use, with `force` only."""
        path, headers = named("sources", source_id), signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, headers, query=forced(force)))

    def pause_source(self, source_id: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let no job of a source start."""
        path = f"{named('sources', source_id)}:pause"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def resume_source(self, source_id: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let jobs of a source start again."""
        path = f"{named('sources', source_id)}:resume"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def throttle_source(
        self, source_id: str, rate: RatePolicy | None, *, reason: str, ticket: str
    ) -> Operation[ThrottleView]:
        """Set a rate beside the source's own; None lifts it."""
        fields = {"rate": None} if rate is None else msgspec.structs.asdict(rate)
        path, body = f"{named('sources', source_id)}:throttle", SourceThrottle(**fields)
        return (yield from self._operate(path, ThrottleView, reason, ticket, body))

    def source_bucket(self, source_id: str) -> Operation[BucketView]:
        """The tokens of a source's host, and what push-backs have taught."""
        return (yield from self._get(f"{named('sources', source_id)}/bucket", BucketView))

    def set_source_bucket(
        self,
        source_id: str,
        learned_per_minute: float | None,
        *,
        reason: str,
        ticket: str,
        pinned: bool = False,
    ) -> Operation[BucketSet]:
        """Set the rate to go on from, or with None forget what was learned."""
        path = f"{named('sources', source_id)}/bucket"
        body = BucketRequest(learned_per_minute=learned_per_minute, pinned=pinned)
        return (yield from self._change("PUT", path, BucketSet, signed(reason, ticket), body))

    def breakers_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[BreakerView]]:
        """One page of the circuit breakers, by source."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/breakers", Page[BreakerView], query))

    def open_breaker(self, source_id: str, *, reason: str, ticket: str) -> Operation[BreakerView]:
        """Force a breaker open: nothing of its source starts until it is closed or released."""
        path = f"{named('breakers', source_id)}:open"
        return (yield from self._operate(path, BreakerView, reason, ticket))

    def close_breaker(self, source_id: str, *, reason: str, ticket: str) -> Operation[BreakerView]:
        """Force a breaker closed, whatever its source answers."""
        path = f"{named('breakers', source_id)}:close"
        return (yield from self._operate(path, BreakerView, reason, ticket))

    def release_breaker(
        self, source_id: str, *, reason: str, ticket: str
    ) -> Operation[BreakerView]:
        """Let a forced breaker judge by what it sees again."""
        path = f"{named('breakers', source_id)}:release"
        return (yield from self._operate(path, BreakerView, reason, ticket))
