"""Servers older than those that the other tests run, played where they answer differently."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from jobengine.bus.address import address_of
from jobengine.bus.names import Names
from jobengine.bus.valkey_streams import ValkeyLinks

ENTRY = ["3-0", ["tenant", "acme", "body", "{}"]]


def written(reply: Any) -> bytes:
    if reply is None:
        return b"*-1\r\n"
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join(map(written, reply)))
    return b"$%d\r\n%b\r\n" % (len(reply), reply.encode())


class Redis62:
    """Answers each command with what is kept for its name, or OK."""

    def __init__(self, **answers: Sequence[Any]) -> None:
        self._answers = answers

    async def serve(self, stream: trio.SocketStream) -> None:
        read = bytearray()
        async for data in stream:
            read += data
            while (name := _command(read)) is not None:
                answer = self._answers.get(name)
                await stream.send_all(b"+OK\r\n" if answer is None else written(answer))


def _command(read: bytearray) -> str | None:
    """The name of the first whole command, which is taken away."""
    lines = bytes(read).split(b"\r\n")
    if not read or len(lines) < 2 * int(lines[0][1:]) + 2:
        return None
    count = 2 * int(lines[0][1:]) + 1
    del read[: sum(len(line) + 2 for line in lines[:count])]
    return lines[2].decode()


async def test_what_redis_6_2_says_of_a_deleted_entry_is_passed_over() -> None:
    server = Redis62(XREADGROUP=[["jobengine:jobs", []]], XAUTOCLAIM=["0-0", [None, ENTRY]])
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        )
        port = listener.socket.getsockname()[1]
        links = ValkeyLinks(
            address=address_of(f"valkey://127.0.0.1:{port}"),
            names=Names("jobengine"),
            consumer="n1",
            events_max=100,
            retry_s=1.0,
            takes_jobs=True,
        )
        async with links() as link:
            (taken,) = await link.take(1.0)
        assert (taken.handle, taken.tenant_id) == ("3-0", "acme")
        nursery.cancel_scope.cancel()
