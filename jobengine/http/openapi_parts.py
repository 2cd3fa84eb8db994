"""Parts of the published description that no type or row of the table says: the headers of every
request and answer, the security scheme, the groups of endpoints.
"""

from collections.abc import Iterable
from typing import Any, Final

from jobengine.auth.scopes import AUDIT_RULES, AuditRule, Scope

__all__ = [
    "ANSWER_HEADERS",
    "INTRODUCTION",
    "OPEN_TAGS",
    "PHRASES",
    "RATE_HEADERS",
    "REQUEST_HEADERS",
    "SECURITY_SCHEMES",
    "STREAM",
    "TAGS",
    "header_refs",
    "valued",
]

INTRODUCTION: Final = """\
Schedules, observes and recovers jobs for many tenants. JSON, camelCase, UTF-8; times are RFC 3339
in UTC with milliseconds.

**Checks** run in this order, and the first that fails is the answer: token (401), tenant and scope
(403), operator reason and ticket (400), headers and query (400), media type (415), body (400, 413).
Unknown fields and unknown query parameters are refused.

**Errors** wear one envelope, `{"error": {code, message, traceId, state?, details?}}`, also where no
endpoint answers (404, 405). `details[].path` names the field, query parameter or header.

**Lists** take `pageSize` and `pageToken`, and answer `{items, nextPageToken}`; `null` ends a list.
A page may hold fewer items than asked for and still go on. A token is good for its tenant, list and
filter only, and what is added meanwhile neither shifts nor repeats items.

**Idempotency**: a POST under an `Idempotency-Key` takes effect once for key, tenant and path. A
repeat within 24 hours gets the first answer again, with `Idempotent-Replayed: true`.

**Events** are enveloped as `orch.event.v1`; the schema is at `/schemas/orch.event.v1.json`.

**Scopes** stand at each operation as `x-scopes` (one of them is enough), the error codes of an
answer as `x-error-codes`.
"""

STREAM: Final = """\
Server-sent events. The same path takes a WebSocket handshake that offers the subprotocol
`jobengine.stream.v1`, and then sends the same as JSON messages named by `type` (`hello`, `events`,
`gap`, `first_signal`, `log`, `end`). A page that cannot set headers offers the bearer and the
tenant as further subprotocols: `jobengine.bearer.TOKEN`, `jobengine.tenant.BASE64URL`.
"""

TAGS: Final = {
    "jobs": "Create, read and operate jobs",
    "activity": "What happened to the tenant's jobs, by second",
    "artifacts": "Bytes under their SHA-256, of one tenant",
    "runs": "Jobs with dependencies: begin, read, steer and repeat them",
    "dags": "Templates of runs: register and find them, in versions",
    "packs": "Units of steps that runs are begun of: register and find them, in versions",
    "pack-runs": "Runs of packs: begin, read and cancel them, with their logs and artifacts",
    "callbacks": "Addresses that the engine has signed; no token, no tenant",
    "deadletter": "Jobs that failed for good, and what becomes of them",
    "stream": "Events as they are committed, and logs (server-sent events or WebSocket)",
    "webhooks": "URLs to which the tenant's events are posted",
    "sources": "Upstreams that jobs talk to, and the rates they allow",
    "quotas": "How much runs at once and starts in an hour",
    "throttles": "Rates of the tenant, its job types and sources",
    "weights": "Shares of job types",
    "breakers": "Circuit breakers of sources",
    "blackouts": "Windows in which nothing new starts",
    "pauses": "What is paused",
    "governance": "How tenants share what may run at once",
    "tenant": "Pause and resume the tenant",
    "queues": "Pause, resume and explain a queue",
    "worker": "The worker protocol as plain requests",
    "workers": "Workers: which are attached, what they hold, and how one is drained",
    "apikeys": "Keys for programs: made, listed, revoked",
    "tokens": "Revoke a token; the keys that check the engine's own",
    "health": "Probes and metrics; no token, no tenant",
    "description": "This description; no token, no tenant",
    "legacy": "Earlier paths that still answer",
}

OPEN_TAGS: Final = {
    "/.well-known/jobengine/keys": "tokens",
    "/.well-known/openapi": "description",
    "/openapi/jobengine.json": "description",
    "/schemas/orch.event.v1.json": "description",
}
"""Of the endpoints outside the base path that are not about health."""

SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that was issued for the tenant and has the operation's scope: "
        + ", ".join(f"`{scope}`" for scope in Scope)
        + ".",
        "x-audit-rules": {
            str(scope): rule.value
            for scope, rule in AUDIT_RULES.items()
            if rule is not AuditRule.NONE
        },
    }
}

