"""Nodes of runs that are ended from outside: approvals by an operator, callbacks by whoever has
their address.

I1  A node is ended once: who comes later is told how it ended.
I2  Addresses of callbacks are shown to operators alone, since whoever has one may end the node.

Not here: how an address is made and checked (``callbacks``), runs (``runs``).
"""

from typing import Any, Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.domain.node import WORKERLESS_PREFIX, NodeKind
from jobengine.domain.run_record import NodeRecord
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoQuery, Paging, Route, SignedCall, SignedRoute
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.routes.runs import require_run
from jobengine.http.run_views import is_open
from jobengine.http.worker_storable import storable_result
from jobengine.messages.dag_planner import NodeAnswer
from jobengine.messages.lease_shard import Actor
from jobengine.wire.jobs import Page
from jobengine.wire.run_views import NodeView
from jobengine.wire.runs import EndNodeRequest, NodeKeyRequest

__all__ = ["ROUTES", "SIGNED_ROUTES"]

_CALLBACK: Final = WORKERLESS_PREFIX + NodeKind.CALLBACK
_CALLER: Final = Actor("callback")
_FAILED: Final = "callback_failed"


async def approve_node(call: Call[NoQuery, NodeKeyRequest]) -> Answer:
    run = await require_run(call)
    answer = await call.front.gateway.runs.approve(
        call.tenant_id, run.run_id, call.body.key, call.actor
    )
    return json_answer(_ended(answer, NodeKind.APPROVAL))


async def reject_node(call: Call[NoQuery, NodeKeyRequest]) -> Answer:
    run = await require_run(call)
    answer = await call.front.gateway.runs.reject(
        call.tenant_id, run.run_id, call.body.key, call.actor
    )
    return json_answer(_ended(answer, NodeKind.APPROVAL))


async def list_callbacks(call: Call[Paging, None]) -> Answer:
    """Those that are open, by key."""
    run = await require_run(call)
    start = pages.after(call, str) or ""
    nodes = (await call.front.runs.read(run)).nodes.values()
    waiting = [node for node in nodes if node.job_type == _CALLBACK and node.node_key > start]
    waiting = [node for node in waiting if is_open(NodeKind.CALLBACK, node)]
    waiting.sort(key=lambda node: node.node_key)
    page, last = pages.cut(waiting, call.query.page_size, lambda node: node.node_key)
    views = [_callback(call, run.run_id, node) for node in page]
    return page_answer(views, pages.token(call, last))


async def end_callback(call: SignedCall[EndNodeRequest]) -> Answer:
    place, body, redactor = call.place, call.body, call.front.redactor
    error = None
    if body.state == "failed":
        error = redactor.text(body.error) if body.error else _FAILED
    result = None
    if body.result is not msgspec.UNSET:
        result = storable_result(bytes(body.result), redactor)
    answer = await call.front.gateway.runs.complete_callback(
        place.tenant_id,
        place.run_id,
        place.key,
        _CALLER,
        result=result,
        error=error,
    )
    return json_answer(_ended(answer, NodeKind.CALLBACK))


def _ended(answer: NodeAnswer, kind: NodeKind) -> NodeView:
    return NodeView(
        run_id=answer.run_id,
        key=answer.key,
        job_id=answer.job_id,
        kind=kind.value,
        state=answer.state.value,
    )


def _callback(call: Call[Any, None], run_id: str, node: NodeRecord) -> NodeView:
    return NodeView(
        run_id=run_id,
        key=node.node_key,
        job_id=node.job_id,
        kind=NodeKind.CALLBACK.value,
        state=node.state.value,
        open=True,
        callback_url=call.front.callbacks.address(call.tenant_id, run_id, node.node_key),
    )


_CLOSED: Final = (ErrorCode.NOT_FOUND, ErrorCode.NODE_NOT_OPEN, ErrorCode.RUN_ENDED)

ROUTES: Final = (
    Route(
        method="POST",
        path="/runs/{runId}:approve",
        name="approveRunNode",
        summary="Complete an approval that is open",
        handler=approve_node,
        scopes=(Scope.OPERATE,),
        body=NodeKeyRequest,
        answers={200: NodeView},
        errors=_CLOSED,
    ),
    Route(
        method="POST",
        path="/runs/{runId}:reject",
        name="rejectRunNode",
        summary="Fail an approval that is open",
        handler=reject_node,
        scopes=(Scope.OPERATE,),
        body=NodeKeyRequest,
        answers={200: NodeView},
        errors=_CLOSED,
    ),
    reading(
        "/runs/{runId}/callbacks",
        "listRunCallbacks",
        "List the callbacks of a run that are open, with their addresses, by key",
        list_callbacks,
        Page[NodeView],
        query=Paging,
        scope=Scope.OPERATE,
        errors=MISSING,
    ),
)

SIGNED_ROUTES: Final = (
    SignedRoute(
        path="/callbacks/{token}",
        name="endCallback",
        summary="End an open callback: completed, or failed",
        handler=end_callback,
        body=EndNodeRequest,
        answers={200: NodeView},
        errors=(*_CLOSED, ErrorCode.CALLBACK_INVALID),
    ),
)
