"""Runs: begun, listed, shown, extended, cancelled, and run again.

I1  A request for a run is read, translated and planned in a thread: it may have thousands of nodes,
    and nobody else waits for it.
I2  The tenant's first run of a run token is the answer to every request that asks for the same; a
    growth that is asked for again is answered as the first time.

Not here: graph, chart and record (``run_reads``), gates and callbacks (``run_nodes``), templates
(``dags``).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.run import JobIds, RunState
from jobengine.domain.run_plan import PlannedRun
from jobengine.domain.run_record import RunRecord
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, RawBody, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.http.routes.jobs import UUID, Filter, instant_of, project_of
from jobengine.http.run_requests import (
    decode_extension,
    decode_run,
    extension_nodes,
    has_grown,
    ids_of_growth,
    new_record,
    plan_of_dag,
    plan_request,
)
from jobengine.http.run_views import run_view
from jobengine.messages.dag_planner import RunAnswer
from jobengine.messages.runs import RunFacts, RunPlan
from jobengine.store.runs import RunFilter
from jobengine.wire.fields import Instant
from jobengine.wire.indexed import indexed
from jobengine.wire.jobs import Page
from jobengine.wire.run_views import ExtendedView, RunStateName, RunView
from jobengine.wire.runs import ExtendRequest, ReplayFromRequest, RerunRequest, RunRequest
from jobengine.wire.translate_runs import edges_of

__all__ = ["ROUTES", "begin_run", "cancel_run", "require_run", "run_id_in"]

_MAYBE_GROWN: Final = (ErrorCode.RUN_INVALID, ErrorCode.RUN_ENDED)
_facts: Final = msgspec.json.Decoder(RunFacts)


class RunList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold."""

    state: list[RunStateName] = msgspec.field(default_factory=list)
    dag_id: Filter | None = None
    project: Filter | None = None
    created_from: Instant | None = None
    created_before: Instant | None = None


async def create_run(call: Call[NoQuery, RawBody]) -> Answer:
    request = await trio.to_thread.run_sync(decode_run, call.body.data)
    record = new_record(call, request)
    if request.dag_id is None:
        planned = await trio.to_thread.run_sync(plan_request, record, request, call.front.redactor)
    else:
        planned = await plan_of_dag(call, record, request)
    return await begin_run(call, planned)


async def begin_run(
    call: Call[Any, Any],
    planned: PlannedRun,
    view: Callable[[RunRecord, Mapping[str, str]], RunView] = run_view,
    path: str = "/runs",
) -> Answer:
    """Have a planned run created, or found, and show it with the ids of its jobs.

    Under an idempotency key a run that was created by it is shown as it was then.
    """
    plan = RunPlan(
        record=planned.record, nodes=planned.nodes, jobs=planned.jobs, graph=planned.graph
    )
    created = await call.front.gateway.runs.create(plan, call.actor, call.claim)
    run = created.run
    if run is None:
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, "the run of this request is gone", {}))
    if created.stored is not None and not _facts.decode(created.stored).existing:
        run = _as_created(run, planned.record.nodes)
    job_ids = {new.definition.node_key or "": new.job_id for new in planned.jobs}
    if run.run_id != planned.record.run_id:
        ids = JobIds(run.tenant_id, run.run_token, run.created_at)
        job_ids = {key: ids.of(key) for key in job_ids}
    return json_answer(
        view(run, job_ids),
        200 if created.existing or created.replayed else 201,
        replayed=created.replayed,
        Location=f"{BASE}{path}/{run.run_id}",
    )


def _as_created(run: RunRecord, nodes: int) -> RunRecord:
    return msgspec.structs.replace(
        run,
        state=RunState.PENDING,
        nodes=nodes,
        started_at=None,
        finished_at=None,
        cancel_requested_at=None,
        rolled=None,
    )


async def list_runs(call: Call[RunList, None]) -> Answer:
    query = call.query
    rows = await call.front.gateway.store.run_list(
        call.tenant_id,
        RunFilter(
            states=frozenset(RunState(name) for name in query.state),
            dag_id=query.dag_id,
            project_id=project_of(call),
            created_from_at=instant_of(query.created_from, "createdFrom"),
            created_before_at=instant_of(query.created_before, "createdBefore"),
        ),
        pages.after(call, tuple[int, str]),
        query.page_size + 1,
    )
    page, last = pages.cut(rows, query.page_size, lambda row: (row.created_at, row.run_id))
    return page_answer([run_view(row) for row in page], pages.token(call, last))


async def show_run(call: Call[NoQuery, None]) -> Answer:
    return json_answer(run_view(await require_run(call)))


async def cancel_run(call: Call[NoQuery, NoBody]) -> Answer:
    run = await require_run(call)
    if run.cancel_requested_at is None or run.finished_at is not None:
        # Of a run that has ended this is refused, with its state.
        await call.front.gateway.runs.cancel(call.tenant_id, run.run_id, call.actor)
    return json_answer(run_view(await require_run(call)))


async def extend_run(call: Call[NoQuery, RawBody]) -> Answer:
    run = await require_run(call)
    request = await trio.to_thread.run_sync(decode_extension, call.body.data)
    nodes = await trio.to_thread.run_sync(extension_nodes, request, call.front.redactor)
    edges = edges_of(request.jobs, request.edges)
    try:
        answer = await call.front.gateway.runs.extend(
            call.tenant_id, run.run_id, call.actor, nodes, edges
        )
        job_ids = list(answer.job_ids)
    except RefusedError as error:
        parts = await call.front.gateway.store.run_parts(run.tenant_id, run.run_id)
        if error.refusal.code not in _MAYBE_GROWN or not has_grown(parts, nodes, edges):
            raise
        job_ids = ids_of_growth(run, nodes)
    return json_answer(ExtendedView(run_id=run.run_id, job_ids=job_ids))


