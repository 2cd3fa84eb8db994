"""WebSocket frames as a server reads and writes them (RFC 6455 §5), without sockets.

A `FrameReader` is fed what the network brought, in whatever pieces, and returns what came whole. No
extension is offered in the handshake, so none is understood.

I1  Whatever a peer sends, `feed` does not raise. A close frame or a `Violation` is the last that
    it returns; what came whole before that is returned too.
I2  At most one message of ``message_bytes_max`` and one frame header are kept between two calls; a
    message that will be larger is refused by its header, before it is read.
I3  A text message is valid UTF-8, judged as a whole when its last fragment has come.
I4  Reading is linear in what is read: a frame in pieces is not looked at until it is complete.

Not here: the opening handshake (`worker_upgrade`), when to answer a ping or a close
(`worker_socket`), what messages mean.
"""

from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "CLOSED_WITHOUT_CODE",
    "CloseFrame",
    "Event",
    "FrameReader",
    "Ping",
    "Violation",
    "close_frame",
    "ping_frame",
    "pong_frame",
    "text_frame",
]

CLOSED_WITHOUT_CODE: Final = 1005
"""Stands for a close frame that names no code; never sent (§7.4.1)."""
_PROTOCOL_ERROR: Final = 1002
_INVALID_DATA: Final = 1007
_TOO_BIG: Final = 1009

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN: Final = 0x80
_CONTROL: Final = 0x08
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_16, _LENGTH_64 = 126, 127
_SHORT_MAX: Final = 125
_LENGTH_16_MAX: Final = (1 << 16) - 1
_FIRST_BYTES: Final = frozenset(
    {opcode | fin for opcode in (_CONTINUATION, _TEXT, _BINARY) for fin in (0, _FIN)}
    | {opcode | _FIN for opcode in (_CLOSE, _PING, _PONG)}
)
"""No reserved bit, no reserved opcode, no control frame in fragments."""
_WHOLE_TEXT: Final = _FIN | _TEXT
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_CLOSE_CODES_OF_USERS: Final = range(3000, 5000)


class Ping(NamedTuple):
    """Is to be answered by a pong of the same payload."""

    payload: bytes


class CloseFrame(NamedTuple):
    """The last that a peer says."""

    code: int
    reason: str


class Violation(NamedTuple):
    """The peer broke the protocol: close the connection with this code and reason."""

    code: int
    reason: str


Event: TypeAlias = str | bytes | Ping | CloseFrame | Violation
"""A text message, a binary one, or what asks for an answer."""


class _ViolatedError(Exception):
    """Ends the reading; its arguments are those of the `Violation`."""


