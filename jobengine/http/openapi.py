"""The OpenAPI 3.1 document of the REST API, made from the route table and the wire types.

I1  Every row of the table is described, and nothing else: paths, parameters, bodies, statuses and
    scopes are read from the rows and their types, so the document cannot say less than the code.
I2  The same rows give the same bytes: no clock, no environment.

Not here: refusals (`openapi_refusals`), headers (`openapi_parts`), examples (`openapi_examples`),
schemas (`openapi_schemas`), who serves the document (`routes/wellknown`).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobengine import __version__
from jobengine.auth.scopes import AuditRule
from jobengine.domain.errors import ErrorCode
from jobengine.http import openapi_parts as parts
from jobengine.http.answer import JSON
from jobengine.http.controls import MERGE_PATCH
from jobengine.http.openapi_examples import EXAMPLES, NDJSON_EXAMPLE
from jobengine.http.openapi_refusals import (
    PARAMETER,
    audit_rules,
    codes_of,
    refusal_ref,
    refusals,
    takes_idempotency_key,
)
from jobengine.http.openapi_schemas import Schemas
from jobengine.http.route import BASE, OpenRoute, Route, SignedRoute
from jobengine.http.streams import EVENT_STREAM

__all__ = ["document"]

_PATH_VALUES: Final[dict[str, dict[str, Any]]] = {
    "jobId": {"type": "string", "format": "uuid"},
    "runId": {"type": "string", "format": "uuid"},
    "token": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 1024},
    "digest": {"type": "string", "pattern": "^(sha256:)?[0-9a-f]{64}$"},
    "queue": {"type": "string", "pattern": "^[a-zA-Z0-9._:-]+$", "maxLength": 128},
}
_ANY_VALUE: Final[dict[str, Any]] = {"type": "string", "pattern": "^[^/:]+$"}


def document(
    routes: Sequence[Route],
    open_routes: Sequence[OpenRoute],
    signed_routes: Sequence[SignedRoute] = (),
) -> dict[str, Any]:
    """The description of these rows, ready to be encoded as JSON."""
    schemas = Schemas(routes, open_routes, signed_routes)
    paths: dict[str, dict[str, Any]] = {}
    for row in routes:
        paths.setdefault(row.base + row.path, {})[row.method.lower()] = _operation(row, schemas)
    for signed_row in signed_routes:
        said = _signed_operation(signed_row, schemas)
        paths.setdefault(signed_row.base + signed_row.path, {})[signed_row.method.lower()] = said
    for open_row in open_routes:
        if open_row.described:
            said = _open_operation(open_row, schemas)
            paths.setdefault(open_row.path, {})[open_row.method.lower()] = said
    tags = {tag for item in paths.values() for said in item.values() for tag in said["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jobengine",
            "version": __version__,
            "summary": "Jobs for many tenants, and proof of what was done",
            "description": parts.INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The engine that serves this document"}],
        "security": [{"bearer": []}],
        "tags": [
            {"name": name, "description": text} for name, text in parts.TAGS.items() if name in tags
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "parameters": parts.REQUEST_HEADERS,
            "headers": parts.ANSWER_HEADERS,
            "responses": refusals((*routes, *signed_routes)),
            "securitySchemes": parts.SECURITY_SCHEMES,
        },
    }


def _operation(row: Route, schemas: Schemas) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "tags": ["legacy" if row.successor else _tag(row)],
        "x-scopes": [str(scope) for scope in row.scopes],
        "security": [{"bearer": [str(scope)]} for scope in row.scopes],
        "parameters": [*_path_values(row), *_headers(row), *_query(row, schemas)],
    }
    if row.successor:
        said["deprecated"] = True
        said["description"] = f"Earlier path of `{BASE}{row.successor}`, which answers the same."
    if row.media_type == EVENT_STREAM:
        said["description"] = parts.STREAM
    if row.body is not None:
        said["requestBody"] = _body(row, schemas)
    said["responses"] = {
        **{str(status): _answer(row, status, schemas) for status in sorted(row.answers)},
        **{str(status): refusal_ref(codes) for status, codes in codes_of(row).items()},
    }
    return said


def _tag(row: Route | SignedRoute) -> str:
    return row.path.split("/")[1].partition(":")[0]


def _signed_operation(row: SignedRoute, schemas: Schemas) -> dict[str, Any]:
    headers = parts.header_refs(["X-JobEngine-Version", *parts.RATE_HEADERS])
    answers = {
        str(status): {
            "description": parts.PHRASES[status],
            "headers": headers,
            "content": _content(JSON, kind, schemas, EXAMPLES.get((row.name, str(status)), {})),
        }
        for status, kind in row.answers.items()
    }
    refused = {str(status): refusal_ref(codes) for status, codes in codes_of(row).items()}
    examples = EXAMPLES.get((row.name, "request"), {})
    return {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [_tag(row)],
        "security": [],
        "parameters": list(_path_values(row)),
        "requestBody": {"required": False, "content": _content(JSON, row.body, schemas, examples)},
        "responses": {**answers, **refused},
    }


def _open_operation(row: OpenRoute, schemas: Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, kind in row.answers.items():
        headers = ["X-JobEngine-Version", *(["Retry-After"] if status == 503 else [])]
        answers[str(status)] = {
            "description": parts.PHRASES[status],
            "headers": parts.header_refs(headers),
            "content": _content(row.media_type, kind, schemas, {}),
        }
    answers.setdefault("500", refusal_ref([str(ErrorCode.INTERNAL)]))
    return {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [parts.OPEN_TAGS.get(row.path, "health")],
        "security": [],
        "responses": answers,
    }


def _path_values(row: Route | SignedRoute) -> Iterable[dict[str, Any]]:
    for name in PARAMETER.findall(row.path):
        schema = _PATH_VALUES.get(name, _ANY_VALUE)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _headers(row: Route) -> Iterable[dict[str, Any]]:
    names = ["Tenant", "Project", "CorrelationId", "Traceparent"]
    if takes_idempotency_key(row):
        names.append("IdempotencyKey")
    if row.media_type == EVENT_STREAM:
        names.append("LastEventId")
    names += [name.replace("-", "") for name in row.headers]
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in names)
    rules = audit_rules(row)
    for name, needs in (
        ("OperatorReason", (AuditRule.REASON, AuditRule.REASON_AND_TICKET)),
        ("OperatorTicket", (AuditRule.REASON_AND_TICKET,)),
    ):
        if all(rule in needs for rule in rules):
            yield {**parts.REQUEST_HEADERS[name], "required": True}
        elif any(rule is not AuditRule.NONE for rule in rules):
            yield {"$ref": f"#/components/parameters/{name}"}


def _query(row: Route, schemas: Schemas) -> Iterable[dict[str, Any]]:
    for name, schema in schemas.properties(row.query).items():
        options = schema.get("anyOf", [schema])
        given = {"name": name, "in": "query", "required": False, "schema": options[0]}
        if examples := EXAMPLES.get((row.name, name)):
            given["examples"] = parts.valued(examples)
        yield given


def _body(row: Route, schemas: Schemas) -> dict[str, Any]:
    if row.body is bytes:
        return {"required": False, "content": {parts.OCTETS: {"schema": parts.ANY_BYTES}}}
    content: dict[str, Any] = {}
    for media_type in row.consumes:
        if media_type in MERGE_PATCH:
            examples = EXAMPLES.get((row.name, "request"), {})
            content |= _content(media_type, row.body, schemas, examples)
            continue
        content[media_type] = {
            "schema": {
                "type": "string",
                "description": "One JSON document a line; empty lines are skipped.",
                "contentMediaType": media_type,
                "contentSchema": schemas.of(row.body).get("items", {}),
            },
            "example": NDJSON_EXAMPLE,
        }
    return {"required": not row.body_optional, "content": content}


def _answer(row: Route, status: int, schemas: Schemas) -> dict[str, Any]:
    headers = ["X-JobEngine-Version", *parts.RATE_HEADERS]
    if row.location:
        headers.append("Location")
    if status == 200 and takes_idempotency_key(row):
        headers.append("Idempotent-Replayed")
    if row.successor:
        headers += ["Deprecation", "Sunset", "Link"]
    if row.creates_work:
        headers.append("X-JobEngine-Load")
    headers += [*row.answer_headers, *(["Content-Range"] if status == 206 else [])]
    if status == 204 and "ETag" in headers:
        headers.remove("ETag")
    content: dict[str, Any] = {}
    if status not in (204, 304):
        examples = EXAMPLES.get((row.name, str(status)), {})
        content = _content(row.media_type, row.answers[status], schemas, examples)
    return {
        "description": parts.PHRASES[status],
        "headers": parts.header_refs(headers),
        "content": content,
    }


def _content(
    media_type: str, kind: Any, schemas: Schemas, examples: dict[str, Any]
) -> dict[str, Any]:
    if kind is bytes:
        return {media_type: {"schema": parts.ANY_BYTES}}
    schema = {"type": "string"} if kind is None else schemas.of(kind)
    said: dict[str, Any] = {"schema": schema}
    if examples:
        said["examples"] = parts.valued(examples)
    return {media_type.partition(";")[0]: said}
