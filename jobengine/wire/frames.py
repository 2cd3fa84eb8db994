"""Frames of the worker protocol `jobengine.worker.v1`: messages to text and back, both directions.

A text frame is one JSON object or an array of them; `op` tells the type.

Invariants
    I1  A well-formed frame costs one decode; only a bad one is taken apart, item by item.
    I2  Everything refused names the message (`ref`), the path and what would be right.

Deliberately not here: the messages (`worker_messages`, `engine_messages`), and what they mean.
"""

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from jobengine.wire.engine_messages import ENGINE_TYPES, EngineMessage
from jobengine.wire.refusal import refusal_of
from jobengine.wire.worker_messages import WORKER_TYPES, WorkerMessage

SUBPROTOCOL: Final = "jobengine.worker.v1"
FRAME_BYTES_MAX: Final = 1 << 20
CLOSE_TOKEN_ENDED: Final = 4401
"""Close code (of those for private use): the token that opened the session counts no more."""
HELLO_WITHIN_S: Final = 10.0


class Malformed(NamedTuple):
    """A message that could not be read, in its place among the others of its frame."""

    ref: str | int | None
    code: str
    message: str
    path: str = "$"


def op_of(message: type[msgspec.Struct]) -> str:
    """The `op` a message type has on the wire."""
    return str(message.__struct_config__.tag)


class _Envelope(msgspec.Struct):
    op: Any = None
    ref: Any = None


M = TypeVar("M")
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
_raw_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_envelope: Final = msgspec.json.Decoder(_Envelope)
_encoder: Final = msgspec.json.Encoder()


class _Codec(Generic[M]):
    """Reads frames of one direction; `union` is the union of its message types."""

    def __init__(self, union: Any, types: tuple[type[msgspec.Struct], ...]) -> None:
        self._frame: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union | list[union])
        self._message: msgspec.json.Decoder[M] = msgspec.json.Decoder(union)
        self._ops = tuple(op_of(kind) for kind in types)

    def decode(self, data: str | bytes) -> list[M | Malformed]:
        try:
            text = data if isinstance(data, str) else data.decode()
            found = self._frame.decode(text)
        except _UNREADABLE:
            return self._decode_apart(data)
        return found if type(found) is list else [found]

    def _decode_apart(self, data: str | bytes) -> list[M | Malformed]:
        try:
            text = data if isinstance(data, str) else data.decode()
            if text.lstrip(" \t\r\n")[:1] == "[":
                items = _raw_items.decode(text)
                return [self._decode_item(item, f"$[{n}]") for n, item in enumerate(items)]
        except _UNREADABLE as error:
            refusal = refusal_of(error)
            return [Malformed(None, refusal.code, refusal.message, refusal.path)]
        return [self._decode_item(text, "$")]

    def _decode_item(self, item: str | msgspec.Raw, root: str) -> M | Malformed:
        try:
            return self._message.decode(item)
        except _UNREADABLE as error:
            refusal = refusal_of(error, root)
        try:
            envelope = _envelope.decode(item)
        except _UNREADABLE:
            return Malformed(None, refusal.code, refusal.message, refusal.path)
        ref = envelope.ref if type(envelope.ref) in (str, int) else None
        if isinstance(envelope.op, str) and envelope.op not in self._ops:
            message = f"{root}.op: `{envelope.op[:64]}` is none of {', '.join(self._ops)}"
            return Malformed(ref, "UNKNOWN_OP", message, f"{root}.op")
        return Malformed(ref, refusal.code, refusal.message, refusal.path)


_from_worker: Final = _Codec[WorkerMessage](WorkerMessage, WORKER_TYPES)
_from_engine: Final = _Codec[EngineMessage](EngineMessage, ENGINE_TYPES)


def decode_worker_frame(data: str | bytes) -> list[WorkerMessage | Malformed]:
    """Read a frame a worker sent: its messages in order, each bad one as `Malformed`. Never raises.

    The caller has checked the frame's size (`FRAME_BYTES_MAX`).
    """
    return _from_worker.decode(data)


def decode_engine_frame(data: str | bytes) -> list[EngineMessage | Malformed]:
    """Read a frame the engine sent; an op this version does not know is `Malformed` UNKNOWN_OP."""
    return _from_engine.decode(data)


def encode_frame(messages: Sequence[WorkerMessage] | Sequence[EngineMessage]) -> str:
    """One message as an object, several as an array. The caller keeps it under FRAME_BYTES_MAX."""
    return _encoder.encode(messages[0] if len(messages) == 1 else messages).decode()


def encode_frames(
    messages: Sequence[WorkerMessage] | Sequence[EngineMessage | msgspec.Raw],
    bytes_max: int = FRAME_BYTES_MAX,
) -> list[str]:
    """Like `encode_frame`, divided so that no frame is over `bytes_max`; order is kept.

    A `Raw` is a message that has been encoded already. A single message over the limit is sent as
    it is: its author bounds it.
    """
    frame = _encoder.encode(messages[0] if len(messages) == 1 else messages)
    if len(frame) <= bytes_max or len(messages) == 1:
        return [frame.decode()]
    half = len(messages) // 2
    return encode_frames(messages[:half], bytes_max) + encode_frames(messages[half:], bytes_max)
