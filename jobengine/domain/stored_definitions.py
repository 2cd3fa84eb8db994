"""Definitions as they are read back, by the hundred: most are like one that was read before.

Of the last few kinds what is constant in their text is kept, so that those that are alike are told
by comparing octets.

I1  Those that are given one ``Likeness`` are alike; not all that are alike are given one.

Not here: jobs that come in (``wire/translate``).
"""

from collections import deque
from typing import Final, NamedTuple

import msgspec

from jobengine.domain.job import Definition, Likeness

__all__ = ["StoredDefinitions"]

_SHAPES_MAX: Final = 8
_DIGEST_LENGTH: Final = 64
_CORRELATION_ID: Final = b'"correlationId":"'
_PAYLOAD_DIGEST: Final = b'"payloadDigest":"'
_decode: Final = msgspec.json.Decoder(Definition).decode


class _Shape(NamedTuple):
    """What stands before the correlation id, between that and the digest, and behind it."""

    before: bytes
    between: bytes
    behind: bytes
    like: Likeness


class StoredDefinitions:
    """Texts are canonical, as the encoder writes a ``Definition``."""

    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: deque[_Shape] = deque(maxlen=_SHAPES_MAX)

    def read(self, text: bytes) -> tuple[Definition, Likeness | None]:
        definition = _decode(text)
        # One without escapes is as long in the text as it is itself.
        length = len(definition.correlation_id)
        for before, between, behind, like in self._shapes:
            start = len(before) + length
            end = start + len(between)
            if (
                len(text) == end + _DIGEST_LENGTH + len(behind)
                and text.startswith(before)
                and text[start:end] == between
                and text.endswith(behind)
            ):
                return definition, like
        shape = _cut(text, definition)
        if shape is None:
            return definition, None
        self._shapes.appendleft(shape)
        return definition, shape.like


def _cut(text: bytes, definition: Definition) -> _Shape | None:
    """None for a text whose parts cannot be told by their names: fields stand in sorted order, and
    a quotation mark within a string is escaped, so only a label can look like a field."""
    if text.count(_CORRELATION_ID) != 1 or text.count(_PAYLOAD_DIGEST) != 1:
        return None
    start = text.index(_CORRELATION_ID) + len(_CORRELATION_ID)
    digest_at = text.index(_PAYLOAD_DIGEST) + len(_PAYLOAD_DIGEST)
    end = text.index(b'"', start)
    correlation_id = definition.correlation_id.encode()
    if text[start:end] != correlation_id or len(definition.payload_digest) != _DIGEST_LENGTH:
        return None
    return _Shape(
        text[:start],
        text[end:digest_at],
        text[digest_at + _DIGEST_LENGTH :],
        Likeness.of(definition),
    )
