"""One envelope for every error: which status a code has, and what the client is shown.

I1  Every `ErrorCode` has a status, whoever raises it.
I2  The body of an error is `{"error": {code, message, traceId, state?, details?}}`, also where the
    framework or the server refused; a 5xx says nothing of the inside.
I3  `details[].path` names the field, query parameter or header at issue.
"""

import secrets
from http import HTTPStatus
from typing import Any, Final

import msgspec

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.store_trouble import told_of, trouble_of
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.answer import Answer
from jobengine.store.errors import StoreUnavailableError
from jobengine.wire import refusal as wire
from jobengine.wire.jobs import ErrorBody, ErrorEnvelope

__all__ = [
    "STATUS_OF",
    "TRANSPORT_CODES",
    "answer_to",
    "error_answer",
    "error_body",
    "framework_refusal",
    "internal_answer",
    "invalid",
    "refused_by_wire",
    "transport_refusal",
    "unavailable_answer",
]

STATUS_OF: Final[dict[ErrorCode, int]] = {
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.ARTIFACT_INVALID: 400,
    ErrorCode.ARTIFACT_QUOTA_EXCEEDED: 409,
    ErrorCode.AUDIT_REASON_REQUIRED: 400,
    ErrorCode.BACKLOG_FULL: 429,
    ErrorCode.BAD_JSON: 400,
    ErrorCode.BULK_TOO_LARGE: 413,
    ErrorCode.CALLBACK_INVALID: 403,
    ErrorCode.CAPACITY_EXCEEDED: 429,
    ErrorCode.DEAD_LETTER_CLOSED: 409,
    ErrorCode.DIGEST_MISMATCH: 422,
    ErrorCode.DUPLICATE_HELLO: 409,
    ErrorCode.HELLO_REQUIRED: 400,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 409,
    ErrorCode.IDEMPOTENCY_MISMATCH: 422,
    ErrorCode.ILLEGAL_TRANSITION: 409,
    ErrorCode.INPUTS_INVALID: 422,
    ErrorCode.INTERNAL: 500,
    ErrorCode.IN_USE: 409,
    ErrorCode.INVALID_FIELD: 400,
    ErrorCode.LEASE_LOST: 409,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.NODE_NOT_OPEN: 409,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.PACK_RUN_INCOMPLETE: 422,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.RANGE_NOT_SATISFIABLE: 416,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.REVISION_MISMATCH: 412,
    ErrorCode.RUN_ENDED: 409,
    ErrorCode.RUN_INVALID: 422,
    ErrorCode.RUN_UNFINISHED: 409,
    ErrorCode.SCOPE_REQUIRED: 403,
    ErrorCode.SOURCE_UNKNOWN: 422,
    ErrorCode.STORE_UNAVAILABLE: 503,
    ErrorCode.TEMPLATE_INVALID: 422,
    ErrorCode.TENANT_FORBIDDEN: 403,
    ErrorCode.TENANT_REQUIRED: 403,
    ErrorCode.TOKEN_INVALID: 401,
    ErrorCode.UNIQUE_KEY_TAKEN: 409,
    ErrorCode.UNKNOWN_OP: 400,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.VERSION_DISABLED: 409,
}

_RETRY_AFTER_S: Final = "1"
_WIRE_CODES: Final = {"TOO_MANY_ITEMS": ErrorCode.BULK_TOO_LARGE}
_FRAMEWORK: Final[dict[int, tuple[str, str]]] = {
    404: (ErrorCode.NOT_FOUND, "there is nothing at this path"),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "this path does not answer that method; see Allow"),
    408: ("REQUEST_TIMEOUT", "the body did not arrive in time"),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "the body is too large"),
    415: (ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the media type is not supported"),
}
TRANSPORT_CODES: Final[dict[int, str]] = {
    400: "REQUEST_MALFORMED",
    408: "REQUEST_TIMEOUT",
    417: "EXPECTATION_FAILED",
    431: "HEADERS_TOO_LARGE",
    501: "NOT_IMPLEMENTED",
    505: "HTTP_VERSION_NOT_SUPPORTED",
}
"""Of what is no request at all, by status; any path can be answered with them."""

