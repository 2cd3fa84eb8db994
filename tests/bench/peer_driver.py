"""The smallest queue that a driver can speak for: one table, rows deleted when they are done."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from bench.peers.drivers.talk import Driver, Handled, Payload, speak

BATCH = 50


class Queue:
    def __init__(self, url: str) -> None:
        self._url = url

    async def install(self) -> None:
        async with self._connection() as connection:
            await connection.execute("CREATE TABLE pgqueuer (n bigint)")

    async def submit(self, jobs: Sequence[Payload]) -> None:
        async with self._connection() as connection, connection.cursor() as cursor:
            numbers = [job["n"] for job in jobs]
            await cursor.execute("INSERT INTO pgqueuer SELECT unnest(%s::bigint[])", (numbers,))

    async def work(self, handled: Handled) -> None:
        async with self._connection() as connection:
            while True:
                done = await connection.execute(
                    "DELETE FROM pgqueuer WHERE ctid = ANY (ARRAY"
                    "(SELECT ctid FROM pgqueuer LIMIT %s)) RETURNING n",
                    (BATCH,),
                )
                for (number,) in await done.fetchall():
                    handled(number)
                await asyncio.sleep(0.001)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
        async with connection:
            yield connection


@asynccontextmanager
async def open_driver(url: str, clients: int) -> AsyncIterator[Driver]:
    yield Queue(url)


if __name__ == "__main__":
    asyncio.run(speak(open_driver))
