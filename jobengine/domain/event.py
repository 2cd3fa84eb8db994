"""What a ledger entry looks like from outside: the event made of it.

An event is cheap until somebody wants its bytes: they are made once, at the first call for them.

I1  One entry gives one event and always the same bytes, which are canonical JSON.

Not here: the form of the envelope (``event_envelope``), who reads it (broadcaster), how it travels
(SSE, WebSocket, webhooks, bus).
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobengine.domain.canonical import NotCanonicalError, canonical, canonical_of
from jobengine.domain.entry import About, Block, Entry, about, decode_entries
from jobengine.domain.event_envelope import (
    SCHEMA_VERSION,
    EventActor,
    EventArtifact,
    EventEnvelope,
    EventJob,
    EventMetrics,
    EventNotifier,
    encode_envelope,
)
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.domain.job import Definition

__all__ = ["SCHEMA_VERSION", "BlockEvents", "Event", "events_of"]

_PLAIN_US_MIN = 100
_PLAIN_US_MAX = 10**21
"""Between them Python and ECMAScript write seconds alike: without an exponent, in the fewest digits
that read back as the same double; only the ``.0`` of a whole number is Python's own."""
_FIXED_BYTES = 700
_NOTIFIER = EventNotifier()
_NO_ARTIFACTS: tuple[EventArtifact, ...] = ()


