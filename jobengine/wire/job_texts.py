"""The items of a bulk as texts of their own, so that alike ones need not be decoded one by one.

Not here: what an item says (`jobs`), what is made of it (`translate`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from jobengine.wire.jobs import BULK_ITEMS_MAX
from jobengine.wire.refusal import Refusal, refusal_of

__all__ = ["bulk_texts", "in_strides"]

_STRIDE_JOBS: Final = 128
_STRIDE_BYTES: Final = 64 << 10
"""So much is translated in one go: half a millisecond where jobs are alike, and less than two where
each is unlike the others."""
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


def bulk_texts(body: bytes, *, ndjson: bool) -> list[bytes] | Refusal:
    """The items of a JSON array, or the lines that are not blank, each to be read by itself.

    A body that cannot be divided into items at all, or holds too many, is refused as a whole.
    """
    try:
        text = body.decode()
        if ndjson:
            items = [line.encode() for line in text.split("\n") if line and not line.isspace()]
        else:
            items = [bytes(item) for item in _items.decode(text)]
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return refusal_of(error)
    if len(items) > BULK_ITEMS_MAX:
        return Refusal("TOO_MANY_ITEMS", f"at most {BULK_ITEMS_MAX} jobs a request", "$")
    return items


def in_strides(texts: Sequence[bytes]) -> Iterator[slice]:
    """Texts in pieces that can each be translated in one go; one text is not divided."""
    start = 0
    while start < len(texts):
        end = min(start + _STRIDE_JOBS, len(texts))
        while end > start + 1 and sum(map(len, texts[start:end])) > _STRIDE_BYTES:
            end = (start + end) // 2
        yield slice(start, end)
        start = end
