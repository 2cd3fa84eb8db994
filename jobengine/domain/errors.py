"""The refusals a user can meet, by code; every door turns the same value into its own form.

A ``Refusal`` is an answer, not a fault: nothing changed. Its message names the field or the state
at issue and what to do about it, and never holds a secret or a database's words.
"""

from enum import StrEnum
from typing import Any

import attrs

__all__ = ["ErrorCode", "Refusal", "RefusedError"]


class ErrorCode(StrEnum):
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ARTIFACT_INVALID = "ARTIFACT_INVALID"
    ARTIFACT_QUOTA_EXCEEDED = "ARTIFACT_QUOTA_EXCEEDED"
    AUDIT_REASON_REQUIRED = "AUDIT_REASON_REQUIRED"
    BACKLOG_FULL = "BACKLOG_FULL"
    BAD_JSON = "BAD_JSON"
    BULK_TOO_LARGE = "BULK_TOO_LARGE"
    CALLBACK_INVALID = "CALLBACK_INVALID"
    CAPACITY_EXCEEDED = "CAPACITY_EXCEEDED"
    DEAD_LETTER_CLOSED = "DEAD_LETTER_CLOSED"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    DUPLICATE_HELLO = "DUPLICATE_HELLO"
    HELLO_REQUIRED = "HELLO_REQUIRED"
    IDEMPOTENCY_IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"
    INPUTS_INVALID = "INPUTS_INVALID"
    INTERNAL = "INTERNAL"
    IN_USE = "IN_USE"
    INVALID_FIELD = "INVALID_FIELD"
    LEASE_LOST = "LEASE_LOST"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NODE_NOT_OPEN = "NODE_NOT_OPEN"
    NOT_FOUND = "NOT_FOUND"
    OVERLOADED = "OVERLOADED"
    PACK_RUN_INCOMPLETE = "PACK_RUN_INCOMPLETE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RANGE_NOT_SATISFIABLE = "RANGE_NOT_SATISFIABLE"
    RATE_LIMITED = "RATE_LIMITED"
    REVISION_MISMATCH = "REVISION_MISMATCH"
    RUN_ENDED = "RUN_ENDED"
    RUN_INVALID = "RUN_INVALID"
    RUN_UNFINISHED = "RUN_UNFINISHED"
    SCOPE_REQUIRED = "SCOPE_REQUIRED"
    SOURCE_UNKNOWN = "SOURCE_UNKNOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    TEMPLATE_INVALID = "TEMPLATE_INVALID"
    TENANT_FORBIDDEN = "TENANT_FORBIDDEN"
    TENANT_REQUIRED = "TENANT_REQUIRED"
    TOKEN_INVALID = "TOKEN_INVALID"
    UNIQUE_KEY_TAKEN = "UNIQUE_KEY_TAKEN"
    UNKNOWN_OP = "UNKNOWN_OP"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    VERSION_DISABLED = "VERSION_DISABLED"


@attrs.frozen
class Refusal:
    """Why a request changed nothing; ``details`` is JSON-ready and names what is at issue."""

    code: ErrorCode
    message: str
    details: dict[str, Any] = attrs.field(factory=dict)


class RefusedError(Exception):
    """Carries a refusal through code that answers by raising."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
