"""The JSON body of a request as the type its row declares.

I1  A body that names U+0000 anywhere is refused: PostgreSQL stores no such text.

Not here: bulk submits, whose items are refused one by one (`wire/jobs`), and bodies of octets.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from jobengine.domain.canonical import names_nul
from jobengine.domain.errors import RefusedError
from jobengine.http.errors import invalid, refused_by_wire
from jobengine.wire.refusal import refusal_of

__all__ = ["decoded"]

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body decoded. Raises `RefusedError` (400) that names the field."""
    try:
        value = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RefusedError(refused_by_wire(refusal_of(error))) from None
    if names_nul(body):
        path = _place_of_nul(msgspec.json.decode(body), "")
        raise invalid(path or "$", "holds the character U+0000; leave it out")
    return value


def _place_of_nul(value: Any, path: str) -> str | None:
    """Where the first text with U+0000 stands, as ``a.b[2]``."""
    if isinstance(value, str):
        return path if "\0" in value else None
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        if any("\0" in name for name in value):
            return path
        inside = ((f"{path}.{name}" if path else name, each) for name, each in value.items())
    elif isinstance(value, list):
        inside = ((f"{path}[{number}]", each) for number, each in enumerate(value))
    found = (_place_of_nul(each, place) for place, each in inside)
    return next((place for place in found if place is not None), None)
