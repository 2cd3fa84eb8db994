"""A failed attempt: what the worker says of it, and the signature under which like errors gather.

A signature is the digest of job type, error class, status family and the message with everything
that varies from one occurrence to the next (ids, numbers, paths, hosts) taken out. Dead letters
carry it, so that a thousand of them read as the three problems they are.
"""

import hashlib
import re

import msgspec

__all__ = ["DeadLetterClass", "Failure", "dead_letter_class", "signature"]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An error as reported; fields in the sorted order of their stored names."""

    class_: str = msgspec.field(name="class")
    http_status: int | None = None
    message: str
    retryable: bool
    stack: str | None = None


class DeadLetterClass:
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    SCHEMA_MISMATCH = "schema_mismatch"
    PARSE_ERROR = "parse_error"
    TIMEOUT = "timeout"
    CRASH_LOOP = "crash_loop"
    OTHER = "other"


_VARYING = (
    (re.compile(r"https?://[^\s'\"]+", re.IGNORECASE), "<url>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[0-9a-f]{16,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"(?:/[\w.@-]+){2,}"), "<path>"),
    # Begun only where a run of such characters begins, and never taken back: linear in any message.
    (
        re.compile(r"(?<![a-z0-9.-])(?:[a-z0-9-]++\.)++[a-z]{2,}\b(?::\d+)?", re.IGNORECASE),
        "<host>",
    ),
    (re.compile(r"\d+"), "<n>"),
)
_PARSE = re.compile(r"decode|parse|syntax|json|xml|yaml", re.IGNORECASE)
_SCHEMA = re.compile(r"schema|validation", re.IGNORECASE)
_TIMEOUT = re.compile(r"timeout|timed.?out|deadline", re.IGNORECASE)


def dead_letter_class(failure: Failure, reason: str) -> str:
    """The cluster a dead letter belongs to; one of ``DeadLetterClass``."""
    status = failure.http_status
    if status == 429:
        return DeadLetterClass.HTTP_429
    if status is not None and 500 <= status <= 599:
        return DeadLetterClass.HTTP_5XX
    if reason == "timed_out" or _TIMEOUT.search(failure.class_):
        return DeadLetterClass.TIMEOUT
    if _SCHEMA.search(failure.class_):
        return DeadLetterClass.SCHEMA_MISMATCH
    if _PARSE.search(failure.class_):
        return DeadLetterClass.PARSE_ERROR
    return DeadLetterClass.OTHER


def signature(job_type: str, failure: Failure) -> str:
    """16 hex digits shared by failures that differ only in what varies between occurrences."""
    message = failure.message
    for pattern, stand_in in _VARYING:
        message = pattern.sub(stand_in, message)
    family = f"{failure.http_status // 100}xx" if failure.http_status else ""
    parts = f"{job_type}\x1f{failure.class_}\x1f{family}\x1f{message}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]
