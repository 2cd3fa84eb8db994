"""Digests, ranges and validators of bytes over HTTP, read from and written into headers.

Sources: RFC 9530 (Content-Digest, Repr-Digest), RFC 8941 §3.3.5 (byte sequences), RFC 9110 §8.8.3
(ETag), §13.1 (If-None-Match, If-Range), §14 (Range). One range is answered; several in one request
are ignored, as §14.2 allows.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.errors import invalid

__all__ = [
    "ByteRange",
    "content_range",
    "etag_of",
    "expected_digest",
    "is_unmodified",
    "range_asked",
    "repr_digest",
]

DIGEST_FIELDS: Final = ("Content-Digest", "Repr-Digest")
_SHA256: Final = re.compile(r"\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?")
_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """From `first` up to and without `end`."""

    first: int
    end: int


def expected_digest(headers: Mapping[str, str]) -> str | None:
    """The `sha256:…` that a request says its body has. Raises `RefusedError` (400) for a field
    without a readable sha-256, or two that differ: what was meant to be checked would not be."""
    found = {name: _sha256_of(name, headers[name]) for name in DIGEST_FIELDS if name in headers}
    if len(set(found.values())) > 1:
        raise invalid("Repr-Digest", "differs from Content-Digest, and the body is not encoded")
    return next(iter(found.values()), None)


def _sha256_of(name: str, field: str) -> str:
    for member in field.split(","):
        match = _SHA256.fullmatch(member)
        if match is None:
            continue
        try:
            octets = base64.b64decode(match[1], validate=True)
        except binascii.Error:
            octets = b""
        if len(octets) == hashlib.sha256().digest_size:
            return f"sha256:{octets.hex()}"
    raise invalid(name, "must hold sha-256=:BASE64:, the SHA-256 of the body")


def repr_digest(digest: str) -> str:
    """The field Repr-Digest for a `sha256:…`."""
    octets = bytes.fromhex(digest.removeprefix("sha256:"))
    return f"sha-256=:{base64.b64encode(octets).decode()}:"


def etag_of(digest: str) -> str:
    """A strong validator: other bytes would have another digest."""
    return f'"{digest}"'


def is_unmodified(headers: Mapping[str, str], digest: str) -> bool:
    """Whether the client has these bytes already (If-None-Match)."""
    said = [one.strip().removeprefix("W/") for one in headers.get("If-None-Match", "").split(",")]
    return "*" in said or etag_of(digest) in said


def range_asked(headers: Mapping[str, str], digest: str, size_bytes: int) -> ByteRange | None:
    """The range to answer with; None for the whole. Raises `RefusedError` (416)."""
    if headers.get("If-Range", etag_of(digest)) != etag_of(digest):
        return None
    match = _RANGE.fullmatch(headers.get("Range", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, end = max(0, size_bytes - int(match[2])), size_bytes
    else:
        first = int(match[1])
        end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
        if match[2] and int(match[2]) < first:
            return None
    if first >= end:
        raise RefusedError(
            Refusal(
                ErrorCode.RANGE_NOT_SATISFIABLE,
                f"Range: there are {size_bytes} bytes",
                {"path": "Range", "sizeBytes": size_bytes},
            )
        )
    return ByteRange(first, end)


def content_range(wanted: ByteRange, size_bytes: int) -> str:
    """The field Content-Range of a 206."""
    return f"bytes {wanted.first}-{wanted.end - 1}/{size_bytes}"
