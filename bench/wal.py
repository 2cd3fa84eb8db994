"""Write-ahead log a job, and what it is made of.

Each round is two flows: one right after a checkpoint, when the first change of each page logs the
whole page, and one that follows it. Bytes are the way of the server's insert position; what they
hold, by kind of record, comes from the log itself (extension pg_walinspect, part of PostgreSQL).
Everything that the server logs meanwhile counts, vacuum included.
"""

from typing import Any, Final

import click
import psycopg
import trio

from bench.flow import Flow, measure_flow
from bench.harness.database import Database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target

__all__ = ["measure_wal", "prepare", "run"]

_WARM_UP: Final = 5_000
_KINDS_SHOWN: Final = 6
_KEPT: Final = "8GB"
"""Of the log of a private server, so that a round's is still there when it is read."""


async def run(options: Options, *, jobs: int, batch: int, payload_bytes: int) -> Report:
    flow = Flow(jobs=jobs, batch=batch, payload_bytes=payload_bytes)
    async with open_target(options) as target:
        report = report_on(
            target, "wal", "bytes_per_job", "bytes",
            jobs=jobs, batch=batch, payload_bytes=payload_bytes,
        )  # fmt: skip
        warm_up = Flow(jobs=min(jobs, _WARM_UP))
        await measure_flow(target, warm_up, target.job_type("wal", "warm-up"))
        for number in range(options.rounds):
            await trio.to_thread.run_sync(prepare, target.require_database())
            fresh = await measure_wal(target, flow, target.job_type("wal", number, "fresh"))
            later = await measure_wal(target, flow, target.job_type("wal", number, "later"))
            report.add("later", **later)
            report.add("after a checkpoint", **fresh)
        return report


async def measure_wal(target: Target, flow: Flow, job_type: str) -> dict[str, Any]:
    """What one flow logs, on a server that was prepared."""
    database, positions = target.require_database(), []

    def observe() -> None:
        positions.append(_position(database))

    measured = await measure_flow(target, flow, job_type, observe)
    start, end = positions
    kinds = await trio.to_thread.run_sync(_kinds, database, start, end)
    return {
        "bytes_per_job": (end - start) / flow.jobs,
        "full_page_percent": 100 * sum(images for _, _, images in kinds) / (end - start),
        "bytes_a_job_by_kind": {
            kind: round((records + images) / flow.jobs, 1)
            for kind, records, images in kinds[:_KINDS_SHOWN]
        },
        "jobs_per_s": measured["jobs_per_s"],
    }


def prepare(database: Database) -> None:
    """Make the log readable, and make a checkpoint. Blocks."""
    with database.connection() as connection:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        except psycopg.Error as error:
            raise click.UsageError(f"wal needs the extension pg_walinspect: {error}") from None
        if database.postmaster is not None:
            connection.execute(f"ALTER SYSTEM SET wal_keep_size = '{_KEPT}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        connection.execute("CHECKPOINT")


def _position(database: Database) -> int:
    """Bytes of the log since its beginning, what is not written yet included."""
    with database.connection() as connection:
        row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _kinds(database: Database, start: int, end: int) -> list[tuple[str, int, int]]:
    """Kind of record, bytes of its records, bytes of full pages with them; the largest first."""
    with database.connection() as connection:
        rows = connection.execute(
            """
            SELECT "resource_manager/record_type", record_size::bigint, fpi_size::bigint
            FROM pg_get_wal_stats(
                '0/0'::pg_lsn + %s::numeric, '0/0'::pg_lsn + %s::numeric, per_record => true
            )
            ORDER BY combined_size DESC
            """,
            (start, end),
        ).fetchall()
    return [(str(kind), int(records), int(images)) for kind, records, images in rows]
