"""WebSocket frames as both ends read and write them (RFC 6455 §5), without sockets.

A client masks its frames with a key that it draws for each (§5.3), a server does not. So a reader
is told which of the two it reads, and who writes as a client gives the key; chance has no place
here.

A `FrameReader` is fed what the network brought, in whatever pieces, and returns what came whole. No
extension is offered in the handshake, so none is understood.

I1  Whatever a peer sends, `feed` does not raise. A `CloseFrame` or a `Violation` is the last that
    it returns; what came whole before that is returned too.
I2  At most one message of `message_bytes_max` and one frame header are kept between two calls; a
    message that will be larger is refused by its header, before it is read.
I3  A text message is valid UTF-8, judged as a whole when its last fragment has come.
I4  Reading is linear in what is read: a frame in pieces is not looked at until it is complete.

Not here: the opening handshake, when to answer a ping or a close (`http/worker_socket`,
`sdk/channel`), what messages mean.
"""

from enum import Enum
from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "CLOSED_WITHOUT_CODE",
    "MASK_KEY_BYTES",
    "CloseFrame",
    "Event",
    "FrameReader",
    "Peer",
    "Ping",
    "Violation",
    "close_frame",
    "ping_frame",
    "pong_frame",
    "text_frame",
]

CLOSED_WITHOUT_CODE: Final = 1005
"""Stands for a close frame that names no code; never sent (§7.4.1)."""
MASK_KEY_BYTES: Final = 4
_PROTOCOL_ERROR: Final = 1002
_INVALID_DATA: Final = 1007
_TOO_BIG: Final = 1009

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN: Final = 0x80
_CONTROL: Final = 0x08
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
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


