"""The OpenAPI 3.1 document of the REST API, made from the route table and the wire types.

I1  Every row of the table is described, and nothing else: paths, parameters, bodies, statuses and
    scopes are read from the rows and their types, so the document cannot say less than the code.
I2  The same rows give the same bytes: no clock, no environment.
I3  A status is described with every error code that it may carry (`x-error-codes`).

Not here: headers (`openapi_parts`), examples (`openapi_examples`), schemas (`openapi_schemas`),
who serves the document (`routes/wellknown`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobengine import __version__
from jobengine.auth.scopes import AUDIT_RULES, AuditRule, Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http import openapi_parts as parts
from jobengine.http.answer import JSON
from jobengine.http.errors import STATUS_OF
from jobengine.http.openapi_examples import ERROR_EXAMPLES, EXAMPLES, NDJSON_EXAMPLE
from jobengine.http.openapi_schemas import REF, REQUEST_TIMEOUT, Schemas
from jobengine.http.route import BASE, OpenRoute, Route

__all__ = ["codes_of", "document"]

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PHRASES: Final = {
    200: "Done",
    201: "Created",
    206: "The range that was asked for",
    304: "The client has it already",
    400: "The request is not well formed",
    401: "No valid token",
    403: "Not allowed",
    404: "There is no such thing here",
    408: "The body did not arrive in time",
    409: "The state of the target, or a request under way, does not allow it",
    413: "Too large",
    415: "A media type that is not taken",
    416: "There is no such range",
    422: "Well formed, but cannot be carried out",
    429: "Too much at the moment",
    500: "A fault inside the engine",
    503: "Not available at the moment",
}
_ALWAYS: Final = (
    ErrorCode.INVALID_FIELD,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TENANT_REQUIRED,
    ErrorCode.TENANT_FORBIDDEN,
    ErrorCode.SCOPE_REQUIRED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL,
    ErrorCode.OVERLOADED,
    ErrorCode.STORE_UNAVAILABLE,
)
_WITH_BODY: Final = (
    ErrorCode.BAD_JSON,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
)
_REPEATABLE: Final = (ErrorCode.IDEMPOTENCY_MISMATCH, ErrorCode.IDEMPOTENCY_IN_PROGRESS)
_PATH_VALUES: Final[dict[str, dict[str, Any]]] = {
    "jobId": {"type": "string", "format": "uuid"},
    "digest": {"type": "string", "pattern": "^(sha256:)?[0-9a-f]{64}$"},
}


_ANY_VALUE: Final[dict[str, Any]] = {"type": "string", "pattern": "^[^/:]+$"}


def document(routes: Sequence[Route], open_routes: Sequence[OpenRoute]) -> dict[str, Any]:
    """The description of these rows, ready to be encoded as JSON."""
    schemas = Schemas(routes, open_routes)
    paths: dict[str, dict[str, Any]] = {}
    for row in routes:
        paths.setdefault(row.base + row.path, {})[row.method.lower()] = _operation(row, schemas)
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
            "responses": _refusals(routes),
            "securitySchemes": parts.SECURITY_SCHEMES,
        },
    }


def codes_of(row: Route) -> dict[int, list[str]]:
    """Every error code that the row may answer with, by status, both ascending."""
    codes = {*_ALWAYS, *row.errors}
    if any(rule is not AuditRule.NONE for rule in _rules(row)):
        codes.add(ErrorCode.AUDIT_REASON_REQUIRED)
    if row.body is not None:
        codes.update(_WITH_BODY)
    if row.body is bytes:
        codes.remove(ErrorCode.BAD_JSON)
    if _takes_idempotency_key(row):
        codes.update(_REPEATABLE)
    if _PARAMETER.search(row.path):
        # A value that no path can hold (`a/b`, `a:b`) leads to no endpoint.
        codes.add(ErrorCode.NOT_FOUND)
    found: dict[int, list[str]] = {}
    for code in codes:
        found.setdefault(STATUS_OF[code], []).append(str(code))
    if row.body is not None:
        found[REQUEST_TIMEOUT[0]] = [REQUEST_TIMEOUT[1]]
    return {status: sorted(found[status]) for status in sorted(found)}


def _operation(row: Route, schemas: Schemas) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "tags": ["legacy" if row.successor else row.path.split("/")[1].partition(":")[0]],
        "x-scopes": [str(scope) for scope in row.scopes],
        "security": [{"bearer": [str(scope)]} for scope in row.scopes],
        "parameters": [*_path_values(row), *_headers(row), *_query(row, schemas)],
    }
    if row.successor:
        said["deprecated"] = True
        said["description"] = f"Earlier path of `{BASE}{row.successor}`, which answers the same."
    if row.body is not None:
        said["requestBody"] = _body(row, schemas)
    said["responses"] = {
        **{str(status): _answer(row, status, schemas) for status in sorted(row.answers)},
        **{str(status): _refusal(codes) for status, codes in codes_of(row).items()},
    }
    return said


def _open_operation(row: OpenRoute, schemas: Schemas) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, kind in row.answers.items():
        headers = _header_refs(["X-JobEngine-Version", *(["Retry-After"] if status == 503 else [])])
        content = _content(row.media_type, kind, schemas, {})
        answers[str(status)] = {
            "description": _PHRASES[status],
            "headers": headers,
            "content": content,
        }
    answers.setdefault("500", _refusal([str(ErrorCode.INTERNAL)]))
    return {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [parts.OPEN_TAGS.get(row.path, "health")],
        "security": [],
        "responses": answers,
    }


def _path_values(row: Route) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(row.path):
        schema = _PATH_VALUES.get(name, _ANY_VALUE)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _headers(row: Route) -> Iterable[dict[str, Any]]:
    names = ["Tenant", "Project", "CorrelationId", "Traceparent"]
    if _takes_idempotency_key(row):
        names.append("IdempotencyKey")
    if row.media_type == "text/event-stream":
        names.append("LastEventId")
    names += [name.replace("-", "") for name in row.headers]
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in names)
    rules = _rules(row)
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
            given["examples"] = _valued(examples)
        yield given


def _body(row: Route, schemas: Schemas) -> dict[str, Any]:
    if row.body is bytes:
        return {"required": False, "content": {parts.OCTETS: {"schema": parts.ANY_BYTES}}}
    content: dict[str, Any] = {}
    for media_type in row.consumes:
        if media_type == JSON:
            examples = EXAMPLES.get((row.name, "request"), {})
            content[JSON] = _content(JSON, row.body, schemas, examples)[JSON]
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
    if status == 200 and _takes_idempotency_key(row):
        headers.append("Idempotent-Replayed")
    if row.successor:
        headers += ["Deprecation", "Sunset", "Link"]
    headers += [*row.answer_headers, *(["Content-Range"] if status == 206 else [])]
    examples = EXAMPLES.get((row.name, str(status)), {})
    if status == 304:
        return {"description": _PHRASES[304], "headers": _header_refs(headers), "content": {}}
    return {
        "description": _PHRASES[status],
        "headers": _header_refs(headers),
        "content": _content(row.media_type, row.answers[status], schemas, examples),
    }


def _content(
    media_type: str, kind: Any, schemas: Schemas, examples: dict[str, Any]
) -> dict[str, Any]:
    if kind is bytes:
        return {media_type: {"schema": parts.ANY_BYTES}}
    schema = {"type": "string"} if kind is None else schemas.of(kind)
    said: dict[str, Any] = {"schema": schema}
    if examples:
        said["examples"] = _valued(examples)
    return {media_type.partition(";")[0]: said}


def _refusal(codes: Sequence[str]) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{'.'.join(codes)}"}


def _refusals(rows: Iterable[Route]) -> dict[str, Any]:
    """Every refusal of these rows once, under the names of its codes."""
    found: dict[int, set[tuple[str, ...]]] = {500: {(str(ErrorCode.INTERNAL),)}}
    for row in rows:
        for status, codes in codes_of(row).items():
            found.setdefault(status, set()).add(tuple(codes))
    return {
        ".".join(codes): _shown_refusal(status, codes)
        for status in sorted(found)
        for codes in sorted(found[status])
    }


def _shown_refusal(status: int, codes: Sequence[str]) -> dict[str, Any]:
    headers = ["X-JobEngine-Version"]
    if status not in (401, 403):
        headers += parts.RATE_HEADERS
    if status in (429, 503):
        headers.append("Retry-After")
    if status == 416:
        headers.append("Content-Range")
    if status == 401:
        headers.append("WWW-Authenticate")
    content: dict[str, Any] = {"schema": {"$ref": REF.format(name="ErrorEnvelope")}}
    examples = ERROR_EXAMPLES.get(status, {})
    told = {name: text for name, text in examples.items() if text["error"]["code"] in codes}
    if told:
        content["examples"] = _valued(told)
    return {
        "description": f"{_PHRASES[status]}: {', '.join(f'`{code}`' for code in codes)}",
        "x-error-codes": list(codes),
        "headers": _header_refs(headers),
        "content": {JSON: content},
    }


def _header_refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _valued(examples: dict[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in examples.items()}


def _takes_idempotency_key(row: Route) -> bool:
    # A worker's reports are told apart by their lease and its token already.
    return row.method == "POST" and row.scopes != (Scope.WORK,)


def _rules(row: Route) -> list[AuditRule]:
    """What an act must state, by the scope it is done under; to read is no act."""
    return [AuditRule.NONE if row.method == "GET" else AUDIT_RULES[scope] for scope in row.scopes]