_DIGEST_FIELD: Final = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"
_DIGEST_PATTERN: Final = "^sha-256=:[A-Za-z0-9+/]{43}=:$"
_ETAG: Final = '"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"'
_TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _header(
    name: str, description: str, example: str, *, required: bool = False, **schema: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


REQUEST_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Tenant": _header(
        "X-Stella-Tenant",
        "The tenant, which the token must be for.",
        "demo",
        required=True,
        minLength=1,
    ),
    "Project": _header(
        "X-Stella-Project", "Narrows lists and stamps what is created.", "alpha", maxLength=256
    ),
    "IdempotencyKey": _header(
        "Idempotency-Key",
        "Makes a repeat harmless: the request takes effect once for key, tenant and path.",
        "order-7431",
        pattern="^[\\x21-\\x7e]{1,256}$",
    ),
    "OperatorReason": _header(
        "X-Stella-Operator-Reason",
        "Why this is done; kept in the ledger.",
        "the upstream is back",
        minLength=1,
        maxLength=256,
    ),
    "OperatorTicket": _header(
        "X-Stella-Operator-Ticket",
        "The ticket it is done for; kept in the ledger.",
        "OPS-1234",
        minLength=1,
        maxLength=128,
    ),
    "CorrelationId": _header(
        "X-Correlation-Id",
        "Continued into created jobs, their leases and events.",
        "import-2026-11-21",
        maxLength=256,
    ),
    "Traceparent": _header(
        "traceparent",
        "W3C Trace Context; continued through job, lease, worker and events. One that is not well "
        "formed is ignored.",
        _TRACEPARENT,
    ),
    "ContentDigest": _header(
        "Content-Digest",
        "The SHA-256 of the body (RFC 9530); another body is refused.",
        _DIGEST_FIELD,
        pattern=_DIGEST_PATTERN,
    ),
    "ReprDigest": _header(
        "Repr-Digest",
        "The same; a body has no coding here.",
        _DIGEST_FIELD,
        pattern=_DIGEST_PATTERN,
    ),
    "Range": _header(
        "Range",
        "One range of bytes (RFC 9110); what is none of these is passed over.",
        "bytes=0-1023",
    ),
    "IfRange": _header("If-Range", "The ETag for which alone the range is meant.", _ETAG),
    "IfMatch": _header(
        "If-Match",
        "The ETag that it was read with; a change since then is refused.",
        '"3"',
    ),
    "IfNoneMatch": _header("If-None-Match", "The ETag of what the client has.", _ETAG),
    "LastEventId": _header(
        "Last-Event-ID",
        "The id of the last event or log line seen; goes before `after`.",
        "4711",
        pattern="^([0-9]{1,18}([.][0-9]{1,9})?|urn:orch:event:.+:[0-9]{1,18})$",
    ),
}

_NUMBER: Final = {"type": "string", "pattern": "^[0-9]+$"}

OCTETS: Final = "application/octet-stream"
ANY_BYTES: Final = {"type": "string", "format": "binary"}
"""A body of any bytes, under any media type. OpenAPI 3.1 needs no format for it, generators do."""

RATE_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
"""Of every answer to a token that was verified."""

ANSWER_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-JobEngine-Version": {
        "description": "The version that answered; every answer has it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-RateLimit-Limit": {
        "description": "Requests that the token may make at once.",
        "schema": _NUMBER,
    },
    "X-RateLimit-Remaining": {
        "description": "Requests that are left of them.",
        "schema": _NUMBER,
    },
    "X-RateLimit-Reset": {
        "description": "Seconds until all of them are there again.",
        "schema": _NUMBER,
    },
    "X-JobEngine-Load": {
        "description": "How busy the engine is; there is none while that is normal.",
        "schema": {"type": "string", "enum": ["elevated", "shedding"]},
    },
    "X-JobEngine-Backlog": {
        "description": "Jobs of the tenant that wait, those of this request among them.",
        "schema": _NUMBER,
    },
    "Location": {
        "description": "The path of what was created or found.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Idempotent-Replayed": {
        "description": "The answer is that of an earlier request under the same key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {
        "description": "Seconds after which to come again.",
        "required": True,
        "schema": _NUMBER,
    },
    "ETag": {
        "description": "A validator: of an artifact its digest, of a first signal a weak one, else "
        "the revision.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Repr-Digest": {
        "description": "The SHA-256 of all bytes, also where a range is answered (RFC 9530).",
        "schema": {"type": "string", "pattern": _DIGEST_PATTERN},
    },
    "Content-Range": {
        "description": "Which bytes these are, and how many there are.",
        "required": True,
        "schema": {"type": "string", "pattern": "^bytes ([0-9]+-[0-9]+|\\*)/[0-9]+$"},
    },
    "Cache-Control": {
        "description": "How long the answer may be shown again (RFC 9111).",
        "schema": {"type": "string"},
    },
    "Cache-Status": {
        "description": "Whether the engine had the answer at hand (RFC 9211).",
        "schema": {"type": "string"},
    },
    "X-FirstSignal-Source": {
        "description": "Whether the signal was at hand, or had to be looked for.",
        "schema": {"type": "string", "enum": ["snapshot", "cold_start"]},
    },
    "X-Next-Page-Token": {
        "description": "The `pageToken` of what follows; absent at the end.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "RFC 6750.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Deprecation": {
        "description": "Since when the path is deprecated (RFC 9745).",
        "required": True,
        "schema": {"type": "string", "pattern": "^@[0-9]+$"},
    },
    "Sunset": {
        "description": "When the path will have gone (RFC 8594).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The path that answers in its place, `rel="successor-version"`.',
        "required": True,
        "schema": {"type": "string"},
    },
}
PHRASES: Final = {
    200: "Done",
    201: "Created",
    204: "Nothing to show yet",
    206: "The range that was asked for",
    304: "The client has it already",
    400: "The request is not well formed",
    401: "No valid token",
    403: "Not allowed",
    404: "There is no such thing here",
    408: "The body did not arrive in time",
    409: "The state of the target, or a request under way, does not allow it",
    412: "It has changed since it was read",
    413: "Too large",
    415: "A media type that is not taken",
    416: "There is no such range",
    422: "Well formed, but cannot be carried out",
    429: "Too much at the moment",
    500: "A fault inside the engine",
    503: "Not available at the moment",
}


def header_refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def valued(examples: dict[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in examples.items()}
