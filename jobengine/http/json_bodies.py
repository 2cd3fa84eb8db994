"""The JSON body of a request as the type its row declares.

I1  A body that names U+0000 anywhere is refused: PostgreSQL stores no such text.

Not here: bulk submits, whose items are refused one by one (`wire/jobs`), and bodies of octets.
"""

from typing import TypeVar

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
        raise invalid("$", "holds the character U+0000; leave it out")
    return value
