"""Server-sent events (WHATWG HTML §9.2).

I1  `id` is the ledger's `seq`; what is no event of the ledger, such as a first signal, has none, so
    that a client that comes back goes on after the last event.
I2  The greeting has the id after which the stream begins, and what passes a filter without being
    let through moves the id on (WHATWG HTML §9.2.6: an id without data is kept and shown to no
    listener). So a client comes back to where it was, also if it has had no event for long.
"""

from typing import Any, Final

import msgspec

from jobengine.domain.event_batch import Batch, EncodeBatch
from jobengine.http.streams.form import Ending, Heard, Shown

__all__ = ["ServerSentEvents", "encode_events", "encode_pack_run"]

_PACK_RUN_NAMES: Final = {"job.artifact_named": "pack_run.artifact"}
_HEARD_BYTES_MAX: Final = 64 * 1024


class ServerSentEvents:
    __slots__ = ("_heard",)

    heartbeat = b": still here\n\n"
    is_closed = True

    def __init__(self) -> None:
        self._heard = 0

    def encoder(self, shown: Shown) -> EncodeBatch | None:
        return _ENCODERS[shown]

    def hello(self, after: int | str | None) -> bytes:
        """A comment, so that the client knows it is connected; and where it is (I2)."""
        return (
            b": following\n" + (b"" if after is None else b"id: %b\n" % str(after).encode()) + b"\n"
        )

    def beside(self, name: str, data: Any, line_id: str | None = None) -> bytes:
        named = b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
        return named if line_id is None else b"id: %b\n%b" % (line_id.encode(), named)

    def farewell(self, ending: Ending) -> bytes:
        if not ending.is_told:
            return b""
        said = {"code": ending.code, "message": ending.message}
        return self.beside("end", {name: text for name, text in said.items() if text is not None})

    def hear(self, data: bytes | bytearray) -> Heard:
        """Requests behind a stream are never answered; who goes on sending them is cut."""
        self._heard += len(data)
        if self._heard > _HEARD_BYTES_MAX:
            return Heard(ending=Ending(0, "", is_told=False))
        return Heard()


def encode_events(batch: Batch) -> bytes:
    return _encoded(batch, {})


def encode_pack_run(batch: Batch) -> bytes:
    return _encoded(batch, _PACK_RUN_NAMES)


def _encoded(batch: Batch, names: dict[str, str]) -> bytes:
    frames = [
        b"id: %d\nevent: %b\ndata: %b\n\n"
        % (event.seq, names.get(event.event_type, event.event_type).encode(), event.body)
        for event in batch.events
    ]
    if batch.gap is not None:
        first, last = batch.gap
        said = msgspec.json.encode({"from": first, "to": last})
        frames.insert(0, b"id: %d\nevent: gap\ndata: %b\n\n" % (last, said))
    if not batch.events or batch.events[-1].seq < batch.through_seq:
        frames.append(b"id: %d\n\n" % batch.through_seq)
    return b"".join(frames)


_ENCODERS: Final[dict[Shown, EncodeBatch | None]] = {
    Shown.EVENTS: encode_events,
    Shown.PACK_RUN: encode_pack_run,
    Shown.NOTHING: None,
}
