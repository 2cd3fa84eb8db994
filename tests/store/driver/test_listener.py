from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from jobengine.store.errors import StoreUnavailableError
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.driver.listener import Listener, Notification

if TYPE_CHECKING:
    from tests.store.driver.conftest import Server


async def test_notifications_of_the_named_channels_arrive_in_order(
    server: Server, connection: Connection
) -> None:
    listener = await Listener.open(connection, ["shards", 'Odd "name"'])
    sender = await Connection.connect(server.conninfo)
    for channel, payload in [
        ("shards", "1"),
        ("elsewhere", "2"),
        ('Odd "name"', "ü"),
        ("shards", ""),
    ]:
        await sender.fetch("SELECT pg_notify($1, $2)", (channel, payload))
    expected = [
        Notification("shards", "1", sender.backend_pid),
        Notification('Odd "name"', "ü", sender.backend_pid),
        Notification("shards", "", sender.backend_pid),
    ]
    await sender.aclose()
    received: list[Notification] = []
    with trio.fail_after(10):
        async for notification in listener:
            received.append(notification)
            if len(received) == len(expected):
                break
    assert received == expected


async def test_a_cancelled_wait_loses_nothing(server: Server, connection: Connection) -> None:
    listener = await Listener.open(connection, ["shards"])
    with trio.move_on_after(0.02):
        await anext(listener)
    server.admin("NOTIFY shards, 'later'")
    with trio.fail_after(10):
        assert (await anext(listener)).payload == "later"


async def test_a_lost_session_ends_the_iteration(server: Server, connection: Connection) -> None:
    listener = await Listener.open(connection, ["shards"])
    server.admin(f"SELECT pg_terminate_backend({connection.backend_pid}, 5000)")
    with trio.fail_after(10), pytest.raises(StoreUnavailableError):
        await anext(listener)
    assert connection.is_closed
