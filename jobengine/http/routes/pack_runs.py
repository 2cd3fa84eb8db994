"""Runs of packs: begun, listed, shown and cancelled.

I1  A pack run names its tenant and its project; what lacks one of them is refused.
I2  A run that is of no pack is no pack run: here it is not found.

Not here: what comes out of them (``pack_run_reads``), what any run can do (``runs``, ``run_reads``,
``run_nodes``), packs themselves (``packs``).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.change import RegistryRow
from jobengine.domain.dag_document import PACK, decode_dag
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.pack import plan_hash, plan_pack
from jobengine.domain.run import RunState
from jobengine.domain.run_plan import PlannedRun
from jobengine.domain.run_record import PackOrigin, RunRecord
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.json_bodies import decoded
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoBody, NoQuery, Paging, RawBody, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.http.routes.jobs import Filter, instant_of, project_of
from jobengine.http.routes.packs import address_of, digest_in, find_by_digest
from jobengine.http.routes.runs import begin_run, cancel_run, require_run, run_id_in
from jobengine.http.run_requests import new_record
from jobengine.http.run_views import run_view
from jobengine.store.runs import RunFilter
from jobengine.wire.fields import Instant
from jobengine.wire.jobs import Page
from jobengine.wire.packs import PackRunRequest, PackRunView
from jobengine.wire.run_views import RunStateName

__all__ = ["ROUTES", "require_pack_run"]

_request: Final = msgspec.json.Decoder(PackRunRequest)


class PackRunList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Filters that must all hold."""

    state: list[RunStateName] = msgspec.field(default_factory=list)
    pack_id: Filter | None = None
    project: Filter | None = None
    created_from: Instant | None = None
    created_before: Instant | None = None


async def create_pack_run(call: Call[NoQuery, RawBody]) -> Answer:
    request = decoded(_request, call.body.data)
    if not (request.project_id or call.project_id):
        why = "projectId: a pack run is of a project; name it here or as X-Stella-Project"
        details = {"path": "projectId"}
        raise RefusedError(Refusal(ErrorCode.PACK_RUN_INCOMPLETE, why, details))
    record = new_record(call, request)
    earlier = await call.front.gateway.store.run_by_token(call.tenant_id, record.run_token)
    row = await _pack_of(call, request, earlier)
    planned = await trio.to_thread.run_sync(_plan, record, row)
    return await begin_run(call, planned, pack_run_view, "/pack-runs")


async def list_pack_runs(call: Call[PackRunList, None]) -> Answer:
    query = call.query
    rows = await call.front.gateway.store.run_list(
        call.tenant_id,
        RunFilter(
            states=frozenset(RunState(name) for name in query.state),
            project_id=project_of(call),
            pack_id=query.pack_id,
            packs=True,
            created_from_at=instant_of(query.created_from, "createdFrom"),
            created_before_at=instant_of(query.created_before, "createdBefore"),
        ),
        pages.after(call, tuple[int, str]),
        query.page_size + 1,
    )
    page, last = pages.cut(rows, query.page_size, lambda row: (row.created_at, row.run_id))
    return page_answer([pack_run_view(row) for row in page], pages.token(call, last))


async def show_pack_run(call: Call[NoQuery, None]) -> Answer:
    return json_answer(pack_run_view(await require_pack_run(call)))


async def cancel_pack_run(call: Call[NoQuery, NoBody]) -> Answer:
    await require_pack_run(call)
    await cancel_run(call)
    return json_answer(pack_run_view(await require_pack_run(call)))


def pack_run_view(record: RunRecord, job_ids: Mapping[str, str] | None = None) -> PackRunView:
    origin = record.pack
    assert origin is not None, "a run of no pack is not found here (I2)"
    return PackRunView(
        **msgspec.structs.asdict(run_view(record, job_ids)),
        version=origin.version,
        digest=address_of(origin.digest),
        plan_hash=origin.plan_hash,
    )


