"""What a route answers with: bytes, a stream of them, or what the rest of the connection is for. No
web framework in it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import attrs

from jobengine.http.hand_over import Serve

__all__ = ["JSON", "Answer", "AnyAnswer", "LiveAnswer", "StreamAnswer"]

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


@attrs.frozen
class LiveAnswer:
    """A stream that outlives its request. `begin` takes up what it needs and returns what serves
    it, as a WebSocket or by bytes of the media type; it raises `RefusedError`."""

    begin: Callable[[bool], Serve]
    media_type: str
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    status: int = attrs.field(default=200, kw_only=True)


AnyAnswer = Answer | StreamAnswer | LiveAnswer