class _Named(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What an entry that is no job's says it is about."""

    run_id: str | None = None
    source_id: str | None = None


_definition = msgspec.json.Decoder(Definition).decode
_named = msgspec.json.Decoder(_Named).decode
_artifact = msgspec.json.Decoder(EventArtifact).decode


class Event(msgspec.Struct, gc=False):
    """One event; a job's has ``job_id`` and ``job_type``, both empty in others."""

    seq: int
    event_type: str
    job_id: str
    job_type: str
    run_id: str | None
    source_id: str | None
    tenant_id: str
    _entry: Entry | None
    _subject: About | None
    _body: bytes = b""

    @property
    def body(self) -> bytes:
        """The envelope as canonical JSON."""
        entry = self._entry
        if entry is not None:
            self._body = encode_envelope(_envelope(self.tenant_id, entry, self._subject))
            self._entry = self._subject = None
        return self._body

    @property
    def size(self) -> int:
        """About how many bytes ``body`` has, without making it; exact once it is made."""
        entry = self._entry
        if entry is None:
            return len(self._body)
        return _FIXED_BYTES + len(bytes(entry.data)) + len(bytes(entry.error))


class BlockEvents:
    """The events of a block, made piece by piece."""

    __slots__ = ("_at", "_body", "_subjects", "_tenant_id")

    def __init__(self, block: Block) -> None:
        self._tenant_id = block.tenant_id
        self._body = block.body
        self._at = 0
        self._subjects: dict[str, About] = {}

    @property
    def done(self) -> bool:
        return self._at >= len(self._body)

    @property
    def untouched(self) -> bytes | None:
        """The whole block, while no event has been made."""
        return None if self._at else self._body

    def take(self, bytes_min: int) -> list[Event]:
        """The next events, of so many bytes of the block or a little more; [] when it is done."""
        start, body = self._at, self._body
        found = body.find(b"\n", start + bytes_min)
        self._at = end = len(body) if found < 0 else found + 1
        piece = body if end - start == len(body) else body[start:end]
        return list(self._events(decode_entries(piece)))

    def _events(self, entries: list[Entry]) -> Iterator[Event]:
        """A job's first entry in the block says what the job is (``entry``, I2)."""
        tenant_id, subjects = self._tenant_id, self._subjects
        for entry in entries:
            job_id = entry.job
            if not job_id:
                yield _of_no_job(tenant_id, entry)
                continue
            subject = entry.about
            if subject is not None:
                subjects[job_id] = subject
            else:
                subject = subjects.get(job_id)
                if subject is None:
                    subject = subjects[job_id] = about(_definition(entry.data))
            yield Event(
                entry.seq,
                entry.kind,
                job_id,
                subject.job_type,
                subject.run_id,
                subject.source_id,
                tenant_id,
                entry,
                subject,
            )


def events_of(block: Block, after_seq: int = 0) -> list[Event]:
    """The events of a block in order, those up to ``after_seq`` left out."""
    events = BlockEvents(block).take(len(block.body))
    skipped = after_seq + 1 - block.first_seq
    return events[skipped:] if skipped > 0 else events


def _of_no_job(tenant_id: str, entry: Entry) -> Event:
    named = _Named()
    if entry.data:
        # Data of another form names neither.
        with suppress(msgspec.ValidationError):
            named = _named(entry.data)
    return Event(
        entry.seq, entry.kind, "", "", named.run_id, named.source_id, tenant_id, entry, None
    )


@lru_cache(maxsize=1_024)
def _actor(subject: str, reason_given: str | None, ticket: str | None) -> EventActor:
    return EventActor(reason_given or UNSET, (), subject, ticket or UNSET)


# Entries of one commit mostly share their instant.
_occurred_at = lru_cache(maxsize=1_024)(to_rfc3339)


def _envelope(tenant_id: str, entry: Entry, subject: About | None) -> EventEnvelope:
    kind = entry.kind
    seq = entry.seq
    return EventEnvelope(
        _actor(entry.actor, entry.reason_given, entry.ticket),
        UNSET if subject is None else subject.correlation_id,
        _canonical(entry.data) if subject is None and entry.data else UNSET,
        f"urn:orch:event:{tenant_id}:{seq}",
        kind,
        f"orch-{kind}-{entry.job}-{entry.attempt}",
        UNSET if subject is None else _job(entry, subject),
        UNSET if entry.span_us is None else _metrics(kind, entry.span_us),
        _NOTIFIER,
        _occurred_at(entry.at),
        UNSET if subject is None else subject.project_id,
        SCHEMA_VERSION,
        seq,
        tenant_id,
        UNSET if subject is None else subject.traceparent or UNSET,
    )


def _job(entry: Entry, subject: About) -> EventJob:
    kind, job_id, attempt, data = entry.kind, entry.job, entry.attempt, entry.data
    priority: Raw | UnsetType = UNSET
    progress: Raw | UnsetType = UNSET
    artifacts = _NO_ARTIFACTS
    if data:
        if kind == "job.progressed":
            progress = _canonical(data)
        elif kind == "job.prioritized":
            priority = _canonical(data)
        elif kind == "job.artifact_named":
            artifacts = (_artifact(data),)
    to = entry.to
    return EventJob(
        artifacts,
        attempt,
        _canonical(entry.error) if entry.error else UNSET,
        UNSET if to is None else entry.from_,
        job_id,
        f"{job_id}.{attempt}" if attempt else UNSET,
        subject.payload_digest,
        priority,
        progress,
        subject.queue,
        entry.reason or UNSET,
        subject.run_id,
        UNSET if to is None else to,
        entry.runner or entry.worker or UNSET,
        subject.job_type,
        entry.worker or UNSET,
    )


def _canonical(data: Raw) -> Raw:
    """What is stored has a form already: an event is made of it in any case."""
    try:
        return Raw(canonical(bytes(data)))
    except NotCanonicalError:
        return data


def _metrics(kind: str, span_us: int) -> EventMetrics:
    seconds = Raw(_seconds(span_us))
    if kind == "job.started":
        return EventMetrics(UNSET, UNSET, seconds)
    if kind == "job.retried":
        return EventMetrics(seconds)
    return EventMetrics(UNSET, seconds)


def _seconds(span_us: int) -> bytes | str:
    """Microseconds as the JSON number of seconds that RFC 8785 prescribes (ECMA-262, 7.1.12.1)."""
    if span_us and not _PLAIN_US_MIN <= span_us < _PLAIN_US_MAX:
        return canonical_of(span_us / SECOND)
    return repr(span_us / SECOND).removesuffix(".0")
