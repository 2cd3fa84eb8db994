"""Canonical JSON: the one byte form that is stored, hashed and compared (RFC 8785).

For *plain* values (no floats, integers within ±2^53, no character above U+DFFF) compact JSON with
sorted keys is RFC 8785, so a C encoder does the work; anything else takes the reference library. A
test holds the two paths equal.

I1  ``canonical(x) == rfc8785.dumps(decode(x))`` for every value it accepts.
I2  No accepted value holds U+0000 or a lone surrogate (PostgreSQL can store neither), nor an
    integer that a double cannot carry.

Not here: what is hashed (``chain``), what is signed.
"""

import hashlib
import re
from typing import Any

import msgspec
import rfc8785

__all__ = [
    "EMPTY_OBJECT",
    "NotCanonicalError",
    "canonical",
    "canonical_of",
    "digest",
    "names_nul",
    "storable",
]

EMPTY_OBJECT = b"{}"

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()
# In compact JSON a number inside of a value stands behind one of `:[,`. Found are those that may be
# a float or beyond 2^53; a string may look like one of them.
_odd_number = re.compile(rb"[:\[,]-?[0-9]+(?:[.eE]|(?<=[0-9]{16}))").search
_NO_NUMBER_STARTS = b'{["ntf'
_long_number = re.compile(rb"[0-9]{16}").search
# Behind an odd number of backslashes `u0000` is text.
_nul = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search
_unstorable = re.compile("[\0\ud800-\udfff]")
_BACKSLASH = 0x5C
# Each byte as what it is for a text's being plain: a digit, the first of a character above U+DFFF,
# any other. Up to U+DFFF the order of UTF-8 is that of UTF-16, by which RFC 8785 sorts.
_DIGIT, _HIGH, _OTHER = b"0", b"^", b" "
_kinds = b"".join(
    _DIGIT if byte in b"0123456789" else _HIGH if byte >= 0xEE else _OTHER for byte in range(256)
)
_LONG = _DIGIT * 16


class NotCanonicalError(ValueError):
    """The value has no canonical form; the message says what is wrong with it."""


class _FloatMetError(Exception):
    pass


def _stop_at_float(_: str) -> float:
    raise _FloatMetError


_decode_without_floats = msgspec.json.Decoder(float_hook=_stop_at_float).decode


def canonical(raw: bytes) -> bytes:
    """Return the canonical form of one JSON text.

    Raises:
        NotCanonicalError: malformed JSON, U+0000, a lone surrogate, a number beyond 2^53.
    """
    if raw == EMPTY_OBJECT:
        return EMPTY_OBJECT
    try:
        value = _decode_without_floats(raw)
        text = _encoder.encode(value)
    except (_FloatMetError, msgspec.DecodeError, UnicodeError, RecursionError):
        return canonical_of(_decoded(raw))
    kinds = text.translate(_kinds)
    if _LONG not in kinds and (text.isascii() or _HIGH not in kinds) and not names_nul(text):
        return text
    return canonical_of(value)


def _decoded(raw: bytes) -> Any:
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotCanonicalError(f"not valid JSON: {error}") from None


def canonical_of(value: Any) -> bytes:
    """Return the canonical form of a decoded JSON value; errors as :func:`canonical`."""
    try:
        text = _encoder.encode(value)
        if _is_plain(text):
            return text
        if names_nul(text):
            raise NotCanonicalError("contains the character U+0000, which cannot be stored")
        text = rfc8785.dumps(value)
        if _long_number(text) is not None:
            rfc8785.dumps(_decoder.decode(text))  # a float whose text reads back as an integer
        return text
    except NotCanonicalError:
        raise
    except UnicodeEncodeError:
        raise NotCanonicalError("contains a lone surrogate, which is not a character") from None
    except RecursionError:
        raise NotCanonicalError("is nested too deeply") from None
    except rfc8785.CanonicalizationError as error:
        raise NotCanonicalError(str(error)) from None


def _is_plain(text: bytes) -> bool:
    """Whether compact JSON with sorted keys is canonical as it stands."""
    return (
        text[0] in _NO_NUMBER_STARTS
        and (text.isascii() or _HIGH not in text.translate(_kinds))
        and not names_nul(text)
        and _odd_number(text) is None
    )


def names_nul(text: bytes) -> bool:
    """Whether a JSON text has the character U+0000, which PostgreSQL cannot store, in a string."""
    return _BACKSLASH in text and b"\\u0000" in text and _nul(text) is not None


def storable(text: str, characters_max: int) -> str:
    """A text cut to ``characters_max``, with U+FFFD for what PostgreSQL cannot hold (I2)."""
    if len(text) > characters_max:
        text = f"{text[: characters_max - 1]}…"
    return _unstorable.sub("\N{REPLACEMENT CHARACTER}", text)


def digest(canonical_text: bytes) -> str:
    """SHA-256 of canonical bytes, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_text).hexdigest()
