"""Examples in the published description: paging, idempotency, errors, what a reader asks first.

I1  Each example is an instance of the schema it stands beside (tested).
"""

from typing import Any, Final

__all__ = ["ERROR_EXAMPLES", "EXAMPLES", "NDJSON_EXAMPLE"]

_JOB_ID: Final = "01936b5e-8a4e-7c31-9f1e-0c5d8f6f2a11"
_TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
_PAGE_TOKEN: Final = "4mJ0bq3m0yq7c1c3m0a9dyIwMTkzNmI1ZSI"


def _error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "traceId": _TRACE_ID, **more}}


ERROR_EXAMPLES: Final[dict[int, dict[str, Any]]] = {
    400: {
        "unknownField": _error(
            "INVALID_FIELD",
            "$.prio is not a known field; remove it",
            details=[{"path": "prio"}],
        )
    },
    401: {
        "noToken": _error(
            "TOKEN_INVALID",
            "send a token as Authorization: Bearer …",
            details=[{"path": "Authorization"}],
        )
    },
    403: {
        "noTenant": _error(
            "TENANT_REQUIRED",
            "X-Stella-Tenant: name the tenant",
            details=[{"path": "X-Stella-Tenant"}],
        )
    },
    404: {"noJob": _error("NOT_FOUND", f"no job {_JOB_ID} here", details=[{"path": "jobId"}])},
    409: {
        "finished": _error(
            "ILLEGAL_TRANSITION",
            "the job is completed",
            state="completed",
            details=[{"from": "completed", "to": "cancelled"}],
        )
    },
    422: {
        "otherBody": _error(
            "IDEMPOTENCY_MISMATCH",
            "this Idempotency-Key was used for another request",
            details=[{"path": "Idempotency-Key"}],
        )
    },
    503: {"noDatabase": _error("STORE_UNAVAILABLE", "the database does not answer; retry later")},
}

_JOB: Final[dict[str, Any]] = {
    "jobId": _JOB_ID,
    "tenantId": "demo",
    "jobType": "scan",
    "queue": "scan",
    "payload": {"image": "registry.example/app:1.4"},
    "payloadDigest": "5f0e1c3f5d0a1c6b6f6d1c4cf7a1d8f2a4a0a6f4f8e3f3e1a4d2b9c8e7f60512",
    "priority": 5,
    "maxRetries": 3,
    "backoff": {"kind": "exponential", "baseSeconds": 1.0, "maxSeconds": 300.0, "jitter": "full"},
    "leaseSeconds": 30,
    "cost": 1,
    "labels": {"team": "images"},
    "correlationId": "import-2026-11-21",
    "networkIntent": "local",
    "attempt": 0,
    "failures": 0,
    "crashes": 0,
    "state": "scheduled",
    "createdAt": "2026-11-21T10:00:00.123Z",
    "scheduledAt": "2026-11-21T10:00:00.123Z",
}

_WANTED: Final[dict[str, Any]] = {
    "jobType": "scan",
    "payload": {"image": "registry.example/app:1.4"},
    "labels": {"team": "images"},
}

NDJSON_EXAMPLE: Final = '{"jobType": "scan"}\n{"jobType": "scan", "priority": 8}\n'

EXAMPLES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("createJob", "request"): {"job": _WANTED},
    ("createJob", "201"): {"created": _JOB},
    ("createJob", "200"): {"replayedOrFound": _JOB},
    ("createJobs", "request"): {"jobs": [_WANTED, {"jobType": "scan", "priority": 8}]},
    ("createJobs", "200"): {
        "oneRejected": {
            "items": [
                {"index": 0, "outcome": "created", "jobId": _JOB_ID},
                {
                    "index": 1,
                    "outcome": "rejected",
                    "error": {
                        "code": "INVALID_FIELD",
                        "message": "$.prio is not a known field; remove it",
                        "details": [{"path": "prio"}],
                    },
                },
            ],
            "created": 1,
            "existing": 0,
            "rejected": 1,
        }
    },
    ("listJobs", "pageToken"): {"nextPage": _PAGE_TOKEN},
    ("listJobs", "200"): {
        "firstPage": {"items": [_JOB], "nextPageToken": _PAGE_TOKEN},
        "lastPage": {"items": [_JOB], "nextPageToken": None},
    },
}
"""By operation and the place in it: `request`, a status, or the name of a query parameter."""
