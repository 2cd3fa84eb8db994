"""Texts that an index of the store holds: unique and idempotency keys, run tokens, artifact names.

PostgreSQL refuses an entry of more than 2,704 bytes (a third of a page, less what stands about it)
that it cannot compress, and with it the whole commit. Lengths on the wire are in characters, of
which one takes up to four bytes, and a secret may be shorter than what takes its place.

I1  What passes here, in an index with a tenant of 256 characters, fits.
"""

from typing import Final

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.wire.fields import INDEXED_BYTES_MAX

__all__ = ["indexed"]

_UTF8_BYTES_MAX: Final = 4


def indexed(text: str, path: str) -> str:
    """The text, as it is stored: after redaction. Raises `RefusedError`, naming the field."""
    if len(text) * _UTF8_BYTES_MAX > INDEXED_BYTES_MAX:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > INDEXED_BYTES_MAX:
            why = f"stored it takes {size} bytes, and {INDEXED_BYTES_MAX} are the most; shorten it"
            raise RefusedError(Refusal(ErrorCode.INVALID_FIELD, f"{path}: {why}", {"path": path}))
    return text
