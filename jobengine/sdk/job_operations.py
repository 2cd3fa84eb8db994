"""What a client can ask about jobs: create, find, list, operate on, and why one does not start.

Not here: dead letters and redrives (`dead_letter_operations`), a job's artifacts (`operations`).
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.sdk.context import job_request
from jobengine.sdk.exchange import NDJSON, Exchange, Operation, listed, member, named, query_of
from jobengine.sdk.feed import JobLogLine
from jobengine.wire.explanations import JobExplanation, QueueExplanation
from jobengine.wire.jobs import (
    BulkAnswer,
    HistoryItem,
    JobRequest,
    JobStateName,
    JobView,
    Page,
)
from jobengine.wire.operating import JobSummary, PrioritizeRequest
from jobengine.wire.worker_messages import LogLevel

__all__ = ["JobOperations", "JobUnfinishedError", "is_final"]

CHUNK_BYTES_MAX: Final = 4 << 20


def is_final(job: JobView) -> bool:
    """Whether the job has ended: an attempt that is retried never shows as ``failed``."""
    return job.state in ("completed", "cancelled", "failed")


class JobUnfinishedError(TimeoutError):
    """A job had not ended when the time to wait for it had; `job` is as it was last seen."""

    def __init__(self, job: JobView, timeout_s: float) -> None:
        super().__init__(f"job {job.job_id} is {job.state} after {timeout_s} s")
        self.job = job


@attrs.frozen
class JobOperations(Exchange):
    def submit(
        self,
        /,
        job_type: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Operation[JobView]:
        """Create one job; `fields` are JobRequest's. A repeated key answers the same job."""
        request = job_request(job_type, payload, **fields)
        body = msgspec.json.encode(request)
        return (yield from self._post("/jobs", JobView, body, key=idempotency_key))

    def submit_many(
        self,
        requests: Iterable[JobRequest],
        *,
        chunk: int = 1000,
        idempotency_key: str | None = None,
    ) -> Operation[BulkAnswer]:
        """Create many jobs, at most `chunk` a commit; outcomes are in the order given.

        Chunks are committed one by one: after an error, repeat it with the same key and jobs.
        """
        key = idempotency_key or uuid.uuid4().hex
        total = BulkAnswer([], 0, 0, 0)
        for number, lines in enumerate(_chunks(requests, chunk)):
            answer = yield from self._post(
                "/jobs:bulk", BulkAnswer, b"\n".join(lines), key=f"{key}-{number}", media=NDJSON
            )
            offset = len(total.items)
            for position, item in enumerate(answer.items):
                item.index = offset + position
            total.items.extend(answer.items)
            total.created += answer.created
            total.existing += answer.existing
            total.rejected += answer.rejected
        return total

    def get(self, job_id: str) -> Operation[JobView]:
        """One job as it is now."""
        return (yield from self._get(member("jobs", "job", job_id), JobView))

    def history(self, job_id: str) -> Operation[list[HistoryItem]]:
        """All transitions of a job, oldest first."""
        items: list[HistoryItem] = []
        query: dict[str, str] = {}
        while True:
            page = yield from self._get(
                f"{member('jobs', 'job', job_id)}/history", Page[HistoryItem], query
            )
            items.extend(page.items)
            if page.next_page_token is None:
                return items
            query["pageToken"] = page.next_page_token

    def job_logs_page(
        self,
        job_id: str,
        *,
        level: LogLevel | None = None,
        tail: int | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[JobLogLine]]:
        """One page of a job's log lines, in the order reported: those of `level` and graver. With
        `tail`, the last so many (at most 500) instead, which are all on one page."""
        query = query_of(level=level, tail=tail, pageSize=page_size, pageToken=page_token)
        page = yield from self._get(
            f"{member('jobs', 'job', job_id)}/logs", Page[dict[str, Any]], query
        )
        lines = [msgspec.convert({**line, "jobId": job_id}, JobLogLine) for line in page.items]
        return Page(lines, page.next_page_token)

    def jobs_page(
        self,
        *,
        state: JobStateName | Sequence[JobStateName] | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        run_id: str | None = None,
        source_id: str | None = None,
        project: str | None = None,
        label: str | None = None,
        created_from: str | None = None,
        created_before: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[JobView]]:
        """One page of jobs, newest first; filters must all hold. `label` is `name:value`. Instants
        are RFC 3339: `created_from` is included, `created_before` is not."""
        query = query_of(
            state=listed(state),
            jobType=job_type,
            queue=queue,
            runId=run_id,
            sourceId=source_id,
            project=project,
            label=label,
            createdFrom=created_from,
            createdBefore=created_before,
            pageSize=page_size,
            pageToken=page_token,
        )
        return (yield from self._get("/jobs", Page[JobView], query))

    def cancel(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Cancel a job; a running one is `running` until its worker has confirmed."""
        return (
            yield from self._operate(
                f"{member('jobs', 'job', job_id)}:cancel", JobView, reason, ticket
            )
        )

    def retry(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Schedule a failed job again, in place."""
        return (
            yield from self._operate(
                f"{member('jobs', 'job', job_id)}:retry", JobView, reason, ticket
            )
        )

    def replay(self, job_id: str, *, reason: str, ticket: str) -> Operation[JobView]:
        """Create a new job from a finished one; answers the new job."""
        return (
            yield from self._operate(
                f"{member('jobs', 'job', job_id)}:replay", JobView, reason, ticket
            )
        )

    def release(
        self, job_id: str, *, reason: str | None = None, ticket: str | None = None
    ) -> Operation[JobView]:
        """Release a job that was created held."""
        return (
            yield from self._operate(
                f"{member('jobs', 'job', job_id)}:release", JobView, reason, ticket
            )
        )

    def prioritize(
        self, job_id: str, priority: int, *, reason: str, ticket: str
    ) -> Operation[JobView]:
        """Give a waiting job another priority; 9 goes first."""
        path, body = f"{member('jobs', 'job', job_id)}:prioritize", PrioritizeRequest(priority)
        return (yield from self._operate(path, JobView, reason, ticket, body))

    def explain(self, job_id: str) -> Operation[JobExplanation]:
        """Why a job does not start: every closed gate, and what opens it."""
        return (yield from self._get(f"{member('jobs', 'job', job_id)}/explain", JobExplanation))

    def explain_queue(self, queue: str, *, count: int | None = None) -> Operation[QueueExplanation]:
        """Why the first jobs of a queue do not start."""
        path = f"{named('queues', queue)}/explain"
        return (yield from self._get(path, QueueExplanation, query_of(count=count)))

    def jobs_summary(self) -> Operation[JobSummary]:
        """How many jobs of the tenant are unfinished, by state."""
        return (yield from self._get("/jobs/summary", JobSummary))


def _chunks(requests: Iterable[JobRequest], count_max: int) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    size_bytes = 0
    for request in requests:
        line = msgspec.json.encode(request)
        if lines and (len(lines) >= count_max or size_bytes + len(line) > CHUNK_BYTES_MAX):
            yield lines
            lines, size_bytes = [], 0
        lines.append(line)
        size_bytes += len(line) + 1
    if lines:
        yield lines
