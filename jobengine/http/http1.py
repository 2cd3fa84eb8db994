"""HTTP/1.1 as bytes: requests out of what a peer sent, and the bytes of a response. No I/O.

The grammar is llhttp's, without any of its leniencies; what it leaves open is decided here.

I1  A head is at most `head_bytes_max` long, its trailers included; until it, or they, are complete
    no more than that is kept.
I2  Where a message ends is never a guess: both lengths, an unknown coding or a length given twice
    are refused, and nothing behind a refused message is read.
I3  Only a WebSocket handshake leaves HTTP/1.1. Any other `Upgrade` is read as if it were absent
    (RFC 9110 §7.8), body included.
I4  What a response says of itself cannot hold a line break.

Sources: RFC 9112, RFC 6455 §4.2.1. Not here: waiting, time limits (`connection`).
"""

from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import attrs
import httptools

__all__ = [
    "END",
    "Broken",
    "End",
    "Event",
    "Head",
    "RequestReader",
    "response_head",
]

Headers = list[tuple[bytes, bytes]]

_VERSIONS: Final = frozenset({"1.0", "1.1"})
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_WEBSOCKET_VERSION: Final = b"13"
_OF_HANDSHAKE: Final = (b"sec-websocket-key", b"sec-websocket-version")
_MALFORMED: Final = "this is not a well-formed HTTP/1.1 request"


@attrs.frozen
class Head:
    """A request line with its headers, whose names are in lower case.

    `target` is a path with its query, or `*`. `length`: of the body as declared, None when it
    comes in chunks. `upgrades`: it asks for a WebSocket and is a handshake that can be answered,
    the last request of its connection.
    """

    method: str
    target: bytes
    version: str
    headers: Headers
    length: int | None
    keeps_alive: bool
    expects_continue: bool
    upgrades: bool


@attrs.frozen
class Broken:
    """The peer's bytes cannot be read on; to be answered with this status, if anything still is."""

    status: int
    message: str
    headers: dict[str, str] = attrs.field(factory=dict)


class End:
    """The end of a message."""


END: Final = End()

Event = Head | bytes | End | Broken


class RequestReader:
    """Requests of one connection, in order: a `Head`, pieces of the body, `END`, and so on. After a
    `Broken`, or the `END` of what upgrades, nothing follows."""

    def __init__(self, head_bytes_max: int) -> None:
        self._head_bytes_max = head_bytes_max
        self._events: deque[Event] = deque()
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._in_head = False
        self._past_head = False
        self._over = False
        # How many pieces of bodies and ends there were, and the bytes that came since the last.
        self._passed = 0
        self._partial_bytes = 0
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._refusal: Broken | None = None

    @property
    def in_head(self) -> bool:
        """Whether a head has begun to arrive and is not complete."""
        return self._in_head

    @property
    def events(self) -> deque[Event]:
        """What has been read and not been taken; to be taken from the left."""
        return self._events

    def feed(self, data: bytes) -> None:
        """Read on. What is wrong becomes an event in its place."""
        passed = self._passed
        while data and (parser := self._parser) is not None and not self._over:
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._break(self._refusal or _why(error))
            else:
                break
        # Of a head or of trailers: a read with some of a body, or an end, is not only theirs.
        if (self._in_head or self._past_head) and self._passed == passed:
            self._partial_bytes += len(data)
            if self._partial_bytes > self._head_bytes_max:
                self._break(_TOO_LONG)

    def close(self) -> None:
        """Read no more. Parser and reader know each other: both would else stay in memory until the
        collector comes by."""
        self._over = True
        self._parser = None

    def on_message_begin(self) -> None:
        self._in_head = True
        self._target, self._headers, self._head_bytes = b"", [], 0

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if not self._past_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        head = self._head()
        if isinstance(head, Broken):
            self._refuse(head)
        else:
            self._events.append(head)
        self._in_head, self._past_head = False, True
        self._partial_bytes = 0

    def on_body(self, part: bytes) -> None:
        self._pass(part)

    def on_message_complete(self) -> None:
        self._past_head = False
        self._pass(END)

    def _pass(self, event: bytes | End) -> None:
        self._passed += 1
        self._partial_bytes = 0
        self._events.append(event)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._head_bytes_max:
            self._refuse(_TOO_LONG)

    def _refuse(self, broken: Broken) -> None:
        self._refusal = broken
        raise ValueError(broken.message)

    def _break(self, broken: Broken) -> None:
        self._events.append(broken)
        self._over, self._in_head, self._past_head = True, False, False

    def _head(self) -> Head | Broken:
        parser = self._parser
        assert parser is not None
        version, method = parser.get_http_version(), parser.get_method().decode()
        if version not in _VERSIONS:
            return Broken(505, "this server speaks HTTP/1.1")
        target = _origin_form(self._target)
        if method == "CONNECT" or target is None:
            return Broken(501, "this server is no proxy")
        return _checked(method, target, version, self._headers, parser)

    def _upgrade(self, rest: bytes) -> bytes:
        """Go on behind a head that named a protocol; the bytes to read next."""
        end, head = self._events.pop(), self._events.pop()
        assert isinstance(head, Head)
        if head.upgrades:
            self._over = True
            if rest or head.length:
                # A client waits for the answer to its handshake (RFC 6455 §4.1).
                self._events.append(Broken(400, "send nothing behind a handshake"))
            else:
                self._events += (head, end)
            return b""
        # llhttp takes what follows for the other protocol, be it a body or not.
        self._parser = httptools.HttpRequestParser(self)
        kept = [one for one in head.headers if one[0] != b"upgrade"]
        return _bytes_of(attrs.evolve(head, headers=kept)) + rest


