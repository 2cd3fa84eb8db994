"""What a worker session needs of its surroundings: the door's translation, limits, shared ports."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import attrs

from jobengine.actors.gateway import Gateway
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.session_registry import SessionRegistry
from jobengine.core.session import SessionLimits
from jobengine.messages.session import Peer, Said

__all__ = ["Codec", "SessionPorts", "ShellLimits"]


class Codec(Protocol):
    """The door's translation between the wire and the engine's words. No method waits."""

    def reading(
        self, frame: str | bytes, peer: Peer, now_at: int
    ) -> Generator[None, None, Sequence[Said]]:
        """What a frame says, in short steps; never raises for what a peer sent."""
        ...

    def write(self, command: Any) -> Sequence[Any]:
        """Wire messages for a command of the core, holding nothing that may change later."""
        ...

    def encode(self, messages: Sequence[Any]) -> Sequence[str]:
        """Text frames for messages, as few as their size allows."""
        ...


@attrs.frozen(kw_only=True)
class ShellLimits:
    """``farewell_s_max``: how long a last word and the closing handshake may take."""

    outbox_bytes_max: int = 4 << 20
    send_s_max: float = 30.0
    farewell_s_max: float = 5.0


@attrs.frozen(kw_only=True)
class SessionPorts:
    """What every session of a node shares."""

    registry: SessionRegistry
    gateway: Gateway
    clock: Clock
    codec: Codec
    limits: SessionLimits = attrs.field(factory=SessionLimits)
    shell: ShellLimits = attrs.field(factory=ShellLimits)
    failed: Callable[[BaseException], None]
    """Told of a programmer error that ended a session."""
