"""Fills the engine's tables with copies of jobs that came through its door, as fast as the server
copies rows.

A copy has an id and instants of its own and all else of its original, the numbers of its ledger
entries included: the ledger has entries of the originals alone. Copies lie an hour before their
originals, a microsecond apart in the order in which they are made. An engine that runs meanwhile
knows nothing of copies that wait, until it is started again.
"""

from typing import Any, Final

import psycopg
import trio
from psycopg import sql

from bench.load.talk import Orders, Say, tell_count

__all__ = ["run"]

_CHUNK: Final = 50_000
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US
_NEW_ID: Final = """(
    lpad(to_hex((original.created_at + made.shift) / 1000), 12, '0')
    || '7' || substr(made.chance, 1, 3) || '8' || substr(made.chance, 4, 15)
)::uuid"""
_JOBS: Final = {
    "job_id": _NEW_ID,
    "created_at": "original.created_at + made.shift",
    "due_at": "original.due_at + made.shift + made.delay",
    "scheduled_at": "original.scheduled_at + made.shift",
    "started_at": "original.started_at + made.shift",
    "finished_at": "original.finished_at + made.shift",
}
_WAITING: Final = {
    "job_id": _NEW_ID,
    "rank": "waits.rank + made.shift + made.delay",
    "due_at": "waits.due_at + made.shift + made.delay",
    "delayed": "made.delay > 0",
}
_INSERT: Final = """
WITH original AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY job_id) - 1 AS place, *
    FROM jobs
    WHERE tenant_id = %(tenant)s AND job_type = %(job_type)s AND job_id > %(floor)s::uuid
),
made AS (
    SELECT
        n %% (SELECT count(*) FROM original) AS place,
        n - %(total)s - %(age)s::bigint AS shift,
        CASE WHEN n %% 100 < %(delayed_percent)s THEN %(delay)s::bigint ELSE 0 END AS delay,
        md5(%(tenant)s || %(job_type)s || n) AS chance
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
)
"""


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: conninfo. The count told is that of copies. Order: `copy` {tenant, job_type, floor,
    first, last, delayed_percent} makes copies number `first` to `last` - 1 of the tenant's jobs of
    a type with ids above `floor`; so many of a hundred fall due tomorrow. `settle` vacuums and
    analyses the tables, as they would be by and by."""
    copied = 0
    connection = await trio.to_thread.run_sync(_connect, plan["conninfo"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: copied, say)
        say(ready=True)
        async for order in orders:
            if order["do"] == "settle":
                await trio.to_thread.run_sync(_settle, connection)
                say(settled=True)
                continue
            for first in range(order["first"], order["last"], _CHUNK):
                last = min(first + _CHUNK, order["last"])
                await trio.to_thread.run_sync(_copy, connection, order, first, last)
                copied += last - first
            say(copied=copied)


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    """Nothing that is measured is durable by this connection's commits."""
    connection = psycopg.connect(conninfo, autocommit=True, application_name="bench")
    connection.execute("SET synchronous_commit = off")
    return connection


def _settle(connection: psycopg.Connection[Any]) -> None:
    connection.execute("VACUUM (ANALYZE) jobs, waiting")
    connection.execute("CHECKPOINT")


def _copy(
    connection: psycopg.Connection[Any], order: dict[str, Any], first: int, last: int
) -> None:
    parameters = {
        **{name: order[name] for name in ("tenant", "job_type", "floor", "delayed_percent")},
        "total": order["last"],
        "age": _HOUR_US,
        "delay": _DAY_US,
        "first": first,
        "last": last - 1,
    }
    with connection.transaction():
        made = "made JOIN original USING (place)"
        waits = f"{made} JOIN waiting waits USING (tenant_id, job_id)"
        for table, source, read, written in (
            ("waiting", waits, "waits", _WAITING),
            ("jobs", made, "original", _JOBS),
        ):
            columns = _columns(connection, table)
            values = [sql.SQL(written.get(name, f"{read}.{name}")) for name in columns]
            statement = sql.SQL(_INSERT + "INSERT INTO {} ({}) SELECT {} FROM " + source).format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(values),
            )
            connection.execute(statement, parameters)


def _columns(connection: psycopg.Connection[Any], table: str) -> list[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' ORDER BY attnum",
        (table,),
    )
    return [str(name) for (name,) in rows]
