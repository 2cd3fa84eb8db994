"""What the connections of one server share: their bounds, whether it stops, and the date; and what
they are told apart by before anybody has said who they are.

Not here: the life of one connection (`connection`), accepting and counting them (`server`).
"""

import socket
import time
from email.utils import formatdate

import attrs
import trio

__all__ = ["Peers", "ServerLimits", "origin_of"]


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Bounds of all connections together and of each one.

    `connections_max`: half of them at most have one origin, streams and sessions not counted.
    `head_bytes_max`: request line and headers. `idle_s`: a connection without a request is closed
    after it. `head_s`: what a head that has begun to arrive gets. `write_s`: how long one write may
    wait for the peer. `linger_s`: how long a peer that still sends gets to read the last answer.
    `graceful_s`: what requests in flight get at the end.
    """

    connections_max: int = 4_096
    backlog: int = 1_024
    head_bytes_max: int = 32 * 1024
    idle_s: float = 75.0
    head_s: float = 20.0
    tls_handshake_s: float = 10.0
    write_s: float = 60.0
    linger_s: float = 1.0
    requests_per_connection_max: int = 1_000_000
    graceful_s: float = 5.0


class Peers:
    """What the connections of a server share: whether it stops, which are idle, what day it is."""

    def __init__(self) -> None:
        self.stopping = False
        self._idle: set[trio.CancelScope] = set()
        self._second, self._date = 0, b""

    def date(self) -> bytes:
        """The header of that name, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date

    def idle(self, scope: trio.CancelScope) -> None:
        """This scope is left at once when the server stops, until it is busy."""
        self._idle.add(scope)

    def busy(self, scope: trio.CancelScope) -> None:
        self._idle.discard(scope)

    def stop(self) -> None:
        """Every connection ends as soon as it has answered what it has begun to read."""
        self.stopping = True
        for scope in list(self._idle):
            scope.cancel()


def origin_of(stream: trio.SocketStream) -> str:
    """Where a connection comes from: the address, or the network of 64 bits in IPv6, where whoever
    has one address has all of them. Empty when the peer has gone."""
    try:
        host: str = stream.socket.getpeername()[0]
    except OSError:
        return ""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex()