class FrameReader:
    """Reads the frames of one client."""

    __slots__ = ("_buffer", "_ended", "_message", "_message_bytes_max", "_needed", "_opcode")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        # So many bytes of the buffer are the next frame's, as far as its header tells yet.
        self._needed = 2
        # A message in fragments: what has come of it, and the opcode that it began with.
        self._message = bytearray()
        self._opcode = _CONTINUATION
        self._ended = False

    @property
    def missing(self) -> int:
        """Bytes known to be missing of the frame that has begun; 0 between two frames."""
        return self._needed - len(self._buffer) if self._buffer else 0

    def feed(self, data: bytes | bytearray) -> list[Event]:
        """Events in the order in which they became whole."""
        if self._ended:
            return []
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        start = 0
        try:
            while len(buffer) - start >= self._needed and not self._ended:
                start = self._read_frame(start, events)
        except _ViolatedError as violated:
            self._ended = True
            events.append(Violation(*violated.args))
        if self._ended:
            start = len(buffer)
        del buffer[:start]
        return events

    def _read_frame(self, start: int, events: list[Event]) -> int:
        """Read the frame at `start` and return where it ends; while it is not complete, note what
        completes it and return `start`."""
        buffer = self._buffer
        first, second = buffer[start], buffer[start + 1]
        if first not in _FIRST_BYTES:
            raise _ViolatedError(_PROTOCOL_ERROR, "no such frame")
        if not second & _MASKED:
            raise _ViolatedError(_PROTOCOL_ERROR, "a client masks its frames")
        size, header = second & _LENGTH, 6
        if size > _SHORT_MAX:
            header = 8 if size == _LENGTH_16 else 14
            if len(buffer) - start < header and not first & _CONTROL:
                self._needed = header
                return start
            size = _long_size(first, size, buffer[start + 2 : start + header - 4])
        if size + len(self._message) > self._message_bytes_max and not first & _CONTROL:
            raise _ViolatedError(_TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")
        at, end = start + header, start + header + size
        if len(buffer) < end:
            self._needed = end - start
            return start
        self._needed = 2
        payload = _unmask(buffer[at - 4 : at], buffer[at:end])
        if first == _WHOLE_TEXT and self._opcode == _CONTINUATION:
            events.append(_text(payload))
        else:
            self._take(first, payload, events)
        return end

    def _take(self, first: int, payload: bytes, events: list[Event]) -> None:
        opcode = first & _OPCODE
        if opcode == _PING:
            events.append(Ping(payload))
        elif opcode == _CLOSE:
            self._ended = True
            events.append(_close(payload))
        elif opcode != _PONG:
            self._take_fragment(opcode, payload, events, last=bool(first & _FIN))

    def _take_fragment(
        self, opcode: int, payload: bytes, events: list[Event], *, last: bool
    ) -> None:
        if (opcode == _CONTINUATION) == (self._opcode == _CONTINUATION):
            raise _ViolatedError(_PROTOCOL_ERROR, "fragments of messages are out of order")
        self._message += payload
        self._opcode = opcode or self._opcode
        if last:
            whole, text = bytes(self._message), self._opcode == _TEXT
            self._message, self._opcode = bytearray(), _CONTINUATION
            events.append(_text(whole) if text else whole)


def text_frame(text: str | bytes) -> bytes:
    """One unmasked frame with the whole message; bytes are UTF-8."""
    payload = text.encode() if isinstance(text, str) else text
    return _head(_TEXT, len(payload)) + payload


def ping_frame(payload: bytes = b"") -> bytes:
    return _head(_PING, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    return _head(_PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """The reason is cut to what a control frame holds."""
    if code == CLOSED_WITHOUT_CODE:
        return _head(_CLOSE, 0)
    room = _SHORT_MAX - 2
    payload = reason.encode()[:room].decode(errors="ignore").encode()
    return _head(_CLOSE, 2 + len(payload)) + code.to_bytes(2, "big") + payload


def _head(opcode: int, size: int) -> bytes:
    if size <= _SHORT_MAX:
        return bytes((_FIN | opcode, size))
    if size <= _LENGTH_16_MAX:
        return bytes((_FIN | opcode, _LENGTH_16)) + size.to_bytes(2, "big")
    return bytes((_FIN | opcode, _LENGTH_64)) + size.to_bytes(8, "big")


def _long_size(first: int, mark: int, data: bytearray) -> int:
    if first & _CONTROL:
        raise _ViolatedError(_PROTOCOL_ERROR, f"a control frame has at most {_SHORT_MAX} bytes")
    size = int.from_bytes(data, "big")
    if size <= (_SHORT_MAX if mark == _LENGTH_16 else _LENGTH_16_MAX):
        raise _ViolatedError(_PROTOCOL_ERROR, "a length is written as short as it can be")
    return size


def _unmask(key: bytearray, data: bytearray) -> bytes:
    """One exclusive or of two long integers: a loop over bytes would cost a hundred times that."""
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(
        size, "little"
    )


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _ViolatedError(_INVALID_DATA, "text is UTF-8") from None


def _close(payload: bytes) -> CloseFrame:
    if not payload:
        return CloseFrame(CLOSED_WITHOUT_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in _CLOSE_CODES and code not in _CLOSE_CODES_OF_USERS):
        raise _ViolatedError(_PROTOCOL_ERROR, "no such close code")
    return CloseFrame(code, _text(payload[2:]))
