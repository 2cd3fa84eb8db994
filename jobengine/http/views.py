"""Shapes of answers that only the REST front gives; those it shares are in `wire/jobs.py`."""

import msgspec

from jobengine.http.front import Check
from jobengine.wire.fields import Instant
from jobengine.wire.jobs import DeadLetterView, ErrorBody, HistoryItem, JobView

__all__ = [
    "ArtifactView",
    "ClosingView",
    "DeadLetterDetail",
    "Live",
    "LogLineView",
    "ReadyView",
]


class ArtifactView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """An artifact that an attempt of a job has named."""

    job_id: str
    attempt: int
    name: str
    uri: str | None = None
    digest: str | None = None
    mime: str
    size_bytes: int
    at: Instant


class LogLineView(msgspec.Struct, rename="camel", kw_only=True):
    attempt: int
    at: str
    level: str
    text: str


class ClosingView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Who closed a dead letter, when, and in which words."""

    at: Instant
    actor: str
    reason_given: str | None = None
    ticket: str | None = None


class DeadLetterDetail(DeadLetterView, rename="camel", omit_defaults=True, kw_only=True):
    """A dead letter with its evidence. `history` is that of its job, `job` the job by now; it is
    absent once the job is past retention, and so is `closed`, which an open letter does not have.
    """

    worker_id: str | None = None
    replayed_as: str | None = None
    closed: ClosingView | None = None
    job: JobView | None = None
    history: list[HistoryItem]
    artifacts: list[ArtifactView]


class Live(msgspec.Struct):
    state: str


class ReadyView(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """`error` stands beside the checks when one of them fails, so that it is an error envelope."""

    ready: bool
    checks: list[Check]
    error: ErrorBody | None = None
