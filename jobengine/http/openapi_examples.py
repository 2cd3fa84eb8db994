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
    503: {"noDatabase": _error("STORE_UNAVAILABLE", "the database is away; retry later")},
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

_RUN_ID: Final = "01936b60-02c1-7d10-8a55-4b1f0c9d2e77"

_RUN: Final[dict[str, Any]] = {
    "runId": _RUN_ID,
    "tenantId": "demo",
    "runToken": "nightly-2026-11-21",
    "state": "pending",
    "nodes": 3,
    "inputs": {"image": "registry.example/app:1.4"},
    "inputsHash": "9c1e5f0a7b3d4e2f8a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f",
    "correlationId": "import-2026-11-21",
    "createdBy": "ci",
    "createdAt": "2026-11-21T10:00:00.123Z",
    "jobIds": {
        "scan": "01936b60-02c1-78fd-8491-18dc9116ea40",
        "ok": "01936b60-02c1-7929-ac08-02a6fb133870",
        "publish": "01936b60-02c1-71d6-9479-2eb582b100ee",
    },
}

_RUN_WANTED: Final[dict[str, Any]] = {
    "runToken": "nightly-2026-11-21",
    "inputs": {"image": "registry.example/app:1.4"},
    "jobs": [
        {
            "key": "scan",
            "jobType": "scan",
            "template": True,
            "payload": {"image": "${inputs.image}"},
        },
        {"key": "ok", "kind": "approval", "dependsOn": ["scan"], "message": "Publish it?"},
        {
            "key": "publish",
            "jobType": "publish",
            "dependsOn": ["scan", "ok"],
            "template": True,
            "payload": {"found": "${results.scan.count}"},
        },
    ],
}

_SIGNAL: Final[dict[str, Any]] = {
    "runId": _RUN_ID,
    "firstSignal": {
        "type": "blocked",
        "stage": "orch.approval",
        "step": "ok",
        "message": "waits for an approval",
        "at": "2026-11-21T10:00:02.000Z",
    },
    "summaryEtag": 'W/"2b4d1131f0b3aa45a50fce3c6ca64caf"',
}

_CALLBACK: Final[dict[str, Any]] = {
    "runId": _RUN_ID,
    "key": "vendor",
    "jobId": "01936b60-02c1-71d6-9479-2eb582b100ee",
    "kind": "callback",
    "state": "completed",
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
    ("createRun", "request"): {"jobs": _RUN_WANTED},
    ("createRun", "201"): {"created": _RUN},
    ("createRun", "200"): {"replayedOrFound": _RUN},
    ("getRunFirstSignal", "200"): {"blocked": _SIGNAL},
    ("endCallback", "request"): {
        "result": {"result": {"approved": True}},
        "failure": {"state": "failed", "error": "declined"},
    },
    ("endCallback", "200"): {"completed": _CALLBACK},
}
"""By operation and the place in it: `request`, a status, or the name of a query parameter."""
