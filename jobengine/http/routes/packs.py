"""Packs: registered in versions, listed, shown by version or by digest, disabled and enabled.

I1  A version that is registered can be planned: its steps are compiled when it is registered, and
    never again.
I2  A digest addresses one pack, for its id is a part of what is digested.

Not here: runs of them (``pack_runs``), what DAG templates do too (``http/documents``).
"""

import re
from typing import Any, Final

import msgspec
import trio

from jobengine.auth.scopes import Scope
from jobengine.domain.canonical import NotCanonicalError, canonical, digest
from jobengine.domain.change import RegistryRow
from jobengine.domain.dag_document import PACK, DagDocument, decode_dag, encode_dag
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.pack import pack_plan, refuse_pack
from jobengine.domain.pack_steps import compile_steps
from jobengine.domain.redaction import Redactor
from jobengine.http.answer import Answer
from jobengine.http.documents import Documents, facts_of
from jobengine.http.errors import invalid
from jobengine.http.json_bodies import decoded
from jobengine.http.rendering import encode, json_answer, page_answer
from jobengine.http.route import BASE, Call, NoBody, NoQuery, Paging, RawBody, Route
from jobengine.http.route_shapes import MISSING, REPEATED, acting, reading
from jobengine.http.routes.jobs import Filter
from jobengine.wire.jobs import Page
from jobengine.wire.packs import PackRequest, PackSummary, PackView
from jobengine.wire.translate_packs import pack_steps

__all__ = ["PACKS", "ROUTES", "address_of", "digest_in", "find_by_digest"]

PACKS: Final = Documents(kind=PACK, noun="pack", parameter="packId")

_ADDRESS: Final = re.compile(r"sha256:([0-9a-f]{64})")
_request: Final = msgspec.json.Decoder(PackRequest)


class _Steps(msgspec.Struct):
    steps: msgspec.Raw


class _Written(msgspec.Struct, rename="camel"):
    """What of a request is kept as it was written."""

    pack_id: str
    steps: msgspec.Raw


_steps: Final = msgspec.json.Decoder(_Steps)
_written: Final = msgspec.json.Decoder(_Written)


class PackList(Paging, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """All versions of one pack, or of every."""

    pack_id: Filter | None = None


def address_of(hex_digest: str) -> str:
    return f"sha256:{hex_digest}"


def digest_in(address: str) -> str:
    """The digest that an address holds; what is no address holds one that nothing has."""
    match = _ADDRESS.fullmatch(address)
    return match[1] if match else ""


async def find_by_digest(call: Call[Any, Any], address: str) -> RegistryRow:
    """The oldest version of the pack with this digest, or a refusal."""
    row = await call.front.gateway.store.registered_digest(call.tenant_id, PACK, digest_in(address))
    if row is None:
        why = f"there is no pack {address[:80]} here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, why, {"path": "digest"}))
    return row


async def register_pack(call: Call[NoQuery, RawBody]) -> Answer:
    request, body = await trio.to_thread.run_sync(_read, call.body.data, call.front.redactor)
    registered = await PACKS.register(call, request.pack_id, request.version, body)
    row = registered.row
    return await _shown(
        row,
        200 if registered.existing or registered.replayed else 201,
        replayed=registered.replayed,
        Location=f"{BASE}/packs/{row.name}/{row.version}",
    )


async def list_packs(call: Call[PackList, None]) -> Answer:
    rows, token = await PACKS.page(call, call.query.pack_id)
    return page_answer([_summary(row) for row in rows], token)


async def show_pack(call: Call[NoQuery, None]) -> Answer:
    return await _shown(await PACKS.require(call))


async def show_pack_of_digest(call: Call[NoQuery, None]) -> Answer:
    return await _shown(await find_by_digest(call, call.path["digest"]))


async def disable_pack(call: Call[NoQuery, NoBody]) -> Answer:
    turned = await PACKS.turn(call, enable=False)
    return await _shown(turned.row, replayed=turned.replayed)


async def enable_pack(call: Call[NoQuery, NoBody]) -> Answer:
    turned = await PACKS.turn(call, enable=True)
    return await _shown(turned.row, replayed=turned.replayed)


def _read(body: bytes, redactor: Redactor) -> tuple[PackRequest, bytes]:
    """The request, and the document to be registered as canonical JSON."""
    request = decoded(_request, body)
    steps = pack_steps(request.steps, redactor=redactor)
    compiled = steps if isinstance(steps, Refusal) else compile_steps(steps)
    if isinstance(compiled, Refusal):
        raise RefusedError(compiled)
    written = _Written(pack_id=request.pack_id, steps=_steps.decode(body).steps)
    try:
        document = DagDocument(
            description=redactor.text(request.description),
            fail_fast=request.fail_fast,
            inputs=msgspec.Raw(canonical(bytes(request.inputs))),
            jobs=tuple(compiled.nodes),
            request=msgspec.Raw(msgspec.json.encode(written)),
        )
        encoded = encode_dag(document)
    except NotCanonicalError as error:
        raise invalid("$", str(error)) from None
    refusal = refuse_pack(document, compiled.paths)
    if refusal is not None:
        raise RefusedError(refusal)
    return request, encoded


def _summary(row: RegistryRow) -> PackSummary:
    return PackSummary(pack_id=row.name, digest=address_of(row.digest or ""), **facts_of(row))


async def _shown(
    row: RegistryRow, status: int = 200, *, replayed: bool = False, **headers: str
) -> Answer:
    """The view of a pack, planned in a thread: it may have thousands of nodes."""
    shown = await trio.to_thread.run_sync(lambda: encode(_view(row)))
    return json_answer(msgspec.Raw(shown), status, replayed=replayed, **headers)


def _view(row: RegistryRow) -> PackView:
    document = decode_dag(row.body)
    plan = pack_plan(document)
    return PackView(
        **msgspec.structs.asdict(_summary(row)),
        description=document.description,
        inputs=document.inputs,
        fail_fast=document.fail_fast,
        steps=_written.decode(document.request).steps,
        plan_hash=digest(plan),
        plan=msgspec.Raw(plan),
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/packs",
        name="registerPack",
        summary="Register a version of a pack",
        handler=register_pack,
        scopes=(Scope.SUBMIT,),
        body=PackRequest,
        body_raw=True,
        answers={200: PackView, 201: PackView},
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
        "/packs",
        "listPacks",
        "List packs by id and version",
        list_packs,
        Page[PackSummary],
        query=PackList,
    ),
    reading(
        "/packs/{digest}",
        "getPackByDigest",
        "Show the pack that a digest addresses, in its oldest version",
        show_pack_of_digest,
        PackView,
        errors=MISSING,
    ),
    reading(
        "/packs/{packId}/{version}",
        "getPack",
        "Show a version of a pack",
        show_pack,
        PackView,
        errors=MISSING,
    ),
    acting(
        "/packs/{packId}/{version}:disable",
        "disablePack",
        "Let no new run use a version of a pack",
        disable_pack,
        PackView,
        errors=(*MISSING, *REPEATED),
    ),
    acting(
        "/packs/{packId}/{version}:enable",
        "enablePack",
        "Let new runs use a version of a pack again",
        enable_pack,
        PackView,
        errors=(*MISSING, *REPEATED),
    ),
)
