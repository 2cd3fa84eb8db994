"""The items of a bulk as texts of their own, so that alike ones need not be decoded one by one.

Not here: what an item says (`jobs`), what is made of it (`translate`).
"""

import re
from collections.abc import Iterator, Sequence, Sized
from itertools import islice
from typing import Final

import msgspec

from jobengine.wire.array_items import TooManyItemsError, array_items
from jobengine.wire.jobs import BULK_ITEMS_MAX
from jobengine.wire.refusal import Refusal, refusal_of

__all__ = ["bulk_texts", "in_strides"]

_STRIDE_JOBS: Final = 128
_STRIDE_BYTES: Final = 64 << 10
"""So much is translated in one go: half a millisecond where jobs are alike, and less than two where
each is unlike the others."""
_LINE: Final = re.compile(r"[^ \t\r\n][^\n]*")
_TOO_MANY: Final = Refusal("TOO_MANY_ITEMS", f"at most {BULK_ITEMS_MAX} jobs a request", "$")


def bulk_texts(body: bytes, *, ndjson: bool) -> list[bytes] | Refusal:
    """The items of a JSON array, or the lines that are not blank, each to be read by itself.

    A body that cannot be divided into items at all, or holds too many, is refused as a whole.
    """
    try:
        text = body.decode()
        if ndjson:
            lines = islice(_LINE.finditer(text), BULK_ITEMS_MAX + 1)
            items = [line[0].encode() for line in lines]
            return items if len(items) <= BULK_ITEMS_MAX else _TOO_MANY
        return [bytes(item) for item in array_items(text)]
    except TooManyItemsError:
        return _TOO_MANY
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return refusal_of(error)


def in_strides(texts: Sequence[Sized]) -> Iterator[slice]:
    """Texts in pieces that can each be translated in one go; one text is not divided."""
    start = 0
    while start < len(texts):
        end = min(start + _STRIDE_JOBS, len(texts))
        while end > start + 1 and sum(map(len, texts[start:end])) > _STRIDE_BYTES:
            end = (start + end) // 2
        yield slice(start, end)
        start = end
