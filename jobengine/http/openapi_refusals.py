"""The refusals that the published description names: which row may answer with which, and why.

I1  A status is described with every error code that it may carry (`x-error-codes`).
I2  Refusals with the same codes are described once, under the names of their codes.

Not here: answers that are no refusal (`openapi`), which status a code has (`errors`).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from jobengine.auth.scopes import AUDIT_RULES, AuditRule, Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http import openapi_parts as parts
from jobengine.http.answer import JSON
from jobengine.http.errors import STATUS_OF
from jobengine.http.openapi_examples import ERROR_EXAMPLES
from jobengine.http.openapi_schemas import REF, REQUEST_TIMEOUT
from jobengine.http.route import Route, SignedRoute

__all__ = [
    "PARAMETER",
    "audit_rules",
    "codes_of",
    "refusal_ref",
    "refusals",
    "takes_idempotency_key",
]

PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ALWAYS: Final = (
    ErrorCode.INVALID_FIELD,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL,
    ErrorCode.OVERLOADED,
    ErrorCode.STORE_UNAVAILABLE,
)
_WITH_BEARER: Final = (
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TENANT_REQUIRED,
    ErrorCode.TENANT_FORBIDDEN,
    ErrorCode.SCOPE_REQUIRED,
)
_WITH_BODY: Final = (
    ErrorCode.BAD_JSON,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
)
_REPEATABLE: Final = (ErrorCode.IDEMPOTENCY_MISMATCH, ErrorCode.IDEMPOTENCY_IN_PROGRESS)


def codes_of(row: Route | SignedRoute) -> dict[int, list[str]]:
    """Every error code that the row may answer with, by status, both ascending."""
    codes = {*_ALWAYS, *row.errors}
    if row.body is not None:
        codes.update(_WITH_BODY)
    if row.body is bytes:
        codes.remove(ErrorCode.BAD_JSON)
    if isinstance(row, Route):
        codes.update(_WITH_BEARER)
        codes.remove(ErrorCode.TENANT_REQUIRED)
        codes.add(row.tenantless)
        if any(rule is not AuditRule.NONE for rule in audit_rules(row)):
            codes.add(ErrorCode.AUDIT_REASON_REQUIRED)
        if takes_idempotency_key(row):
            codes.update(_REPEATABLE)
    if PARAMETER.search(row.path):
        # A value that no path can hold (`a/b`, `a:b`) leads to no endpoint.
        codes.add(ErrorCode.NOT_FOUND)
    found: dict[int, list[str]] = {}
    for code in codes:
        found.setdefault(STATUS_OF[code], []).append(str(code))
    if row.body is not None:
        found[REQUEST_TIMEOUT[0]] = [REQUEST_TIMEOUT[1]]
    return {status: sorted(found[status]) for status in sorted(found)}


def refusal_ref(codes: Sequence[str]) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{'.'.join(codes)}"}


def refusals(rows: Iterable[Route | SignedRoute]) -> dict[str, Any]:
    """Every refusal of these rows once, under the names of its codes."""
    found: dict[int, set[tuple[str, ...]]] = {500: {(str(ErrorCode.INTERNAL),)}}
    for row in rows:
        for status, codes in codes_of(row).items():
            found.setdefault(status, set()).add(tuple(codes))
    return {
        ".".join(codes): _shown(status, codes)
        for status in sorted(found)
        for codes in sorted(found[status])
    }


def _shown(status: int, codes: Sequence[str]) -> dict[str, Any]:
    headers = ["X-JobEngine-Version"]
    if status not in (401, 403):
        headers += parts.RATE_HEADERS
    if status in (429, 503):
        headers.append("Retry-After")
    if ErrorCode.BACKLOG_FULL in codes:
        headers.append("X-JobEngine-Backlog")
    if status == 416:
        headers.append("Content-Range")
    if status == 401:
        headers.append("WWW-Authenticate")
    content: dict[str, Any] = {"schema": {"$ref": REF.format(name="ErrorEnvelope")}}
    examples = ERROR_EXAMPLES.get(status, {})
    told = {name: text for name, text in examples.items() if text["error"]["code"] in codes}
    if told:
        content["examples"] = parts.valued(told)
    return {
        "description": f"{parts.PHRASES[status]}: {', '.join(f'`{code}`' for code in codes)}",
        "x-error-codes": list(codes),
        "headers": parts.header_refs(headers),
        "content": {JSON: content},
    }


def takes_idempotency_key(row: Route) -> bool:
    # A worker's reports are told apart by their lease and its token already.
    return row.method == "POST" and row.scopes != (Scope.WORK,)


def audit_rules(row: Route) -> list[AuditRule]:
    """What an act must state, by the scope it is done under; to read is no act."""
    return [AuditRule.NONE if row.method == "GET" else AUDIT_RULES[scope] for scope in row.scopes]
