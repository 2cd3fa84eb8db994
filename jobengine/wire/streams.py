"""What is said on a live stream beside the events, and the messages of its WebSocket form.

Over server-sent events the name of a message is the event's name, and the rest of it the data. Over
a WebSocket every text message is one of these, named by ``type``.

I1  An event stands in ``events`` with the bytes of its envelope, the same for every reader.
"""

from typing import Any, Final

import msgspec

from jobengine.wire.packs import PackLogEvent
from jobengine.wire.run_views import FirstSignalView

__all__ = [
    "STREAM_SUBPROTOCOL",
    "StreamEnd",
    "StreamEvents",
    "StreamFirstSignal",
    "StreamGap",
    "StreamHello",
    "StreamLog",
    "StreamLogLine",
    "StreamMessage",
    "StreamPackRunLog",
]

STREAM_SUBPROTOCOL: Final = "jobengine.stream.v1"


class StreamHello(msgspec.Struct, tag_field="type", tag="hello", kw_only=True):
    """The first message. Events, or log lines, that come after ``after`` follow; null: all."""

    after: int | str | None


class StreamEvents(msgspec.Struct, tag_field="type", tag="events", kw_only=True):
    """All events of the stream with a seq after ``after`` up to ``through``, in order: a reader
    goes on after ``through``."""

    after: int
    through: int
    events: list[dict[str, Any]]


class StreamGap(msgspec.Struct, tag_field="type", tag="gap", kw_only=True):
    """The first and the last seq that are past retention."""

    from_: int = msgspec.field(name="from")
    to: int


class StreamFirstSignal(FirstSignalView, tag_field="type", tag="first_signal", kw_only=True):
    """The first signal of the run that is followed, which has become this one."""


class StreamLogLine(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A line of a job's log: the ``line``-th, from 0, of the stored row at ``position``."""

    job_id: str
    run_id: str | None = None
    attempt: int
    at: str
    level: str
    text: str
    correlation_id: str
    tenant_id: str
    project_id: str
    position: int
    line: int


class StreamLog(StreamLogLine, tag_field="type", tag="log", kw_only=True, omit_defaults=True):
    """``id`` is where the stream of a job's log goes on after; other streams have none."""

    id: str | None = None


class StreamPackRunLog(PackLogEvent, tag_field="type", tag="pack_run.log", kw_only=True):
    """A line of any job of the pack run that is followed."""


class StreamEnd(msgspec.Struct, tag_field="type", tag="end", kw_only=True, omit_defaults=True):
    """The last message. ``code`` is there unless all that was asked for has been sent:
    `TOKEN_INVALID`, `ENGINE_STOPPING` or `STORE_UNAVAILABLE`."""

    code: str | None = None
    message: str


StreamMessage = (
    StreamHello
    | StreamEvents
    | StreamGap
    | StreamFirstSignal
    | StreamLog
    | StreamPackRunLog
    | StreamEnd
)
