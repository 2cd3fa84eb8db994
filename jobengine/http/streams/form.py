"""What the life of a stream needs of the form in which it is sent.

Not here: the forms (`sse`, `socket_form`).
"""

from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

import attrs

from jobengine.domain.errors import ErrorCode
from jobengine.domain.event_batch import EncodeBatch

__all__ = ["Ending", "Form", "Heard", "Shown", "failed", "finished", "stopping", "token_ended"]

_GOING_AWAY: Final = 1001
_NORMAL: Final = 1000
_POLICY: Final = 1008
_FAILED: Final = 1011


class Shown(Enum):
    """How a stream shows its events. `PACK_RUN`: artifacts have a name of their own."""

    EVENTS = "events"
    PACK_RUN = "pack_run"
    NOTHING = "nothing"


@attrs.frozen
class Ending:
    """How a stream ends: what its last message says, if it has one, and what a WebSocket is closed
    with. `code` of the message is None where all that was asked for has been sent."""

    close_code: int
    message: str
    code: str | None = None
    is_told: bool = True


def token_ended(why: str) -> Ending:
    return Ending(_POLICY, why, str(ErrorCode.TOKEN_INVALID))


def stopping() -> Ending:
    return Ending(_GOING_AWAY, "the engine stops; come back with the last id", "ENGINE_STOPPING")


def failed() -> Ending:
    message = "the engine cannot go on with this stream; come back with the last id"
    return Ending(_FAILED, message, str(ErrorCode.STORE_UNAVAILABLE))


def finished(message: str) -> Ending:
    return Ending(_NORMAL, message)


class Heard(NamedTuple):
    """What is to be answered to what a peer sent, and how the stream ends by it, if it does."""

    answer: bytes = b""
    ending: Ending | None = None


class Form(Protocol):
    """Of one reader. `is_closed`: the peer has said all that it may."""

    heartbeat: bytes

    @property
    def is_closed(self) -> bool: ...

    def encoder(self, shown: Shown) -> EncodeBatch | None: ...

    def hello(self, after: int | str | None) -> bytes: ...

    def beside(self, name: str, data: Any, line_id: str | None = None) -> bytes:
        """Something that is no event, with the id to go on after where it has one."""
        ...

    def farewell(self, ending: Ending) -> bytes: ...

    def hear(self, data: bytes | bytearray) -> Heard: ...
