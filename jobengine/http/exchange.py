"""One request and its response over HTTP/1.1, as an ASGI application sees them.

I1  A response says how it ends: its length where that is known, chunks, or the end of the
    connection (HTTP/1.0). One that is complete in its first message is one write.
I2  The connection goes on only behind a request that has arrived to its end.
I3  `100 Continue` is said when the application asks for a body that has not begun to come.
I4  A response that hands the connection over (`hand_over`) writes nothing; it ends when the
    connection does.

Not here: who calls the application, and what becomes of a response that is not finished
(`connection`).
"""

from typing import Any, Final, Protocol

import trio

from jobengine.http.hand_over import HAND_OVER, HandOver
from jobengine.http.http1 import END, Broken, Head, RequestReader, response_head

__all__ = ["Exchange", "Line", "PeerGoneError"]

Message = dict[str, Any]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})


class PeerGoneError(OSError):
    """The peer takes nothing any more. Raised into an application that goes on sending."""


class Line(Protocol):
    """What an exchange needs of its connection. `may_go_on`: another request would be taken after
    this one. `gone`: the peer sends no more, or takes no more."""

    reader: RequestReader
    gone: bool

    @property
    def may_go_on(self) -> bool: ...

    def date(self) -> bytes: ...

    async def receive(self) -> bytes: ...

    async def read_ahead(self) -> None: ...

    async def send(self, data: bytes) -> None: ...


class Exchange:
    """One request and its response, as the application sees them."""

    def __init__(self, line: Line, head: Head) -> None:
        self._line = line
        self._head = head
        self._owes_continue = head.expects_continue
        self._is_complete = False
        self._start: Message | None = None
        self._is_chunked = False
        self.broken: Broken | None = None
        self.has_begun = False
        self.is_done = False
        self.keeps_alive = False
        self.handed_over: HandOver | None = None

    async def receive(self) -> Message:
        """The next of the body, as ASGI has it; after its end, the disconnect."""
        if not self._is_complete and self.broken is None:
            body = await self._receive_body()
            if body is not None:
                return {"type": "http.request", "body": body, "more_body": not self._is_complete}
        if self._is_complete:
            await self._line.read_ahead()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Raises `PeerGoneError` when nobody is there to read it."""
        match message["type"]:
            case "http.response.start":
                self._start = message
            case "http.response.body" if self._start is not None and not self.is_done:
                await self._send_body(message.get("body", b""), message.get("more_body", False))
            case kind if kind == HAND_OVER and self._start is not None and not self.has_begun:
                self._hand_over(message)
            case unknown:
                raise RuntimeError(f"{unknown} does not fit here")

    async def _receive_body(self) -> bytes | None:
        """Some of the body, or its end; None when no more will come."""
        line = self._line
        events = line.reader.events
        while not events:
            if self._owes_continue and not self.has_begun:
                self._owes_continue = False
                await line.send(_CONTINUE)
            data = await line.receive()
            if not data:
                line.gone = True
                return None
            line.reader.feed(data)
        self._owes_continue = False
        parts: list[bytes] = []
        while events and not self._is_complete:
            match events.popleft():
                case bytes() as part:
                    parts.append(part)
                case Broken() as broken:
                    self.broken = broken
                    return None
                case _:
                    self._is_complete = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_rest(self) -> None:
        """Drop what the application did not ask for; to be called once it has all arrived."""
        events = self._line.reader.events
        while not self._is_complete:
            self._is_complete = events.popleft() is END

    async def _send_body(self, body: bytes, more: bool) -> None:
        # Who is cancelled already has said nothing, and something else can be said in his place.
        await trio.lowlevel.checkpoint_if_cancelled()
        head = b""
        if not self.has_begun:
            head = self._begin(len(body), more)
        if self._head.method == "HEAD" or self._status in _NO_BODY:
            body = b""
        elif self._is_chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body += b"0\r\n\r\n"
        if data := head + body:
            await self._line.send(data)
        self.is_done = not more

    @property
    def _status(self) -> int:
        assert self._start is not None
        status: int = self._start["status"]
        return status

    def _hand_over(self, message: Message) -> None:
        assert self._start is not None
        headers = [*self._start.get("headers", ()), (b"date", self._line.date())]
        if not any(name == b"connection" for name, _ in headers):
            headers.append((b"connection", b"close"))
        head = response_head(self._status, headers)
        self.handed_over = HandOver(head, message["serve"])
        self.has_begun = self.is_done = True

    def _begin(self, length: int, more: bool) -> bytes:
        assert self._start is not None
        headers = [*self._start.get("headers", ()), (b"date", self._line.date())]
        arrived = self._is_complete or END in self._line.reader.events
        keeps_alive = self._head.keeps_alive and arrived and self._line.may_go_on
        if self._status not in _NO_BODY and not any(
            name == b"content-length" for name, _ in headers
        ):
            if not more:
                headers.append((b"content-length", b"%d" % length))
            elif self._head.version == "1.1":
                self._is_chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                keeps_alive = False
        if not keeps_alive:
            headers.append((b"connection", b"close"))
        elif self._head.version == "1.0":
            headers.append((b"connection", b"keep-alive"))
        begun = response_head(self._status, headers)
        self.keeps_alive, self.has_begun = keeps_alive, True
        return begun
