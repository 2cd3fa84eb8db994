"""Ledger entries and blocks: the form of everything that happened.

A *block* is what one commit adds to one tenant's ledger: entries as newline-separated canonical
JSON, chained by ``link = sha256(previous link ‖ body)``.

I1  ``Entry`` fields stand in the sorted order of their stored names and hold no floats, so the
    encoder's output is canonical JSON.
I2  Within a block the first entry of a job says what the job is (``data`` when it is created,
    ``about`` otherwise); later entries of that job in that block inherit it. A block can be read
    without any other.
I3  ``seq`` is gap-free per tenant; a block holds ``first_seq … last_seq`` in order.

Not here: the event envelope made from an entry, the compression of stored blocks.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from jobengine.domain.job import Definition

__all__ = [
    "GENESIS",
    "NO_DATA",
    "About",
    "Block",
    "Entry",
    "Head",
    "about",
    "decode_entries",
    "encode_entries",
    "next_link",
]

GENESIS = bytes(32)
"""The link before a tenant's first block."""

NO_DATA = msgspec.Raw(b"")


class About(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False
):
    """What a job is, for entries of a block in which it was not created."""

    correlation_id: str = ""
    job_type: str
    payload_digest: str
    project_id: str = ""
    queue: str
    run_id: str | None = None
    source_id: str | None = None
    traceparent: str | None = None


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """One thing that happened to a tenant; ``seq`` is set by the ledger when it commits.

    ``span_us`` is the time spent in what the entry ends: queueing on ``job.started``, running on
    the ends of an attempt, waiting on ``job.retried``. ``reason_given`` and ``ticket`` are the
    operator's words for a mutation. ``runner`` is the worker's task runner, where that has another
    name than the worker.
    """

    about: About | None = None
    actor: str
    at: int
    attempt: int = 0
    data: msgspec.Raw = NO_DATA
    error: msgspec.Raw = NO_DATA
    from_: str | None = msgspec.field(name="from", default=None)
    job: str = ""
    kind: str
    reason: str | None = None
    reason_given: str | None = None
    runner: str | None = None
    seq: int = 0
    span_us: int | None = None
    ticket: str | None = None
    to: str | None = None
    worker: str | None = None


class Head(msgspec.Struct, frozen=True):
    """Where a tenant's ledger stands: the next sequence number and the link to chain on."""

    next_seq: int
    link: bytes


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit adds to one tenant's ledger. ``body`` is the exact bytes that were hashed."""

    tenant_id: str
    first_seq: int
    last_seq: int
    at: int
    previous: bytes
    link: bytes
    body: bytes


def about(definition: Definition) -> About:
    return About(
        correlation_id=definition.correlation_id,
        job_type=definition.job_type,
        payload_digest=definition.payload_digest,
        project_id=definition.project_id,
        queue=definition.queue,
        run_id=definition.run_id,
        source_id=definition.source_id,
        traceparent=definition.traceparent,
    )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The body of a block: each entry canonical, each line ended by a newline."""
    return _encoder.encode_lines(entries)


def decode_entries(body: bytes) -> list[Entry]:
    """The entries of a block, in order."""
    return _decoder.decode_lines(body)


def next_link(previous: bytes, body: bytes) -> bytes:
    """The chain link of a block: SHA-256 over the previous link and the body."""
    sha = hashlib.sha256(previous)
    sha.update(body)
    return sha.digest()
