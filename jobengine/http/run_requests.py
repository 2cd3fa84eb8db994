"""What is asked of runs: read, translated and planned, or refused with the place at issue.

I1  What takes long of a large request depends on its arguments alone, so it may run in a thread.

Not here: having it done (``routes/runs``).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import trio

from jobengine.domain.dag_document import DAG, plan_dag
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.graph import Edge
from jobengine.domain.node import NodeKind, join_key
from jobengine.domain.redaction import Redactor
from jobengine.domain.run import JobIds, RunState
from jobengine.domain.run_nodes import NodeJob, prepare_nodes
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_plan import PlannedRun, plan_run
from jobengine.domain.run_record import RunRecord
from jobengine.http.errors import invalid
from jobengine.http.json_bodies import decoded
from jobengine.http.route import Call
from jobengine.wire.indexed import indexed
from jobengine.wire.packs import PackRunRequest
from jobengine.wire.runs import (
    ExtendRequest,
    RunRequest,
)
from jobengine.wire.translate import canonical_payload
from jobengine.wire.translate_runs import node_jobs

__all__ = [
    "decode_extension",
    "decode_run",
    "extension_nodes",
    "has_grown",
    "ids_of_growth",
    "new_record",
    "plan_of_dag",
    "plan_request",
]

_request: Final = msgspec.json.Decoder(RunRequest)
_extension: Final = msgspec.json.Decoder(ExtendRequest)


def decode_run(body: bytes) -> RunRequest:
    return decoded(_request, body)


def decode_extension(body: bytes) -> ExtendRequest:
    return decoded(_extension, body)


def new_record(call: Call[Any, Any], request: RunRequest | PackRunRequest) -> RunRecord:
    """The run that is asked for, but for what it is of."""
    gateway, redactor = call.front.gateway, call.front.redactor
    run_id = gateway.new_id()
    return RunRecord(
        tenant_id=call.tenant_id,
        run_id=run_id,
        run_token=indexed(redactor.text(request.run_token), "runToken"),
        state=RunState.PENDING,
        nodes=0,
        created_at=gateway.clock.moment().at,
        created_by=call.actor.subject,
        project_id=request.project_id or call.project_id or "",
        fail_fast=bool(request.fail_fast),
        inputs=_inputs(request.inputs, redactor),
        traceparent=call.traceparent,
        correlation_id=redactor.text(request.correlation_id or call.correlation_id or run_id),
    )


def _inputs(inputs: msgspec.Raw, redactor: Redactor) -> bytes:
    text = canonical_payload(bytes(inputs), redactor, "inputs")
    if not text.startswith(b"{"):
        raise invalid("inputs", "is no object")
    return text


def plan_request(record: RunRecord, request: RunRequest, redactor: Redactor) -> PlannedRun:
    nodes = node_jobs(request.jobs, request.edges, templates=False, redactor=redactor)
    if isinstance(nodes, Refusal):
        raise RefusedError(nodes)
    keys = {each.node.key for each in nodes}
    for place, edge in enumerate(request.edges):
        if edge.target not in keys:
            why = f"edges[{place}].to: there is no {edge.target[:160]!r} among the jobs"
            path = {"path": f"edges[{place}].to"}
            raise RefusedError(Refusal(ErrorCode.RUN_INVALID, why, path))
    return _planned(plan_run(record, nodes))


async def plan_of_dag(call: Call[Any, Any], record: RunRecord, request: RunRequest) -> PlannedRun:
    assert request.dag_id is not None
    store, version = call.front.gateway.store, request.version
    earlier = await store.run_by_token(call.tenant_id, record.run_token)
    if version is None and earlier is not None and earlier.dag_id == request.dag_id:
        # What was the newest version then is what this request asked for (I2).
        version = earlier.dag_version
    row = await store.registered(call.tenant_id, DAG, request.dag_id, version)
    if row is None:
        which = request.dag_id if request.version is None else f"{request.dag_id} {request.version}"
        path = {"path": "dagId" if request.version is None else "version"}
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, f"there is no DAG {which} here", path))
    if row.disabled_at and earlier is None:
        why = f"version {row.version} of {row.name} is disabled; name another one"
        raise RefusedError(Refusal(ErrorCode.VERSION_DISABLED, why, {"path": "version"}))
    record = msgspec.structs.replace(record, dag_id=row.name, dag_version=row.version)
    return _planned(await trio.to_thread.run_sync(plan_dag, record, bytes(row.body)))


def _planned(planned: PlannedRun | Refusal) -> PlannedRun:
    if isinstance(planned, Refusal):
        raise RefusedError(planned)
    return planned


def extension_nodes(request: ExtendRequest, redactor: Redactor) -> Sequence[NodeJob]:
    nodes = node_jobs(request.jobs, request.edges, templates=False, redactor=redactor)
    prepared = nodes if isinstance(nodes, Refusal) else prepare_nodes(nodes)
    if isinstance(prepared, Refusal):
        raise RefusedError(prepared)
    return prepared


# ---- growth


def has_grown(parts: Sequence[RunPart], nodes: Sequence[NodeJob], edges: Sequence[Edge]) -> bool:
    """Whether the run has all of this already, since the request is a repetition."""
    known = {node.key: node for part in parts for node in part.nodes}
    joined = {edge for part in parts for edge in part.edges}
    return all(known.get(each.node.key) == each.node for each in nodes) and joined.issuperset(edges)


def ids_of_growth(run: RunRecord, nodes: Sequence[NodeJob]) -> list[str]:
    """The ids of the nodes' jobs, joins included, as they were answered the first time."""
    ids, found = JobIds(run.tenant_id, run.run_token, run.created_at), list[str]()
    for each in nodes:
        found.append(ids.of(each.node.key))
        if each.node.kind is NodeKind.MAP:
            found.append(ids.of(join_key(each.node.key)))
    return found