class Peer(Enum):
    """The end whose frames are read."""

    CLIENT = "client"
    SERVER = "server"


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
    """Reads the frames of one peer."""

    __slots__ = (
        "_buffer",
        "_ended",
        "_key_bytes",
        "_mark",
        "_message",
        "_message_bytes_max",
        "_needed",
        "_opcode",
        "silent",
    )

    def __init__(self, message_bytes_max: int, peer: Peer) -> None:
        self._message_bytes_max = message_bytes_max
        self._key_bytes = MASK_KEY_BYTES if peer is Peer.CLIENT else 0
        self._mark = _MASKED if peer is Peer.CLIENT else 0
        self._buffer = bytearray()
        # So many bytes of the buffer are the next frame's, as far as its header tells yet.
        self._needed = 2
        # A message in fragments: what has come of it, and the opcode that it began with.
        self._message = bytearray()
        self._opcode = _CONTINUATION
        self._ended = False
        self.silent = 0
        """How many frames were read that made no event: pongs, fragments but the last."""

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
        buffer, key_bytes = self._buffer, self._key_bytes
        first, second = buffer[start], buffer[start + 1]
        if first not in _FIRST_BYTES:
            raise _ViolatedError(_PROTOCOL_ERROR, "no such frame")
        size, header = second ^ self._mark, 2
        if size >= _MASKED:
            why = "a client masks its frames" if key_bytes else "a server does not mask its frames"
            raise _ViolatedError(_PROTOCOL_ERROR, why)
        if size > _SHORT_MAX:
            header = 4 if size == _LENGTH_16 else 10
            if len(buffer) - start < header and not first & _CONTROL:
                self._needed = header
                return start
            size = _long_size(first, size, buffer[start + 2 : start + header])
        if size + len(self._message) > self._message_bytes_max and not first & _CONTROL:
            raise _ViolatedError(_TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")
        at = start + header + key_bytes
        end = at + size
        if len(buffer) < end:
            self._needed = end - start
            return start
        self._needed = 2
        payload = _masked(buffer[at - 4 : at], buffer[at:end]) if key_bytes else buffer[at:end]
        if first == _WHOLE_TEXT and self._opcode == _CONTINUATION:
            events.append(_text(payload))
        else:
            self._take(first, payload, events)
        return end

    def _take(self, first: int, payload: bytes | bytearray, events: list[Event]) -> None:
        opcode = first & _OPCODE
        if opcode == _PING:
            events.append(Ping(bytes(payload)))
        elif opcode == _CLOSE:
            self._ended = True
            events.append(_close(payload))
        elif opcode == _PONG:
            self.silent += 1
        else:
            self._take_fragment(opcode, payload, events, last=bool(first & _FIN))

    def _take_fragment(
        self, opcode: int, payload: bytes | bytearray, events: list[Event], *, last: bool
    ) -> None:
        if (opcode == _CONTINUATION) == (self._opcode == _CONTINUATION):
            raise _ViolatedError(_PROTOCOL_ERROR, "fragments of messages are out of order")
        self._message += payload
        self._opcode = opcode or self._opcode
        if last:
            whole, text = self._message, self._opcode == _TEXT
            self._message, self._opcode = bytearray(), _CONTINUATION
            events.append(_text(whole) if text else bytes(whole))
        else:
            self.silent += 1


def text_frame(text: str | bytes, key: bytes | None = None) -> bytes:
    """One frame with the whole message; bytes are UTF-8. A client gives a `key` of
    `MASK_KEY_BYTES` that nobody can foresee, a new one for every frame; a server gives none."""
    return _frame(_TEXT, text.encode() if isinstance(text, str) else text, key)


def ping_frame(payload: bytes = b"", key: bytes | None = None) -> bytes:
    """`key` as in `text_frame`."""
    return _frame(_PING, payload, key)


def pong_frame(payload: bytes, key: bytes | None = None) -> bytes:
    """`key` as in `text_frame`."""
    return _frame(_PONG, payload, key)


def close_frame(code: int, reason: str = "", key: bytes | None = None) -> bytes:
    """The reason is cut to what a control frame holds. `key` as in `text_frame`."""
    if code == CLOSED_WITHOUT_CODE:
        return _frame(_CLOSE, b"", key)
    told = reason.encode()[: _SHORT_MAX - 2].decode(errors="ignore").encode()
    return _frame(_CLOSE, code.to_bytes(2, "big") + told, key)


def _frame(opcode: int, payload: bytes, key: bytes | None) -> bytes:
    size, mark = len(payload), 0 if key is None else _MASKED
    if size <= _SHORT_MAX:
        head = bytes((_FIN | opcode, mark | size))
    elif size <= _LENGTH_16_MAX:
        head = bytes((_FIN | opcode, mark | _LENGTH_16)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, mark | _LENGTH_64)) + size.to_bytes(8, "big")
    return head + payload if key is None else b"".join((head, key, _masked(key, payload)))


def _long_size(first: int, mark: int, data: bytearray) -> int:
    if first & _CONTROL:
        raise _ViolatedError(_PROTOCOL_ERROR, f"a control frame has at most {_SHORT_MAX} bytes")
    size = int.from_bytes(data, "big")
    if size <= (_SHORT_MAX if mark == _LENGTH_16 else _LENGTH_16_MAX):
        raise _ViolatedError(_PROTOCOL_ERROR, "a length is written as short as it can be")
    return size


def _masked(key: bytes | bytearray, data: bytes | bytearray) -> bytes:
    """Masked, or unmasked (§5.3): one exclusive or of two long integers, where a loop over bytes
    would cost a hundred times that."""
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(
        size, "little"
    )


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _ViolatedError(_INVALID_DATA, "text is UTF-8") from None


def _close(payload: bytes | bytearray) -> CloseFrame:
    if not payload:
        return CloseFrame(CLOSED_WITHOUT_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in _CLOSE_CODES and code not in _CLOSE_CODES_OF_USERS):
        raise _ViolatedError(_PROTOCOL_ERROR, "no such close code")
    return CloseFrame(code, _text(payload[2:]))
