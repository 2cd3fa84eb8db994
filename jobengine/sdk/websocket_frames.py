"""WebSocket frames as a client reads and writes them (RFC 6455 §5), without sockets.

A `FrameReader` is fed what the network brought, in whatever pieces, and returns what came whole. No
extension is offered in the handshake, so none is understood.

I1  Whatever a server sends, `feed` does not raise. A `CloseFrame` or a `Violation` is the last that
    it returns; what came whole before that is returned too.
I2  At most one message of `message_bytes_max` and one frame header are kept between two calls; a
    message that will be larger is refused by its header, before it is read.
I3  A text message is valid UTF-8, judged as a whole when its last fragment has come.

Not here: the opening handshake (`dialling`), when to answer a ping or a close (`channel`), what
messages mean.
"""

import os
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "CLOSED_WITHOUT_CODE",
    "CloseFrame",
    "Event",
    "FrameReader",
    "Ping",
    "Violation",
    "close_frame",
    "pong_frame",
    "text_frame",
]

CLOSED_WITHOUT_CODE: Final = 1005
"""Stands for a close frame that names no code; never sent (§7.4.1)."""
_PROTOCOL_ERROR, _INVALID_DATA, _TOO_BIG = 1002, 1007, 1009

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN: Final = 0x80
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127
_SHORT_MAX: Final = 125
_LENGTH_16_MAX: Final = (1 << 16) - 1
_FIRST_BYTES: Final = frozenset(
    {opcode | fin for opcode in (_CONTINUATION, _TEXT, _BINARY) for fin in (0, _FIN)}
    | {opcode | _FIN for opcode in (_CLOSE, _PING, _PONG)}
)
"""No reserved bit, no reserved opcode, no control frame in fragments."""


class Ping(NamedTuple):
    """Is to be answered by a pong of the same payload."""

    payload: bytes


class CloseFrame(NamedTuple):
    """The last that a server says."""

    code: int
    reason: str


class Violation(NamedTuple):
    """The server broke the protocol: close the connection with this code and reason."""

    code: int
    reason: str


Event: TypeAlias = str | bytes | Ping | CloseFrame | Violation
"""A text message, a binary one, or what asks for an answer."""


class _ViolatedError(Exception):
    """Ends the reading; its arguments are those of the `Violation`."""


class FrameReader:
    """Reads the frames of one server."""

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        # So many bytes of the buffer are the next frame's, as far as its header tells yet.
        self._needed = 2
        # A message in fragments: what has come of it, and the opcode that it began with.
        self._message = bytearray()
        self._opcode = _CONTINUATION
        self._ended = False

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
        first, size = buffer[start], buffer[start + 1]
        if first not in _FIRST_BYTES:
            raise _ViolatedError(_PROTOCOL_ERROR, "no such frame")
        if size & _MASKED:
            raise _ViolatedError(_PROTOCOL_ERROR, "a server does not mask its frames")
        header = 2
        if size > _SHORT_MAX:
            if first & _CONTROL:
                why = f"a control frame has at most {_SHORT_MAX} bytes"
                raise _ViolatedError(_PROTOCOL_ERROR, why)
            header = 4 if size == _LENGTH_16 else 10
            if len(buffer) - start < header:
                self._needed = header
                return start
            size = int.from_bytes(buffer[start + 2 : start + header], "big")
        if size + len(self._message) > self._message_bytes_max and not first & _CONTROL:
            raise _ViolatedError(_TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")
        at, end = start + header, start + header + size
        if len(buffer) < end:
            self._needed = end - start
            return start
        self._needed = 2
        payload = buffer[at:end]
        if first == _FIN | _TEXT and self._opcode == _CONTINUATION:
            events.append(_text(payload))
        else:
            self._take(first, payload, events)
        return end

    def _take(self, first: int, payload: bytearray, events: list[Event]) -> None:
        opcode = first & ~_FIN
        if opcode == _PING:
            events.append(Ping(bytes(payload)))
        elif opcode == _CLOSE:
            self._ended = True
            events.append(_close(payload))
        elif opcode != _PONG:
            self._take_fragment(opcode, payload, events, last=bool(first & _FIN))

    def _take_fragment(
        self, opcode: int, payload: bytearray, events: list[Event], *, last: bool
    ) -> None:
        if (opcode == _CONTINUATION) == (self._opcode == _CONTINUATION):
            raise _ViolatedError(_PROTOCOL_ERROR, "fragments of messages are out of order")
        self._message += payload
        self._opcode = opcode or self._opcode
        if last:
            whole, text = self._message, self._opcode == _TEXT
            self._message, self._opcode = bytearray(), _CONTINUATION
            events.append(_text(whole) if text else bytes(whole))


def text_frame(text: str) -> bytes:
    """One masked frame with the whole message."""
    return _frame(_TEXT, text.encode())


def pong_frame(payload: bytes) -> bytes:
    return _frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """The reason is cut to what a control frame holds."""
    if code == CLOSED_WITHOUT_CODE:
        return _frame(_CLOSE, b"")
    told = reason.encode()[: _SHORT_MAX - 2].decode(errors="ignore").encode()
    return _frame(_CLOSE, code.to_bytes(2, "big") + told)


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _SHORT_MAX:
        head = bytes((_FIN | opcode, _MASKED | size))
    elif size <= _LENGTH_16_MAX:
        head = bytes((_FIN | opcode, _MASKED | _LENGTH_16)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, _MASKED | _LENGTH_64)) + size.to_bytes(8, "big")
    key = os.urandom(4)
    # One exclusive or of two long integers: a loop over bytes would cost a hundred times that.
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    masked = (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
    return b"".join((head, key, masked))


def _text(payload: bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _ViolatedError(_INVALID_DATA, "text is UTF-8") from None


def _close(payload: bytearray) -> CloseFrame:
    if not payload:
        return CloseFrame(CLOSED_WITHOUT_CODE, "")
    if len(payload) == 1:
        raise _ViolatedError(_PROTOCOL_ERROR, "a close code has two bytes")
    return CloseFrame(int.from_bytes(payload[:2], "big"), _text(payload[2:]))
