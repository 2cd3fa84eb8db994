"""Reading jobs: lists newest first, one job, its history and artifacts."""

import re
from typing import Annotated, Any, Final

import msgspec

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import from_rfc3339, to_rfc3339
from jobengine.domain.job import Job, State
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.errors import invalid
from jobengine.http.rendering import (
    artifact_view,
    history_items,
    job_view,
    json_answer,
    page_answer,
)
from jobengine.http.route import Call, NoQuery, Paging
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.views import ArtifactView
from jobengine.store.port import JobFilter
from jobengine.wire.fields import Instant
from jobengine.wire.jobs import HistoryItem, JobStateName, JobView, Page
from jobengine.wire.operating import JobSummary

__all__ = [
    "ROUTES",
    "UUID",
    "Filter",
    "JobList",
    "instant_of",
    "job_id_in",
    "no_job",
    "project_of",
    "require_job",
]

Filter = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNFINISHED: Final = (State.PENDING, State.SCHEDULED, State.RUNNING)


class JobList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """`createdFrom` is included, `createdBefore` is not; `label` is `name:value`."""

    state: list[JobStateName] = msgspec.field(default_factory=list)
    job_type: Filter | None = None
    queue: Filter | None = None
    run_id: Filter | None = None
    source_id: Filter | None = None
    project: Filter | None = None
    label: Filter | None = None
    created_from: Instant | None = None
    created_before: Instant | None = None


def job_id_in(call: Call[Any, Any]) -> str:
    """The job id in the path; one that cannot be an id is answered like one that is unknown."""
    job_id = call.path["jobId"].lower()
    if UUID.fullmatch(job_id) is None:
        raise no_job(call.path["jobId"])
    return job_id


async def require_job(call: Call[Any, Any]) -> Job:
    """The job that the path names, or a refusal."""
    job_id = job_id_in(call)
    found = await call.front.gateway.store.jobs(call.tenant_id, [job_id])
    if not found:
        raise no_job(job_id)
    return found[0]


async def list_jobs(call: Call[JobList, None]) -> Answer:
    query = call.query
    page = await call.front.gateway.store.job_list(
        call.tenant_id,
        JobFilter(
            states=frozenset(State(name) for name in query.state),
            job_type=query.job_type,
            queue=query.queue,
            run_id=query.run_id,
            source_id=query.source_id,
            project_id=project_of(call),
            label=_label(query.label),
            created_from_at=instant_of(query.created_from, "createdFrom"),
            created_before_at=instant_of(query.created_before, "createdBefore"),
        ),
        pages.after(call, str),
        query.page_size,
    )
    views = [job_view(job) for job in page.jobs]
    return page_answer(views, pages.token(call, page.next_after))


async def summarise_jobs(call: Call[NoQuery, None]) -> Answer:
    store = call.front.gateway.store
    counts = await store.job_counts(call.tenant_id)
    due_at = await store.oldest_due(call.tenant_id)
    return json_answer(
        JobSummary(
            tenant_id=call.tenant_id,
            counts={str(state): counts.get(state, 0) for state in _UNFINISHED},
            oldest_due_at=None if due_at is None else to_rfc3339(due_at),
        )
    )


async def show_job(call: Call[NoQuery, None]) -> Answer:
    return json_answer(job_view(await require_job(call)))


async def show_history(call: Call[Paging, None]) -> Answer:
    job = await require_job(call)
    start = pages.after(call, int) or 0
    seqs = [seq for seq in job.seqs if seq > start][: call.query.page_size + 1]
    page, last = pages.cut(seqs, call.query.page_size, lambda seq: seq)
    entries = await call.front.gateway.store.entries(call.tenant_id, page)
    return page_answer(history_items(entries), pages.token(call, last))


async def list_artifacts(call: Call[Paging, None]) -> Answer:
    job = await require_job(call)
    start = pages.after(call, tuple[int, int, str])
    rows = await call.front.gateway.store.artifacts(call.tenant_id, job.job_id)
    rest = [row for row in rows if start is None or (row.attempt, row.at, row.name) > start]
    page, last = pages.cut(rest, call.query.page_size, lambda row: (row.attempt, row.at, row.name))
    return page_answer([artifact_view(row) for row in page], pages.token(call, last))


def project_of(call: Call[Any, None]) -> str | None:
    """The project that a list is narrowed to, by its query or by its header. Raises a refusal."""
    asked = call.query.project
    if asked is not None and call.project_id not in (None, asked):
        raise invalid("project", "names another project than X-Stella-Project does")
    return asked or call.project_id


def _label(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise invalid("label", "must be name:value")
    return name, value


def instant_of(text: str | None, name: str) -> int | None:
    """An instant in the query parameter `name`. Raises a refusal."""
    if text is None:
        return None
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise invalid(name, str(error)) from None


def no_job(job_id: str) -> RefusedError:
    """What is said of a job that is not the tenant's, or is none."""
    return RefusedError(
        Refusal(ErrorCode.NOT_FOUND, f"no job {job_id[:64]} here", {"path": "jobId"})
    )


ROUTES: Final = (
    reading(
        "/jobs",
        "listJobs",
        "List jobs, newest first",
        list_jobs,
        Page[JobView],
        query=JobList,
    ),
    reading(
        "/jobs/summary",
        "summariseJobs",
        "Count the jobs that are not finished, by state",
        summarise_jobs,
        JobSummary,
    ),
    reading(
        "/jobs/{jobId}",
        "getJob",
        "Show one job",
        show_job,
        JobView,
        errors=MISSING,
    ),
    reading(
        "/jobs/{jobId}/history",
        "getJobHistory",
        "List a job's transitions, the first one first",
        show_history,
        Page[HistoryItem],
        query=Paging,
        errors=MISSING,
    ),
    reading(
        "/jobs/{jobId}/artifacts",
        "listJobArtifacts",
        "List the artifacts of a job, by attempt, time and name",
        list_artifacts,
        Page[ArtifactView],
        query=Paging,
        errors=MISSING,
    ),
)
