"""Stored log lines as streams tell them: with whose they are and where they stand.

Not here: when they are read (`besides`), lists of them (`routes/jobs`, `routes/pack_run_reads`).
"""

from typing import Any, Final, NamedTuple

import msgspec

from jobengine.domain.job import Job
from jobengine.http.errors import invalid
from jobengine.http.streams.besides import ReadLines, StoredRow
from jobengine.http.streams.cursors import LineId
from jobengine.store.log_pages import goes_on
from jobengine.store.port import Store
from jobengine.wire.streams import StreamLogLine

__all__ = ["LogSubject", "check_line", "rows_of_job", "rows_of_run", "subject_of"]

_lines: Final = msgspec.json.Decoder(list[dict[str, Any]])


class LogSubject(NamedTuple):
    """What a stream keeps of the job whose lines it tells."""

    tenant_id: str
    project_id: str
    job_id: str
    run_id: str | None
    correlation_id: str


def subject_of(job: Job) -> LogSubject:
    definition = job.definition
    return LogSubject(
        job.tenant_id,
        definition.project_id,
        job.job_id,
        definition.run_id,
        definition.correlation_id,
    )


async def rows_of_job(
    store: Store, subject: LogSubject, position: int, rows_max: int
) -> tuple[list[StoredRow], bool]:
    """Behind a position, as `ReadLines`."""
    found = await store.logs(subject.tenant_id, subject.job_id, position, rows_max)
    rows = [StoredRow(at, _told(subject, at, row.attempt, row.lines)) for at, row in found]
    return rows, goes_on(found, rows_max)


async def rows_of_run(
    store: Store, tenant_id: str, run_id: str, position: int, rows_max: int
) -> tuple[list[StoredRow], bool]:
    """The same of all jobs of a run. Of a job that is past retention no line is told."""
    found = await store.run_logs(tenant_id, run_id, position, rows_max)
    job_ids = sorted({row.job_id for _, row in found})
    jobs = await store.jobs(tenant_id, job_ids) if job_ids else ()
    subjects = {job.job_id: subject_of(job) for job in jobs}
    rows = [
        StoredRow(at, _told(subjects.get(row.job_id), at, row.attempt, bytes(row.lines)))
        for at, row in found
    ]
    return rows, goes_on(found, rows_max)


async def check_line(read: ReadLines, name: str, after: LineId) -> None:
    """Refuse what cannot be the id of a line, given as `name`. A row that retention has taken can:
    it lies before all that are left."""
    message = "is no id of a line of this job; give the id of one that was sent, or none"
    rows, _ = await read(after.position - 1, 1)
    if rows:
        if rows[0].position == after.position and after.line >= len(rows[0].lines):
            raise invalid(name, message)
    elif (await read(0, 1))[0]:
        raise invalid(name, message)


def _told(
    subject: LogSubject | None, position: int, attempt: int, lines: bytes
) -> list[StreamLogLine]:
    if subject is None:
        return []
    return [
        StreamLogLine(
            job_id=subject.job_id,
            run_id=subject.run_id,
            attempt=attempt,
            correlation_id=subject.correlation_id,
            tenant_id=subject.tenant_id,
            project_id=subject.project_id,
            position=position,
            line=number,
            **line,
        )
        for number, line in enumerate(_lines.decode(lines))
    ]