async def retry_failed(call: Call[NoQuery, RerunRequest]) -> Answer:
    run, token = await require_run(call), _rerun_token(call, call.body)
    runs = call.front.gateway.runs
    return await _rerun(
        call, token, lambda: runs.retry_failed(call.tenant_id, run.run_id, token, call.actor)
    )


async def replay_from(call: Call[NoQuery, ReplayFromRequest]) -> Answer:
    run, token, key = await require_run(call), _rerun_token(call, call.body), call.body.key
    runs = call.front.gateway.runs
    return await _rerun(
        call, token, lambda: runs.replay_from(call.tenant_id, run.run_id, key, token, call.actor)
    )


def _rerun_token(call: Call[Any, Any], body: RerunRequest) -> str:
    """The token of the new run: as asked for, or one that a repetition of this request makes
    again."""
    if body.run_token is not None:
        return indexed(call.front.redactor.text(body.run_token), "runToken")
    if call.claim is not None:
        return f"rerun-{digest(f'{call.claim.path}#{call.claim.key}'.encode())[:32]}"
    return call.front.gateway.new_id()


async def _rerun(
    call: Call[Any, Any], token: str, begin: Callable[[], Awaitable[RunAnswer]]
) -> Answer:
    """Have the new run begun, or found under its token."""
    store = call.front.gateway.store
    existing = await store.run_by_token(call.tenant_id, token) is not None
    run = await store.run(call.tenant_id, (await begin()).run_id)
    assert run is not None, "it is committed"
    return json_answer(
        run_view(run), 200 if existing else 201, Location=f"{BASE}/runs/{run.run_id}"
    )


def run_id_in(call: Call[Any, Any]) -> str:
    """The run id in the path; one that cannot be an id is answered like one that is unknown."""
    run_id = call.path["runId"].lower()
    if UUID.fullmatch(run_id) is None:
        raise _no_run(call.path["runId"])
    return run_id


async def require_run(call: Call[Any, Any]) -> RunRecord:
    """The run that the path names, or a refusal."""
    run_id = run_id_in(call)
    run = await call.front.gateway.store.run(call.tenant_id, run_id)
    if run is None:
        raise _no_run(run_id)
    return run


def _no_run(run_id: str) -> RefusedError:
    return RefusedError(
        Refusal(ErrorCode.NOT_FOUND, f"no run {run_id[:64]} here", {"path": "runId"})
    )


_ENDED = (ErrorCode.NOT_FOUND, ErrorCode.RUN_ENDED)
_PLANNED = (
    ErrorCode.BACKLOG_FULL,
    ErrorCode.CAPACITY_EXCEEDED,
    ErrorCode.INPUTS_INVALID,
    ErrorCode.NOT_FOUND,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.RUN_INVALID,
    ErrorCode.TEMPLATE_INVALID,
    ErrorCode.VERSION_DISABLED,
)
_AGAIN = (
    ErrorCode.BACKLOG_FULL,
    ErrorCode.CAPACITY_EXCEEDED,
    ErrorCode.NOT_FOUND,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.RUN_UNFINISHED,
)

ROUTES: Final = (
    Route(
        method="POST",
        path="/runs",
        name="createRun",
        summary="Begin a run of jobs with dependencies, or of a DAG",
        handler=create_run,
        scopes=(Scope.SUBMIT,),
        body=RunRequest,
        body_raw=True,
        answers={200: RunView, 201: RunView},
        errors=(*_PLANNED, *REPEATED),
        creates_work=True,
        location=True,
    ),
    reading(
        "/runs", "listRuns", "List runs, newest first", list_runs, Page[RunView], query=RunList
    ),
    reading("/runs/{runId}", "getRun", "Show a run", show_run, RunView, errors=MISSING),
    acting(
        "/runs/{runId}:cancel",
        "cancelRun",
        "Give a run up: what has not ended is cancelled",
        cancel_run,
        RunView,
        errors=_ENDED,
    ),
    Route(
        method="POST",
        path="/runs/{runId}:extend",
        name="extendRun",
        summary="Add jobs and edges to a run that is under way",
        handler=extend_run,
        scopes=(Scope.SUBMIT, Scope.WORK),
        body=ExtendRequest,
        body_raw=True,
        answers={200: ExtendedView},
        errors=(*_PLANNED, ErrorCode.RUN_ENDED),
        creates_work=True,
    ),
    Route(
        method="POST",
        path="/runs/{runId}:retryFailed",
        name="retryFailedRun",
        summary="Run again what did not complete, and all behind it, as a new run",
        handler=retry_failed,
        scopes=(Scope.OPERATE,),
        body=RerunRequest,
        body_optional=True,
        answers={200: RunView, 201: RunView},
        errors=(*_AGAIN, ErrorCode.ILLEGAL_TRANSITION),
        creates_work=True,
        location=True,
    ),
    Route(
        method="POST",
        path="/runs/{runId}:replayFrom",
        name="replayRunFrom",
        summary="Run a node again, and all behind it, as a new run",
        handler=replay_from,
        scopes=(Scope.OPERATE,),
        body=ReplayFromRequest,
        answers={200: RunView, 201: RunView},
        errors=_AGAIN,
        creates_work=True,
        location=True,
    ),
)
