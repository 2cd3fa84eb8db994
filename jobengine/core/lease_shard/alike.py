"""Alike steps: what many alike jobs do in one change, noted while it is decided, written when it
leaves.

A part that moves a job in one of the ways known here may note it with the draft instead of writing
its entries and row. Jobs noted in one *group* took the same steps and have the same likeness,
worker and attempt; what they say differs in a few values, so a large group is written as a cohort.

I1  What leaves says of every job what its entries and row would say, written one by one: the steps
    of a cohort's model and of a single job are written by the same function.
I2  A group that is small, or whose text makes no cohort, is written one by one.

Not here: which jobs may be noted (``creations``, ``grants``, ``reports``), the text (``cohort``).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.groups import Group
from jobengine.domain.cohort import MARKED_DEFINITION, MARKED_SPAN_US, MARKED_TEXTS, Cohort
from jobengine.domain.job import Job, State

__all__ = ["COMPLETED", "GRANTED", "STARTED", "WAITING", "is_plain", "write_alike"]

_COHORT_JOBS_MIN: Final = 4
"""Of fewer jobs a model costs as much as it saves."""

_encode: Final = msgspec.json.Encoder().encode
_Raw: Final = msgspec.Raw

Columns: TypeAlias = tuple[dict[str, Sequence[Any]], dict[str, Sequence[bytes]]]


@attrs.frozen(eq=False)
class Steps:
    """One way in which jobs move from the state ``before``.

    ``write`` makes a job take the steps, given how long it had been there in microseconds, which
    ``span_us`` knows. ``marks`` and what ``columns`` returns, fields of rows and texts of entries,
    are as a cohort wants them.
    """

    before: State
    marks: tuple[str, ...]
    write: Callable[[Draft, Job, Group, int], None]
    span_us: Callable[[Draft, Job], int]
    columns: Callable[[Draft, Sequence[Job], "Steps"], Columns]


def is_plain(job: Job) -> bool:
    """Whether a job that has been created may be noted: its next attempt begins or ends like any
    other's."""
    like = job.like
    return (
        like is not None
        and like.plain
        and not job.failures
        and not job.crashes
        and job.cancel_requested_at is None
    )


def write_alike(draft: Draft) -> None:
    """Write what has been noted with a draft, which leaves now."""
    alike, draft.alike = draft.alike, {}
    waiting = draft.waiting
    for group, jobs in alike.items():
        cohort = None if len(jobs) < _COHORT_JOBS_MIN else _cohort(draft, group, jobs)
        if cohort is not None:
            draft.changes.cohorts.append(cohort)
            continue
        steps: Steps = group.steps
        for job in jobs:
            job.state, job.attempt = steps.before, group.attempt
            steps.write(draft, job, group, steps.span_us(draft, job))
    draft.waiting = waiting


def _cohort(draft: Draft, group: Group, jobs: Sequence[Job]) -> Cohort | None:
    steps: Steps = group.steps
    beside = draft.beside()
    steps.write(beside, _model(draft, group, jobs[0]), group, MARKED_SPAN_US)
    [row] = beside.changes.rows
    fields, texts = steps.columns(draft, jobs, steps)
    return Cohort.of(beside.changes.entries, row, fields=fields, texts=texts, marks=steps.marks)


def _model(draft: Draft, group: Group, job: Job) -> Job:
    """A job like this one, as it was before its steps, with marks for values."""
    definition = msgspec.structs.replace(
        group.like.definition,
        correlation_id=MARKED_TEXTS["correlation"],
        payload_digest=MARKED_TEXTS["digest"],
    )
    return msgspec.structs.replace(
        job,
        job_id=MARKED_TEXTS["job"],
        definition=definition,
        definition_json=MARKED_DEFINITION,
        state=group.steps.before,
        attempt=group.attempt,
    )


# ---- the steps


def _create(draft: Draft, job: Job) -> None:
    draft.create(job)
    job.scheduled_at = draft.at
    draft.step(job, State.SCHEDULED)


def _write_waiting(draft: Draft, job: Job, _: Group, __: int) -> None:
    _create(draft, job)
    draft.close(job, None)


def _write_started(draft: Draft, job: Job, group: Group, _: int) -> None:
    assert group.by is not None
    _create(draft, job)
    draft.start(job, group.by, 0)
    draft.close(job, None, by=group.by)


def _write_granted(draft: Draft, job: Job, group: Group, span_us: int) -> None:
    assert group.by is not None
    draft.open()
    draft.start(job, group.by, span_us)
    draft.close(job, State.SCHEDULED, by=group.by)


def _write_completed(draft: Draft, job: Job, group: Group, span_us: int) -> None:
    assert group.by is not None
    draft.open()
    draft.complete(job, group.by, job.result or b"", span_us)


def _no_span(_: Draft, __: Job) -> int:
    return 0


def _of_new(_: Draft, jobs: Sequence[Job], __: Steps) -> Columns:
    job_ids = [job.job_id for job in jobs]
    definitions = [job.definition_json for job in jobs]
    fields: dict[str, Sequence[Any]] = {
        "job_id": job_ids,
        "definition": list(map(_Raw, definitions)),
        "payload": [_Raw(job.payload) for job in jobs],
    }
    return fields, {"job": list(map(str.encode, job_ids)), "definition": definitions}


def _of_known(draft: Draft, jobs: Sequence[Job], steps: Steps) -> Columns:
    job_ids = [job.job_id for job in jobs]
    definitions = [job.definition for job in jobs]
    span_us = steps.span_us
    fields: dict[str, Sequence[Any]] = {
        "job_id": job_ids,
        "due_at": [job.due_at for job in jobs],
        "scheduled_at": [job.scheduled_at for job in jobs],
    }
    texts: dict[str, Sequence[bytes]] = {
        "job": list(map(str.encode, job_ids)),
        "correlation": [_inside(each.correlation_id) for each in definitions],
        "digest": [each.payload_digest.encode() for each in definitions],
        "span": [b"%d" % span_us(draft, job) for job in jobs],
    }
    return fields, texts


def _of_running(draft: Draft, jobs: Sequence[Job], steps: Steps) -> Columns:
    fields, texts = _of_known(draft, jobs, steps)
    results = [_Raw(job.result or b"") for job in jobs]
    started = [job.started_at for job in jobs]
    return {**fields, "started_at": started, "result": results}, texts


def _inside(text: str) -> bytes:
    """A text as it stands within the quotation marks of JSON."""
    return _encode(text)[1:-1]


WAITING: Final = Steps(
    before=State.PENDING,
    marks=("definition", "job", "job"),
    write=_write_waiting,
    span_us=_no_span,
    columns=_of_new,
)
"""Created and released; nobody takes it yet."""

STARTED: Final = Steps(
    before=State.PENDING,
    marks=("definition", "job", "job", "job"),
    write=_write_started,
    span_us=_no_span,
    columns=_of_new,
)
"""Created, released and leased."""

GRANTED: Final = Steps(
    before=State.SCHEDULED,
    marks=("correlation", "digest", "job", "span"),
    write=_write_granted,
    span_us=Draft.waited_us,
    columns=_of_known,
)
"""Leased after a wait."""

COMPLETED: Final = Steps(
    before=State.RUNNING,
    marks=("correlation", "digest", "job", "span"),
    write=_write_completed,
    span_us=Draft.ran_us,
    columns=_of_running,
)
"""Ended well."""