_encoder: Final = msgspec.json.Encoder()


def invalid(path: str, message: str) -> RefusedError:
    """To raise when one field, query parameter or header is wrong."""
    return RefusedError(Refusal(ErrorCode.INVALID_FIELD, f"{path}: {message}", {"path": path}))


def refused_by_wire(refusal: wire.Refusal) -> Refusal:
    """The domain's form of a refusal of the wire types."""
    code = _WIRE_CODES.get(refusal.code) or ErrorCode(refusal.code)
    return Refusal(code, refusal.message, {"path": refusal.path.removeprefix("$.")})


def error_body(refusal: Refusal, trace_id: str | None) -> ErrorBody:
    """What a client is shown of a refusal. Several `paths` make as many details."""
    details = refusal.details
    state = details.get("from") or details.get("state")
    shown: list[dict[str, Any]] | None = [details] if details else None
    if "paths" in details:
        shown = [{"path": path} for path in details["paths"]]
    return ErrorBody(
        code=str(refusal.code),
        message=refusal.message,
        trace_id=trace_id,
        state=state if isinstance(state, str) else None,
        details=shown,
    )


def error_answer(refusal: Refusal, trace_id: str) -> Answer:
    """The whole answer to a refused request."""
    status = STATUS_OF[refusal.code]
    headers: dict[str, str] = {}
    if status in (429, 503):
        headers["Retry-After"] = str(refusal.details.get("retryAfterSeconds", _RETRY_AFTER_S))
    if refusal.code is ErrorCode.BACKLOG_FULL:
        headers["X-JobEngine-Backlog"] = str(refusal.details["backlog"])
    if status == 416:
        headers["Content-Range"] = f"bytes */{refusal.details['sizeBytes']}"
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="jobengine"'
    return _answer(status, error_body(refusal, trace_id), headers)


def unavailable_answer(error: UnavailableError, trace_id: str) -> Answer:
    """The whole answer to a request that has to come again later."""
    answer = error_answer(error.refusal, trace_id)
    answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


def answer_to(error: BaseException, trace_id: str) -> Answer | None:
    """The whole answer to a request that ended in this error; None when nobody foresaw it."""
    match error:
        case RefusedError():
            return error_answer(error.refusal, trace_id)
        case UnavailableError():
            return unavailable_answer(error, trace_id)
        case StoreUnavailableError():
            told = told_of(trouble_of(error))
            unavailable = UnavailableError(
                ErrorCode.STORE_UNAVAILABLE, told.message, told.retry_after_s
            )
            return unavailable_answer(unavailable, trace_id)
    return None


def internal_answer(trace_id: str) -> Answer:
    """The whole answer to a request that failed for a reason which the log has."""
    message = "the request failed inside the engine; its log has this traceId"
    return error_answer(Refusal(ErrorCode.INTERNAL, message), trace_id)


def transport_refusal(status: int, message: str, headers: dict[str, str]) -> Answer:
    """The whole answer to bytes that are no request, under a trace id of its own."""
    body = ErrorBody(code=TRANSPORT_CODES[status], message=message, trace_id=secrets.token_hex(16))
    return _answer(status, body, headers)


def framework_refusal(status: int, trace_id: str, headers: dict[str, str]) -> Answer:
    """The envelope in place of a page that the web framework would have made."""
    code, message = _FRAMEWORK.get(status, (f"HTTP_{status}", _phrase(status)))
    body = ErrorBody(code=str(code), message=message, trace_id=trace_id)
    return _answer(status, body, headers)


def _answer(status: int, body: ErrorBody, headers: dict[str, str]) -> Answer:
    return Answer(_encoder.encode(ErrorEnvelope(error=body)), status=status, headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "the request was refused"
