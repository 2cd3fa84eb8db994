"""Streams over a WebSocket: subprotocol `jobengine.stream.v1` (`wire/streams`).

I1  The client says nothing but control frames; anything else closes the connection with 1003, and
    what breaks the protocol with the code of the violation.
I2  A ping is answered; a close by a close with the same code.
"""

from typing import Any, Final

import msgspec

from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch, EncodeBatch
from jobengine.http.streams.form import Ending, Heard, Shown
from jobengine.wire.streams import StreamEnd, StreamGap, StreamHello
from jobengine.wire.websocket_frames import (
    CloseFrame,
    FrameReader,
    Peer,
    Ping,
    Violation,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)

__all__ = ["SocketForm", "encode_events"]

_HEARD_BYTES_MAX: Final = 4_096
_MESSAGE_BYTES: Final = 256 * 1024
"""Where one message of events ends and the next begins: clients bound what they read."""
_UNSUPPORTED: Final = 1003


class SocketForm:
    __slots__ = ("_reader", "is_closed")

    heartbeat = ping_frame()

    def __init__(self) -> None:
        self._reader = FrameReader(_HEARD_BYTES_MAX, Peer.CLIENT)
        self.is_closed = False

    def encoder(self, shown: Shown) -> EncodeBatch | None:
        return None if shown is Shown.NOTHING else encode_events

    def hello(self, after: int | str | None) -> bytes:
        return _message(StreamHello(after=after))

    def beside(self, name: str, data: Any, line_id: str | None = None) -> bytes:
        """The data with its name as `type`."""
        said = b'{"type":%b,' % msgspec.json.encode(name)
        if line_id is not None:
            said += b'"id":%b,' % msgspec.json.encode(line_id)
        return text_frame(said + msgspec.json.encode(data)[1:])

    def farewell(self, ending: Ending) -> bytes:
        closing = close_frame(ending.close_code, ending.message)
        if not ending.is_told:
            return closing
        return _message(StreamEnd(code=ending.code, message=ending.message)) + closing

    def hear(self, data: bytes | bytearray) -> Heard:
        pongs = b""
        for event in self._reader.feed(data):
            match event:
                case Ping():
                    pongs += pong_frame(event.payload)
                case CloseFrame():
                    self.is_closed = True
                    return Heard(pongs, Ending(event.code, "", is_told=False))
                case Violation():
                    # Nothing more is read of it.
                    self.is_closed = True
                    return Heard(pongs, Ending(event.code, event.reason, is_told=False))
                case _:
                    message = "a stream takes no messages"
                    return Heard(pongs, Ending(_UNSUPPORTED, message, is_told=False))
        return Heard(pongs)


def encode_events(batch: Batch) -> bytes:
    """Where nothing matched, how far the reader has come all the same."""
    frames = []
    after = batch.after_seq
    if batch.gap is not None:
        first, after = batch.gap
        frames.append(_message(StreamGap(from_=first, to=after)))
    events: list[Event] = []
    size = 0
    for event in batch.events:
        if events and size + len(event.body) > _MESSAGE_BYTES:
            frames.append(_events(after, events[-1].seq, events))
            after, events, size = events[-1].seq, [], 0
        events.append(event)
        size += len(event.body)
    if events or batch.through_seq > after:
        frames.append(_events(after, batch.through_seq, events))
    return b"".join(frames)


def _events(after: int, through: int, events: list[Event]) -> bytes:
    """The envelopes as they are (`StreamEvents`)."""
    bodies = b",".join([event.body for event in events])
    head = b'{"type":"events","after":%d,"through":%d,"events":[' % (after, through)
    return text_frame(head + bodies + b"]}")


def _message(message: msgspec.Struct) -> bytes:
    return text_frame(msgspec.json.encode(message))