_TOO_LONG: Final = Broken(431, "the request line and headers are too long")


def _why(error: httptools.HttpParserError) -> Broken:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Broken(501, "the method is not known here")
    return Broken(400, _MALFORMED)


def _origin_form(target: bytes) -> bytes | None:
    """The path and query of a request target (RFC 9112 §3.2); None when it names no path here."""
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return None
    begin = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    path = rest[begin:]
    return path if path.startswith(b"/") else b"/" + path


def _checked(
    method: str,
    target: bytes,
    version: str,
    headers: Headers,
    parser: httptools.HttpRequestParser,
) -> Head | Broken:
    hosts, length, expects, websocket = 0, 0, False, False
    chunked = False
    for name, value in headers:
        match name:
            case b"host":
                hosts += 1
            case b"content-length":
                length = int(value)
            case b"transfer-encoding":
                if value.lower() != b"chunked" or version == "1.0":
                    return Broken(501, "Transfer-Encoding: only chunked is understood")
                chunked = True
            case b"expect":
                if value.lower() != b"100-continue":
                    return Broken(417, "Expect: only 100-continue can be met")
                expects = version == "1.1"
            case b"upgrade":
                websocket = value.lower() == b"websocket"
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return Broken(400, "Host: give it once")
    upgrades = websocket and method == "GET" and parser.should_upgrade()
    if upgrades and not _is_handshake(headers):
        return Broken(
            400, "this is no WebSocket handshake of version 13", {"Sec-WebSocket-Version": "13"}
        )
    return Head(
        method=method,
        target=target,
        version=version,
        headers=headers,
        length=None if chunked else length,
        keeps_alive=parser.should_keep_alive() and not upgrades,
        expects_continue=expects,
        upgrades=upgrades,
    )


def _is_handshake(headers: Headers) -> bool:
    given = [one for one in headers if one[0] in _OF_HANDSHAKE]
    key, version = [dict(given).get(name) for name in _OF_HANDSHAKE]
    return len(given) == len(_OF_HANDSHAKE) and version == _WEBSOCKET_VERSION and bool(key)


def _bytes_of(head: Head) -> bytes:
    line = f"{head.method} ".encode() + head.target + f" HTTP/{head.version}\r\n".encode()
    return line + b"".join(b"%b: %b\r\n" % one for one in head.headers) + b"\r\n"


def response_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The status line and headers with the empty line behind them.

    Raises `ValueError` when a header holds a line break.
    """
    lines = [b"%b: %b" % one for one in headers]
    text = b"\r\n".join([b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b"")), *lines, b"", b""])
    breaks = len(lines) + 2
    if text.count(b"\n") != breaks or text.count(b"\r") != breaks:
        raise ValueError("a response header holds a line break")
    return text
