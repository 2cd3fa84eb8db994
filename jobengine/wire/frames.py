"""Frames of the worker protocol `jobengine.worker.v1`: messages to text and back, both directions.

A text frame is one JSON object or an array of them; `op` tells the type.

Invariants
    I1  A well-formed frame costs one decode; of a worker, up to `_PIECE` characters. Another one is
        taken apart, and read in pieces of about that size; of a bad piece, item by item.
    I2  Everything refused names the message (`ref`), the path and what would be right.
    I3  However long a list in a frame is, no more of it is made than is allowed.

Deliberately not here: the messages (`worker_messages`, `engine_messages`), and what they mean.
"""

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from jobengine.wire.array_items import (
    ITEMS_MAX,
    TooManyItemsError,
    array_items,
    bounded_array,
)
from jobengine.wire.engine_messages import ENGINE_TYPES, EngineMessage
from jobengine.wire.job_texts import in_strides
from jobengine.wire.refusal import refusal_of
from jobengine.wire.worker_messages import WORKER_TYPES, WorkerMessage

SUBPROTOCOL: Final = "jobengine.worker.v1"
FRAME_BYTES_MAX: Final = 1 << 20
FRAME_MESSAGES_MAX: Final = ITEMS_MAX
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
_PIECE: Final = 64 << 10
_UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
_envelope: Final = msgspec.json.Decoder(_Envelope)
_TOO_MANY: Final = Malformed(
    None,
    "PAYLOAD_TOO_LARGE",
    f"a frame has at most {FRAME_MESSAGES_MAX} messages; divide it",
)
_few: Final = msgspec.json.Decoder(bounded_array(1_000))
_outline: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "Outline",
        [
            (name, msgspec.Raw, msgspec.Raw())
            for name in ("artifacts", "followUps", "jobTypes", "lines", "queues")
        ],
    )
)
"""The lists of messages whose items cost much and are few."""
_encoder: Final = msgspec.json.Encoder()


class _Codec(Generic[M]):
    """Reads frames of one direction; `union` is the union of its message types, `whole_max` the
    characters of a frame that is read in one go."""

    def __init__(
        self, union: Any, types: tuple[type[msgspec.Struct], ...], whole_max: float
    ) -> None:
        self._whole_max = whole_max
        self._frame: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union | list[union])
        self._message: msgspec.json.Decoder[M] = msgspec.json.Decoder(union)
        self._ops = tuple(op_of(kind) for kind in types)

    def decode(self, data: str | bytes) -> list[M | Malformed]:
        return [message for piece in self.pieces(data) for message in piece]

    def pieces(self, data: str | bytes) -> Iterator[list[M | Malformed]]:
        try:
            text = data if isinstance(data, str) else data.decode()
        except UnicodeError as error:
            yield [_malformed(error)]
            return
        if len(text) <= self._whole_max:
            try:
                found = self._frame.decode(text)
            except _UNREADABLE:
                pass
            else:
                yield found if type(found) is list else [found]
                return
        yield from self._pieces_apart(text)

    def _pieces_apart(self, text: str) -> Iterator[list[M | Malformed]]:
        if text.lstrip(" \t\r\n")[:1] != "[":
            yield [self._decode_item(text, "$")]
            return
        try:
            items = array_items(text)
        except TooManyItemsError:
            yield [_TOO_MANY]
            return
        except _UNREADABLE as error:
            yield [_malformed(error)]
            return
        for stride in in_strides(items):
            yield self._decode_piece(items[stride], stride.start)

    def _decode_piece(self, items: Sequence[msgspec.Raw], start: int) -> list[M | Malformed]:
        if len(items) > 1:
            try:
                found: list[M | Malformed] = self._frame.decode(b"[%b]" % b",".join(items))
            except _UNREADABLE:
                pass
            else:
                return found
        return [self._decode_item(item, f"$[{n}]") for n, item in enumerate(items, start)]

    def _decode_item(self, item: str | msgspec.Raw, root: str) -> M | Malformed:
        try:
            if len(item) > _PIECE:
                _check_lists(item)
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


def _check_lists(message: str | msgspec.Raw) -> None:
    """Raises as a decoder does where a list has too many items (I3)."""
    for name, value in msgspec.structs.asdict(_outline.decode(message)).items():
        if len(value) > _PIECE:
            try:
                _few.decode(value)
            except msgspec.ValidationError as error:
                raise msgspec.ValidationError(f"{error} - at `$.{name}`") from None


def _malformed(error: Exception) -> Malformed:
    refusal = refusal_of(error)
    return Malformed(None, refusal.code, refusal.message, refusal.path)


_from_worker: Final = _Codec[WorkerMessage](WorkerMessage, WORKER_TYPES, _PIECE)
_from_engine: Final = _Codec[EngineMessage](EngineMessage, ENGINE_TYPES, inf)


def decode_worker_frame(data: str | bytes) -> list[WorkerMessage | Malformed]:
    """Read a frame a worker sent: its messages in order, each bad one as `Malformed`. Never raises.

    The caller has checked the frame's size (`FRAME_BYTES_MAX`).
    """
    return _from_worker.decode(data)


def worker_frame_pieces(data: str | bytes) -> Iterator[list[WorkerMessage | Malformed]]:
    """The same in pieces, of about a millisecond to read each."""
    return _from_worker.pieces(data)


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
    """Like `encode_frame`, divided so that no frame is over `bytes_max` or has more messages than
    `FRAME_MESSAGES_MAX`; order is kept.

    A `Raw` is a message that has been encoded already. A single message over the limit is sent as
    it is: its author bounds it.
    """
    if len(messages) <= FRAME_MESSAGES_MAX:
        frame = _encoder.encode(messages[0] if len(messages) == 1 else messages)
        if len(frame) <= bytes_max or len(messages) == 1:
            return [frame.decode()]
    half = len(messages) // 2
    return encode_frames(messages[:half], bytes_max) + encode_frames(messages[half:], bytes_max)
