"""What a route answers with: bytes, a stream of them, or what the rest of the connection is for. No
web framework in it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import attrs

from jobengine.http.hand_over import HandedConnection

__all__ = [
    "JSON",
    "Answer",
    "AnyAnswer",
    "LiveAnswer",
    "LiveStream",
    "StreamAnswer",
    "encoded",
    "sent_whole",
]

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


class LiveStream(Protocol):
    """A stream that has taken up what it needs, and gives it back in `serve`, to the end of its
    connection, or in `leave`, where it is not served."""

    async def serve(self, connection: HandedConnection, /) -> None: ...

    def leave(self) -> None: ...


@attrs.frozen
class LiveAnswer:
    """A stream that outlives its request. `begin` takes it up, as a WebSocket or by bytes of the
    media type; it raises `RefusedError`."""

    begin: Callable[[bool], LiveStream]
    media_type: str
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    status: int = attrs.field(default=200, kw_only=True)


AnyAnswer = Answer | StreamAnswer | LiveAnswer


def sent_whole(answer: Answer, headers: Sequence[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    """The messages that send it, as ASGI has them, with these headers and those of its body."""
    of_body = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    start = {"status": answer.status, "headers": [*headers, *of_body]}
    return [
        {"type": "http.response.start", **start},
        {"type": "http.response.body", "body": answer.body},
    ]


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