async def _pack_of(
    call: Call[Any, Any], request: PackRunRequest, earlier: RunRecord | None
) -> RegistryRow:
    """The version that is asked for, or a refusal."""
    if request.pack_id is None:
        assert request.digest is not None
        row = await find_by_digest(call, request.digest)
    else:
        row = await _named(call, request.pack_id, request.version, earlier)
    if request.digest is not None and row.digest != digest_in(request.digest):
        have = address_of(row.digest or "")
        why = f"digest: version {row.version} of {row.name} has the digest {have}"
        details = {"path": "digest", "digest": have}
        raise RefusedError(Refusal(ErrorCode.DIGEST_MISMATCH, why, details))
    if row.disabled_at and earlier is None:
        why = f"version {row.version} of {row.name} is disabled; name another one"
        path = "digest" if request.pack_id is None else "version"
        raise RefusedError(Refusal(ErrorCode.VERSION_DISABLED, why, {"path": path}))
    return row


async def _named(
    call: Call[Any, Any], pack_id: str, version: int | None, earlier: RunRecord | None
) -> RegistryRow:
    origin = None if earlier is None else earlier.pack
    if version is None and origin is not None and origin.pack_id == pack_id:
        # What was the newest version then is what this request asked for.
        version = origin.version
    row = await call.front.gateway.store.registered(call.tenant_id, PACK, pack_id, version)
    if row is None:
        which = pack_id if version is None else f"{pack_id} {version}"
        path = "packId" if version is None else "version"
        why = f"there is no pack {which} here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, why, {"path": path}))
    return row


def _plan(record: RunRecord, row: RegistryRow) -> PlannedRun:
    body = bytes(row.body)
    origin = PackOrigin(
        digest=row.digest or "",
        pack_id=row.name,
        plan_hash=plan_hash(decode_dag(body)),
        version=row.version,
    )
    planned = plan_pack(msgspec.structs.replace(record, pack=origin), body)
    if isinstance(planned, Refusal):
        raise RefusedError(planned)
    return planned


async def require_pack_run(call: Call[Any, Any]) -> RunRecord:
    """The pack run that the path names, or a refusal (I2)."""
    run = await require_run(call)
    if run.pack is None:
        why = f"run {run_id_in(call)} is of no pack; see /runs"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, why, {"path": "runId"}))
    return run


ROUTES: Final = (
    Route(
        method="POST",
        path="/pack-runs",
        name="createPackRun",
        summary="Begin a run of a pack",
        handler=create_pack_run,
        scopes=(Scope.SUBMIT,),
        body=PackRunRequest,
        body_raw=True,
        answers={200: PackRunView, 201: PackRunView},
        errors=(
            ErrorCode.BACKLOG_FULL,
            ErrorCode.CAPACITY_EXCEEDED,
            ErrorCode.DIGEST_MISMATCH,
            ErrorCode.INPUTS_INVALID,
            ErrorCode.NOT_FOUND,
            ErrorCode.PACK_RUN_INCOMPLETE,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.VERSION_DISABLED,
            *REPEATED,
        ),
        creates_work=True,
        location=True,
        tenantless=ErrorCode.PACK_RUN_INCOMPLETE,
    ),
    reading(
        "/pack-runs",
        "listPackRuns",
        "List runs of packs, newest first",
        list_pack_runs,
        Page[PackRunView],
        query=PackRunList,
    ),
    reading(
        "/pack-runs/{runId}",
        "getPackRun",
        "Show a run of a pack",
        show_pack_run,
        PackRunView,
        errors=MISSING,
    ),
    acting(
        "/pack-runs/{runId}:cancel",
        "cancelPackRun",
        "Give a run up: what has not ended is cancelled",
        cancel_pack_run,
        PackRunView,
        errors=(ErrorCode.NOT_FOUND, ErrorCode.RUN_ENDED),
    ),
)
