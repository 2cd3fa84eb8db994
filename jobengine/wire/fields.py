"""Constrained scalars of the wire: lengths, ranges and alphabets, stated once.

msgspec checks them while decoding and only then; code that builds a message in this process is
held by its types. `NAME_PATTERN` ends in a look-ahead because `$` alone accepts a trailing newline.
"""

import math
import re
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec

NAME_PATTERN: Final = r"^[a-zA-Z0-9._:-]+$(?!\n)"
INT64_MAX: Final = 2**63 - 1
DELAY_S_MAX: Final = 30 * 86_400
PAYLOAD_BYTES_MAX: Final = 256 * 1024
INDEXED_BYTES_MAX: Final = 1024
"""Of a text that an index of the store holds, in UTF-8 (`indexed`)."""

_NAME: Final = re.compile(NAME_PATTERN)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=NAME_PATTERN)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
LongText = Annotated[str, msgspec.Meta(max_length=16_384)]
Token = Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
Ref: TypeAlias = (
    Annotated[str, msgspec.Meta(max_length=64)]
    | Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    | None
)
"""What a worker calls a message, so that the answer can name it."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=DELAY_S_MAX)]
HttpStatus = Annotated[int, msgspec.Meta(ge=100, le=599)]
Traceparent = Annotated[str, msgspec.Meta(min_length=55, max_length=128)]
LabelKey = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
LabelValue = Annotated[str, msgspec.Meta(max_length=256)]
Labels = Annotated[dict[LabelKey, LabelValue], msgspec.Meta(max_length=32)]
AwareInstant = Annotated[datetime, msgspec.Meta(tz=True)]
"""An instant a client states; decoded strictly and only with its offset."""

Instant = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""An instant the engine states: RFC 3339, UTC, milliseconds, formatted by the engine."""

_NULL: Final = msgspec.Raw(b"null")
_encode: Final = msgspec.json.Encoder().encode
_EMPTY_OBJECT: Final = msgspec.Raw(b"{}")


def is_name(text: str) -> bool:
    """Whether a text that was not decoded as a `Name` is one."""
    return len(text) <= 128 and _NAME.search(text) is not None


def raw_null() -> msgspec.Raw:
    """JSON `null`, shared (a factory, since msgspec cannot describe a Raw default)."""
    return _NULL


def raw_object() -> msgspec.Raw:
    """JSON `{}`, shared."""
    return _EMPTY_OBJECT


def raw(value: Any) -> msgspec.Raw:
    """As raw JSON; see `json_of`."""
    return msgspec.Raw(json_of(value))


def json_of(value: Any) -> bytes:
    """Encode `value` (anything msgspec encodes) to JSON; raises TypeError for what it cannot, and
    ValueError for NaN and infinities, of which msgspec would make `null`."""
    text = _encode(value)
    # A number that was lost has left a `null`; only then is it worth looking for one.
    if b"null" in text and _has_no_number(msgspec.to_builtins(value, enc_hook=_nothing)):
        raise ValueError("NaN and infinities are no JSON")
    return text


def _has_no_number(value: Any) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case dict():
            return any(map(_has_no_number, value.values()))
        case list() | tuple() | set() | frozenset():
            return any(map(_has_no_number, value))
    return False


def _nothing(_: Any) -> None:
    """In the place of raw JSON, which is as it was given."""
