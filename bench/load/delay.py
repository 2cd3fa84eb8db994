"""A TCP proxy that hands on what it hears later, as a network would: nothing else is changed.

Two threads a direction, because a thread sleeps to some ten microseconds and an event loop to
whole milliseconds. They end with the process.
"""

import socket
import time
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import Any, Final

import trio

from bench.load.talk import Orders, Say

__all__ = ["run"]

_RECEIVE_BYTES: Final = 262_144
_HELD_MAX: Final = 10_000
"""Pieces under way in one direction."""

_Pieces = Queue[tuple[float, bytes]]


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: path (of the socket that is connected to), delay_s (of each direction). Says the port
    on 127.0.0.1 that it listens on. No orders."""
    listener = socket.create_server(("127.0.0.1", 0))
    Thread(target=_accept, args=(listener, plan["path"], plan["delay_s"]), daemon=True).start()
    say(port=listener.getsockname()[1])
    await trio.sleep_forever()


def _accept(listener: socket.socket, path: str, delay_s: float) -> None:
    while True:
        near, _ = listener.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far = socket.socket(socket.AF_UNIX)
        far.connect(path)
        for source, sink in ((near, far), (far, near)):
            pieces: _Pieces = Queue(_HELD_MAX)
            Thread(target=_take, args=(source, pieces, delay_s), daemon=True).start()
            Thread(target=_give, args=(sink, pieces), daemon=True).start()


def _take(source: socket.socket, pieces: _Pieces, delay_s: float) -> None:
    """Read until the end, which is told by an empty piece."""
    data = b"."
    while data:
        data = b""
        with suppress(OSError):
            data = source.recv(_RECEIVE_BYTES)
        pieces.put((time.monotonic() + delay_s, data))


def _give(sink: socket.socket, pieces: _Pieces) -> None:
    while True:
        due_at, data = pieces.get()
        if (early_s := due_at - time.monotonic()) > 0:
            time.sleep(early_s)
        with suppress(OSError):
            if not data:
                sink.shutdown(socket.SHUT_RDWR)
                return
            sink.sendall(data)
