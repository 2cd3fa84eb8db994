"""What the engine's jobs, entries and rows look like in REST.

A mutation is rendered from its facts, whether it has just happened or is repeated under its
idempotency key (see `messages/answers.py`); a read from the store's own objects. Both end in
the same view, built here and nowhere else.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from jobengine.domain.change import ArtifactRow, DeadLetterRow
from jobengine.domain.entry import Entry
from jobengine.domain.failure import Failure
from jobengine.domain.ids import lease_id
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.domain.job import Backoff, Definition, Job, State
from jobengine.http.answer import Answer
from jobengine.http.errors import error_body
from jobengine.http.times import instant
from jobengine.http.views import ArtifactView
from jobengine.messages.answers import JobFacts, OutcomeFacts
from jobengine.wire import jobs as wire
from jobengine.wire.jobs import (
    BulkAnswer,
    BulkItem,
    DeadLetterView,
    HistoryItem,
    JobFailure,
    JobView,
    ProgressNote,
)

__all__ = [
    "artifact_view",
    "bulk_answer",
    "dead_letter_view",
    "encode",
    "history_items",
    "job_view",
    "json_answer",
    "page_answer",
]

_encoder: Final = msgspec.json.Encoder()
_definition: Final = msgspec.json.Decoder(Definition)
_failure: Final = msgspec.json.Decoder(Failure)
_progress: Final = msgspec.json.Decoder(ProgressNote)
_DEFAULT_BACKOFF: Final = Backoff()
_DEFAULT_BACKOFF_VIEW: Final = wire.Backoff()

encode = _encoder.encode


def json_answer(value: Any, status: int = 200, *, replayed: bool = False, **headers: str) -> Answer:
    """A value as JSON; header names are given with underscores. `replayed` marks a repeat."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    if replayed:
        named["Idempotent-Replayed"] = "true"
    return Answer(encode(value), status, headers=named)


def page_answer(items: Sequence[Any], next_page_token: str | None) -> Answer:
    """One page of a list."""
    return Answer(encode({"items": items, "nextPageToken": next_page_token}))


def job_view(job: Job | JobFacts) -> JobView:
    """The REST form of a job, or of the facts of one."""
    if isinstance(job, Job):
        definition = job.definition
    else:
        definition = _definition.decode(job.definition)
    unique_key = definition.unique_key
    return JobView(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        project_id=definition.project_id or None,
        job_type=definition.job_type,
        queue=definition.queue,
        run_id=definition.run_id,
        run_key=definition.node_key,
        source_id=definition.source_id,
        payload=msgspec.Raw(job.payload),
        payload_digest=definition.payload_digest,
        priority=definition.priority,
        hold=definition.hold,
        not_before=instant(definition.not_before),
        expires_at=instant(definition.expires_at),
        depends_on=list(definition.depends_on),
        max_retries=definition.max_retries,
        backoff=_backoff(definition.backoff),
        timeout_seconds=definition.timeout_us and definition.timeout_us // SECOND,
        lease_seconds=definition.lease_us // SECOND,
        unique_key=unique_key,
        unique_scope=None if unique_key is None else cast(Any, definition.unique_scope),
        window_seconds=definition.unique_window_us // SECOND or None,
        concurrency_key=definition.concurrency_key,
        concurrency_limit=definition.concurrency_limit,
        cost=definition.cost,
        labels=definition.labels,
        correlation_id=definition.correlation_id,
        traceparent=definition.traceparent,
        network_intent=cast(Any, definition.network_intent),
        attempt=job.attempt,
        failures=job.failures,
        crashes=job.crashes,
        state=cast(Any, job.state),
        reason=job.reason,
        result=msgspec.Raw(job.result) if job.result else msgspec.UNSET,
        error=_error(job.error),
        progress=_progress.decode(job.progress) if job.progress else None,
        replay_of=definition.replay_of,
        cancel_requested_at=instant(job.cancel_requested_at),
        created_at=to_rfc3339(job.created_at),
        scheduled_at=instant(job.scheduled_at),
        started_at=instant(job.started_at),
        finished_at=instant(job.finished_at),
    )


def history_items(entries: Iterable[Entry]) -> list[HistoryItem]:
    """The transitions among a job's entries, in their order; other entries are left out."""
    return [
        HistoryItem(
            seq=entry.seq,
            from_=cast(Any, entry.from_),
            to=cast(Any, entry.to),
            at=to_rfc3339(entry.at),
            attempt=entry.attempt,
            actor=entry.actor,
            reason=entry.reason,
            reason_given=entry.reason_given,
            ticket=entry.ticket,
            lease_id=lease_id(entry.job, entry.attempt) if _under_lease(entry) else None,
            worker_id=entry.worker,
            error=_error(entry.error),
        )
        for entry in entries
        if entry.to is not None
    ]


def artifact_view(row: ArtifactRow) -> ArtifactView:
    return ArtifactView(
        job_id=row.job_id,
        attempt=row.attempt,
        name=row.name,
        uri=row.uri,
        digest=row.digest,
        mime=row.mime,
        size_bytes=row.size_bytes,
        at=to_rfc3339(row.at),
    )


def dead_letter_view(row: DeadLetterRow) -> DeadLetterView:
    return DeadLetterView(
        dead_letter_id=row.dead_letter_id,
        job_id=row.job_id,
        job_type=row.job_type or "",
        queue=row.queue or "",
        class_=row.class_ or "",
        signature=row.signature or "",
        error=_error(row.error) or _NO_ERROR,
        attempts=row.attempts or 0,
        at=to_rfc3339(row.at or 0),
        state=cast(Literal["open", "replayed", "retried", "discarded"], row.state),
    )


def bulk_answer(items: Sequence[OutcomeFacts], *, replayed: bool) -> Answer:
    """One outcome a submitted job, in request order, and how many there are of each."""
    counts = {"created": 0, "existing": 0, "rejected": 0}
    shown = []
    for index, item in enumerate(items):
        counts[item.outcome] += 1
        error = None if item.refusal is None else error_body(item.refusal.refusal(), None)
        shown.append(BulkItem(index, cast(Any, item.outcome), item.job_id, error))
    return json_answer(BulkAnswer(items=shown, **counts), replayed=replayed)


_NO_ERROR: Final = JobFailure(class_="Error", message="")


def _under_lease(entry: Entry) -> bool:
    return State.RUNNING in (entry.from_, entry.to)


def _backoff(backoff: Backoff) -> wire.Backoff:
    if backoff == _DEFAULT_BACKOFF:
        return _DEFAULT_BACKOFF_VIEW
    return wire.Backoff(
        kind=cast(Any, backoff.kind),
        base_seconds=backoff.base_us / SECOND,
        max_seconds=backoff.max_us / SECOND,
        jitter=cast(Any, backoff.jitter),
    )


def _error(text: bytes | msgspec.Raw | None) -> JobFailure | None:
    if not text:
        return None
    failure = _failure.decode(text)
    return JobFailure(
        class_=failure.class_,
        message=failure.message,
        retryable=failure.retryable,
        http_status=failure.http_status,
        stack=failure.stack,
    )
