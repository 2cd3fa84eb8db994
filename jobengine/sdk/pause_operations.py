"""What a client can ask about pauses and blackouts: what lets nothing start, by hand or calendar.

Fields of what is created or changed have the names of the wire types (`jobengine.wire.blackouts`),
which say what they mean. A change that names the `revision` it was made from raises `ApiError` 412
when there is another by now. Removing again what was removed raises 404, also where the first
answer was lost.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from jobengine.sdk.exchange import Exchange, Operation, forced, named, query_of, signed
from jobengine.wire.blackouts import (
    BlackoutPatch,
    BlackoutPreview,
    BlackoutRequest,
    BlackoutScopeName,
    BlackoutView,
    CronRule,
    OneOffRule,
)
from jobengine.wire.controls import PauseView, Removed
from jobengine.wire.jobs import Page

__all__ = ["PauseOperations"]


@attrs.frozen
class PauseOperations(Exchange):
    def pauses_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[PauseView]]:
        """One page of what is paused."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/pauses", Page[PauseView], query))

    def pause_tenant(self, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let no job of the tenant start."""
        return (yield from self._operate("/tenant:pause", PauseView, reason, ticket))

    def resume_tenant(self, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let jobs of the tenant start again."""
        return (yield from self._operate("/tenant:resume", PauseView, reason, ticket))

    def pause_queue(self, queue: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let no job of a queue start."""
        path = f"{named('queues', queue)}:pause"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def resume_queue(self, queue: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let jobs of a queue start again."""
        path = f"{named('queues', queue)}:resume"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def create_blackout(
        self,
        /,
        scope: BlackoutScopeName,
        calendar: Sequence[OneOffRule | CronRule],
        *,
        reason: str,
        ticket: str,
        **fields: Any,
    ) -> Operation[BlackoutView]:
        """Say when nothing starts; `fields` are BlackoutRequest's, `reason` is shown as well."""
        body = BlackoutRequest(scope=scope, calendar=list(calendar), **fields)
        return (yield from self._operate("/blackouts", BlackoutView, reason, ticket, body))

    def blackouts_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[BlackoutView]]:
        """One page of the blackouts, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/blackouts", Page[BlackoutView], query))

    def blackout(self, blackout_id: str) -> Operation[BlackoutView]:
        """One blackout."""
        return (yield from self._get(named("blackouts", blackout_id), BlackoutView))

    def preview_blackout(
        self, blackout_id: str, *, count: int | None = None
    ) -> Operation[BlackoutPreview]:
        """The next windows of a blackout, and whether one is in force; 10 by default."""
        path = f"{named('blackouts', blackout_id)}/preview"
        return (yield from self._get(path, BlackoutPreview, query_of(count=count)))

    def update_blackout(
        self,
        /,
        blackout_id: str,
        *,
        reason: str,
        ticket: str,
        revision: int | None = None,
        **fields: Any,
    ) -> Operation[BlackoutView]:
        """Change the `fields` (BlackoutPatch's) of a blackout; its shown reason stays."""
        path, body = named("blackouts", blackout_id), BlackoutPatch(**fields)
        headers = signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, BlackoutView, headers, body))

    def delete_blackout(
        self,
        blackout_id: str,
        *,
        reason: str,
        ticket: str,
        revision: int | None = None,
        force: bool = False,
    ) -> Operation[Removed]:
        """Take a blackout away; one that jobs wait at, with `force` only."""
        path, headers = named("blackouts", blackout_id), signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, headers, query=forced(force)))
