"""The event envelope ``orch.event.v1``: what a ledger entry looks like from outside.

I1  One entry gives one event and always the same bytes.

Not here: who reads it (broadcaster), how it travels (SSE, WebSocket, webhooks, bus).
"""

from typing import Any

import msgspec

from jobengine.domain.canonical import canonical_of
from jobengine.domain.entry import About, Block, Entry, about, decode_entries
from jobengine.domain.ids import lease_id
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import Definition

__all__ = ["SCHEMA_VERSION", "Event", "events_of"]

SCHEMA_VERSION = "orch.event.v1"

_definition = msgspec.json.Decoder(Definition)
_OF_RUNS = "run."
_SPAN_NAMES = {"job.started": "queueSeconds", "job.retried": "backoffSeconds"}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, encoded once; the other fields are for filters."""

    seq: int
    event_type: str
    job_id: str
    job_type: str
    run_id: str | None
    source_id: str | None
    body: bytes


def events_of(block: Block, after_seq: int = 0) -> list[Event]:
    """The events of a block in order, those up to ``after_seq`` left out."""
    subjects: dict[str, About] = {}
    events = []
    for entry in decode_entries(block.body):
        subject = _subject(entry, subjects)
        if entry.seq > after_seq:
            events.append(_event(block.tenant_id, entry, subject))
    return events


def _subject(entry: Entry, known: dict[str, About]) -> About | None:
    if not entry.job:
        return None
    if entry.about is not None:
        known[entry.job] = entry.about
    elif entry.job not in known:
        known[entry.job] = about(_definition.decode(entry.data))
    return known[entry.job]


def _event(tenant_id: str, entry: Entry, subject: About | None) -> Event:
    envelope: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "eventId": f"urn:orch:event:{tenant_id}:{entry.seq}",
        "seq": entry.seq,
        "eventType": entry.kind,
        "occurredAt": to_rfc3339(entry.at),
        "idempotencyKey": f"orch-{entry.kind}-{entry.job}-{entry.attempt}",
        "tenantId": tenant_id,
        "actor": {"subject": entry.actor, "scopes": []},
        "notifier": {
            "channel": "ledger",
            "delivery": "at_least_once",
            "replay": {"ordinal": 1, "total": 1},
        },
    }
    if subject is not None:
        envelope["correlationId"] = subject.correlation_id
        envelope["projectId"] = subject.project_id
        envelope["job"] = _job(entry, subject)
        if subject.traceparent:
            envelope["traceparent"] = subject.traceparent
    if entry.span_us is not None:
        name = _SPAN_NAMES.get(entry.kind, "durationSeconds")
        envelope["metrics"] = {name: entry.span_us / 1_000_000}
    if entry.data and subject is None:
        envelope["data"] = msgspec.json.decode(entry.data)
    run_id = subject.run_id if subject else None
    if entry.kind.startswith(_OF_RUNS):
        run_id = envelope.get("data", {}).get("runId", run_id)
    return Event(
        seq=entry.seq,
        event_type=entry.kind,
        job_id=entry.job,
        job_type=subject.job_type if subject else "",
        run_id=run_id,
        source_id=subject.source_id if subject else None,
        body=canonical_of(envelope),
    )


def _job(entry: Entry, subject: About) -> dict[str, Any]:
    job: dict[str, Any] = {
        "id": entry.job,
        "type": subject.job_type,
        "queue": subject.queue,
        "runId": subject.run_id,
        "attempt": entry.attempt,
        "payloadDigest": subject.payload_digest,
        "artifacts": [],
    }
    if entry.to is not None:
        job |= {"status": entry.to, "from": entry.from_}
    if entry.attempt:
        job["leaseId"] = lease_id(entry.job, entry.attempt)
    if entry.worker:
        job["workerId"] = entry.worker
    if entry.reason:
        job["reason"] = entry.reason
    if entry.error:
        job["error"] = msgspec.json.decode(entry.error)
    if entry.kind == "job.progressed" and entry.data:
        job["progress"] = msgspec.json.decode(entry.data)
    if entry.kind == "job.prioritized":
        job["priority"] = msgspec.json.decode(entry.data)
    return job
