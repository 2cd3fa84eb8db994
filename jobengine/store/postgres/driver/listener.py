"""LISTEN/NOTIFY as an async iterator, on a connection of its own.

A notification only says that something is worth looking at. What was notified while nobody listened
is lost, so whoever reconnects after `StoreUnavailableError` looks for itself first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Self

import attrs

from jobengine.store.postgres.driver.connection import Connection


@attrs.frozen
class Notification:
    channel: str
    payload: str
    backend_pid: int


class Listener:
    """`async for notification in await Listener.open(connection, channels)`.

    The connection serves nothing else meanwhile. A cancelled wait loses nothing; iteration ends by
    `StoreUnavailableError` when the session is lost. Of more than 10,000 notifications that pile up
    unread, the oldest are dropped.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unread: deque[Notification] = deque()

    @classmethod
    async def open(cls, connection: Connection, channels: Iterable[str]) -> Self:
        """Listening to every channel on return. Channel names are taken literally."""
        for channel in channels:
            name = channel.replace('"', '""')
            await connection.execute_script(f'LISTEN "{name}"')
        return cls(connection)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        if not self._unread:
            for notice in await self._connection.notifications():
                self._unread.append(
                    Notification(notice.relname.decode(), notice.extra.decode(), notice.be_pid)
                )
        return self._unread.popleft()
