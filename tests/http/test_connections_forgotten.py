"""What a connection leaves behind when it is over: nothing that only the collector of cycles finds.

The collector of a node comes by so seldom that workers which come and go would fill its memory.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from jobengine.actors.session_outbox import Outbox
from jobengine.http.http1 import RequestReader
from jobengine.http.worker_socket import SocketChannel
from tests.http.conftest import Rest
from tests.http.worker_socket import Door, open_door

KINDS = (Outbox, RequestReader, SocketChannel)


@contextmanager
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> list[str]:
    """The connections and sessions in memory."""
    return [type(each).__name__ for each in gc.get_objects() if type(each) in KINDS]


async def come_and_go(door: Door, *, abruptly: bool) -> None:
    async with door.greeted() as socket:
        await socket.say({"op": "credit", "slots": 1})
        await socket.say({"op": "submit", "ref": 1, "jobs": [{"jobType": "scan"}]})
        await socket.hear("ack")
        if abruptly:
            await socket.drop()
    await door.settled()


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_session_that_is_over_is_forgotten_at_once(tmp_path: Path, abruptly: bool) -> None:
    async with open_door(tmp_path) as door:
        with collector_off():
            await come_and_go(door, abruptly=abruptly)
            assert left() == []


async def test_a_connection_that_is_over_is_forgotten_at_once(rest: Rest) -> None:
    await rest.client.aclose()
    with collector_off(), trio.fail_after(15):
        await rest.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while left():
            await trio.testing.wait_all_tasks_blocked(0.01)
