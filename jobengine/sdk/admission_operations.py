"""What a client can ask about admission: sources, quotas, pauses, and why jobs do not start.

Fields of what is created or changed have the names of the wire types (`jobengine.wire.admission`),
which say what they mean. A change that names the `revision` it was made from raises `ApiError` 412
when there is another by now. Removing again what was removed raises 404, also where the first
answer was lost.

Not here: rates, breakers, blackouts and weights, which are for operators (the command line).
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from jobengine.sdk.exchange import BASE, Call, Exchange, Operation, query_of
from jobengine.wire.admission import (
    BucketRequest,
    BucketSet,
    BucketView,
    JobExplanation,
    PauseView,
    QueueExplanation,
    QuotaPatch,
    QuotaRequest,
    QuotaUse,
    QuotaView,
    RatePolicy,
    Removed,
    SourcePatch,
    SourceRequest,
    SourceThrottle,
    SourceView,
    ThrottleView,
)
from jobengine.wire.jobs import Page

__all__ = ["AdmissionOperations"]

T = TypeVar("T")


@attrs.frozen
class AdmissionOperations(Exchange):
    # ---- sources

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
        return (yield from self._get(_path("sources", source_id), SourceView))

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
        path, body = _path("sources", source_id), SourcePatch(**fields)
        signed = _signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, SourceView, signed, body))

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
        path, signed = _path("sources", source_id), _signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, signed, query=_forced(force)))

    def pause_source(self, source_id: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let no job of a source start."""
        path = f"{_path('sources', source_id)}:pause"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def resume_source(self, source_id: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let jobs of a source start again."""
        path = f"{_path('sources', source_id)}:resume"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def throttle_source(
        self, source_id: str, rate: RatePolicy | None, *, reason: str, ticket: str
    ) -> Operation[ThrottleView]:
        """Set a rate beside the source's own; None lifts it."""
        fields = {"rate": None} if rate is None else msgspec.structs.asdict(rate)
        path, body = f"{_path('sources', source_id)}:throttle", SourceThrottle(**fields)
        return (yield from self._operate(path, ThrottleView, reason, ticket, body))

    def source_bucket(self, source_id: str) -> Operation[BucketView]:
        """The tokens of a source's host, and what push-backs have taught."""
        return (yield from self._get(f"{_path('sources', source_id)}/bucket", BucketView))

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
        path = f"{_path('sources', source_id)}/bucket"
        body = BucketRequest(learned_per_minute=learned_per_minute, pinned=pinned)
        return (yield from self._change("PUT", path, BucketSet, _signed(reason, ticket), body))

    # ---- quotas

    def create_quota(
        self, /, *, reason: str, ticket: str | None = None, **fields: Any
    ) -> Operation[QuotaView]:
        """Bound what runs at once and starts in an hour; `fields` are QuotaRequest's."""
        body = QuotaRequest(**fields)
        return (yield from self._operate("/quotas", QuotaView, reason, ticket, body))

    def quotas_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[QuotaView]]:
        """One page of the quotas, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/quotas", Page[QuotaView], query))

    def quota_summary_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[QuotaUse]]:
        """One page of how much of each quota is used, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/quotas/summary", Page[QuotaUse], query))

    def quota(self, quota_id: str) -> Operation[QuotaView]:
        """One quota."""
        return (yield from self._get(_path("quotas", quota_id), QuotaView))

    def update_quota(
        self,
        /,
        quota_id: str,
        *,
        reason: str,
        ticket: str | None = None,
        revision: int | None = None,
        **fields: Any,
    ) -> Operation[QuotaView]:
        """Change the `fields` (QuotaPatch's) of a quota; what runs above it goes on."""
        path, body = _path("quotas", quota_id), QuotaPatch(**fields)
        signed = _signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, QuotaView, signed, body))

    def delete_quota(
        self,
        quota_id: str,
        *,
        reason: str,
        ticket: str | None = None,
        revision: int | None = None,
        force: bool = False,
    ) -> Operation[Removed]:
        """Take a quota away; one that jobs wait at, with `force` only."""
        path, signed = _path("quotas", quota_id), _signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, signed, query=_forced(force)))

    def pause_quota(
        self, quota_id: str, *, reason: str, ticket: str | None = None
    ) -> Operation[QuotaView]:
        """Let nothing start that a quota is about."""
        path = f"{_path('quotas', quota_id)}/pause"
        return (yield from self._operate(path, QuotaView, reason, ticket))

    def resume_quota(
        self, quota_id: str, *, reason: str, ticket: str | None = None
    ) -> Operation[QuotaView]:
        """Let what a quota is about start again."""
        path = f"{_path('quotas', quota_id)}/resume"
        return (yield from self._operate(path, QuotaView, reason, ticket))

    # ---- pauses

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
        path = f"{_path('queues', queue)}:pause"
        return (yield from self._operate(path, PauseView, reason, ticket))

    def resume_queue(self, queue: str, *, reason: str, ticket: str) -> Operation[PauseView]:
        """Let jobs of a queue start again."""
        path = f"{_path('queues', queue)}:resume"
        return (yield from self._operate(path, PauseView, reason, ticket))

    # ---- explain

    def explain(self, job_id: str) -> Operation[JobExplanation]:
        """Why a job does not start: every closed gate, and what opens it."""
        return (yield from self._get(f"{_path('jobs', job_id)}/explain", JobExplanation))

    def explain_queue(self, queue: str, *, count: int | None = None) -> Operation[QueueExplanation]:
        """Why the first jobs of a queue do not start."""
        path = f"{_path('queues', queue)}/explain"
        return (yield from self._get(path, QueueExplanation, query_of(count=count)))

    def _change(
        self,
        method: Literal["PUT", "PATCH", "DELETE"],
        path: str,
        kind: type[T],
        headers: Mapping[str, str],
        body: msgspec.Struct | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Operation[T]:
        """What may be sent twice without a key: it has the same effect."""
        sent = {**self.headers, **headers}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        answer = yield from self._exchange(Call(method, BASE + path, query or {}, sent, data))
        return msgspec.json.decode(answer.body, type=kind)


def _path(group: str, name: str) -> str:
    return f"/{group}/{quote(name, safe='')}"


def _forced(force: bool) -> dict[str, str]:
    return {"force": "true"} if force else {}


def _signed(reason: str, ticket: str | None, revision: int | None = None) -> dict[str, str]:
    headers = {"X-Stella-Operator-Reason": reason}
    if ticket is not None:
        headers["X-Stella-Operator-Ticket"] = ticket
    if revision is not None:
        headers["If-Match"] = f'"{revision}"'
    return headers
