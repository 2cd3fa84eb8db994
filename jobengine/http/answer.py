"""What a route answers with: bytes, or a stream of them. No web framework in it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import attrs

__all__ = ["JSON", "Answer", "StreamAnswer"]

JSON: Final = "application/json"


@attrs.frozen
class Answer:
    """A complete answer; `headers` come on top of the media type."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    media_type: str = attrs.field(default=JSON, kw_only=True)


@attrs.frozen
class StreamAnswer:
    """A body that is made while it is sent. `open` is entered when sending begins, left when the
    client has gone or the chunks have ended; then everything it started must be over."""

    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
    media_type: str
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    status: int = attrs.field(default=200, kw_only=True)
