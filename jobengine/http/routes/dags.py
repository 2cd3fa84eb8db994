"""DAG templates: registered in versions, listed, shown, disabled and enabled.

I1  A version that is registered can be planned.

Not here: runs of them (``runs``), what packs do too (``http/documents``).
"""

from typing import Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.canonical import NotCanonicalError, canonical
from jobengine.domain.change import RegistryRow
from jobengine.domain.dag_document import DAG, DagDocument, decode_dag, encode_dag, refuse_dag
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.redaction import Redactor
from jobengine.http.answer import Answer
from jobengine.http.documents import Documents, facts_of
from jobengine.http.errors import invalid
from jobengine.http.json_bodies import decoded
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, RawBody, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.http.routes.jobs import Filter
from jobengine.wire.documents import DagRequest, DagSummary, DagTemplateView
from jobengine.wire.jobs import Page
from jobengine.wire.translate_runs import edges_of, node_jobs

__all__ = ["DAGS", "ROUTES"]

DAGS: Final = Documents(kind=DAG, noun="DAG", parameter="dagId")
_request: Final = msgspec.json.Decoder(DagRequest)


class _Written(msgspec.Struct, rename="camel"):
    """What of a request is shown as it was written."""

    jobs: msgspec.Raw
    edges: msgspec.Raw = msgspec.Raw(b"[]")


_written: Final = msgspec.json.Decoder(_Written)


class DagList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """All versions of one DAG, or of every."""

    dag_id: Filter | None = None


async def register_dag(call: Call[NoQuery, RawBody]) -> Answer:
    request, body = await trio.to_thread.run_sync(_read, call.body.data, call.front.redactor)
    registered = await DAGS.register(call, request.dag_id, request.version, body)
    row = registered.row
    return json_answer(
        _view(row),
        200 if registered.existing or registered.replayed else 201,
        replayed=registered.replayed,
        Location=f"{BASE}/dags/{row.name}/{row.version}",
    )


async def list_dags(call: Call[DagList, None]) -> Answer:
    rows, token = await DAGS.page(call, call.query.dag_id)
    return page_answer([_summary(row) for row in rows], token)


async def show_dag(call: Call[NoQuery, None]) -> Answer:
    return json_answer(_view(await DAGS.require(call)))


async def disable_dag(call: Call[NoQuery, NoBody]) -> Answer:
    turned = await DAGS.turn(call, enable=False)
    return json_answer(_view(turned.row), replayed=turned.replayed)


async def enable_dag(call: Call[NoQuery, NoBody]) -> Answer:
    turned = await DAGS.turn(call, enable=True)
    return json_answer(_view(turned.row), replayed=turned.replayed)


def _read(body: bytes, redactor: Redactor) -> tuple[DagRequest, bytes]:
    """The request, and the document to be registered as canonical JSON."""
    request = decoded(_request, body)
    nodes = node_jobs(request.jobs, request.edges, templates=True, redactor=redactor)
    if isinstance(nodes, Refusal):
        raise RefusedError(nodes)
    stray = edges_of(request.jobs, request.edges)
    if stray:
        raise invalid("edges", f"lead to {stray[0].target!r}, which is no key of jobs")
    try:
        document = DagDocument(
            description=redactor.text(request.description),
            fail_fast=request.fail_fast,
            inputs=msgspec.Raw(canonical(bytes(request.inputs))),
            jobs=tuple(nodes),
            request=msgspec.Raw(msgspec.json.encode(_written.decode(body))),
        )
        encoded = encode_dag(document)
    except NotCanonicalError as error:
        raise invalid("$", str(error)) from None
    refusal = refuse_dag(document)
    if refusal is not None:
        raise RefusedError(refusal)
    return request, encoded


def _summary(row: RegistryRow) -> DagSummary:
    return DagSummary(dag_id=row.name, digest=row.digest or "", **facts_of(row))


def _view(row: RegistryRow) -> DagTemplateView:
    document = decode_dag(row.body)
    written = _written.decode(document.request)
    return DagTemplateView(
        **msgspec.structs.asdict(_summary(row)),
        description=document.description,
        inputs=document.inputs,
        fail_fast=document.fail_fast,
        jobs=written.jobs,
        edges=written.edges,
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/dags",
        name="registerDag",
        summary="Register a version of a DAG template",
        handler=register_dag,
        scopes=(Scope.SUBMIT,),
        body=DagRequest,
        body_raw=True,
        answers={200: DagTemplateView, 201: DagTemplateView},
        errors=(
            ErrorCode.ALREADY_EXISTS,
            ErrorCode.INPUTS_INVALID,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.RUN_INVALID,
            ErrorCode.TEMPLATE_INVALID,
            *REPEATED,
        ),
        location=True,
    ),
    reading(
        "/dags",
        "listDags",
        "List DAG templates by id and version",
        list_dags,
        Page[DagSummary],
        query=DagList,
    ),
    reading(
        "/dags/{dagId}/{version}",
        "getDag",
        "Show a version of a DAG template",
        show_dag,
        DagTemplateView,
        errors=MISSING,
    ),
    acting(
        "/dags/{dagId}/{version}:disable",
        "disableDag",
        "Let no new run use a version of a DAG template",
        disable_dag,
        DagTemplateView,
        errors=(*MISSING, *REPEATED),
    ),
    acting(
        "/dags/{dagId}/{version}:enable",
        "enableDag",
        "Let new runs use a version of a DAG template again",
        enable_dag,
        DagTemplateView,
        errors=(*MISSING, *REPEATED),
    ),
)
