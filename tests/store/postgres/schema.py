"""The schema as its migrations make it, as one file to read: ``docs/schema.sql``.

    python -m tests.store.postgres.schema     write it

Partitions are left out: they come and go. The dump is PostgreSQL 18's, the newest supported.
"""

import subprocess
from pathlib import Path

import trio

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.roles import bring_up_to_date
from tests.postgres_server import PostgresServer, fresh_database, installed_binaries, running_server

MAJOR = 18
PAGE = Path(__file__).parents[3] / "docs" / "schema.sql"
HEAD = """\
-- The database schema after all migrations, as PostgreSQL 18 tells it. To read; nothing runs it.
-- Written by `python -m tests.store.postgres.schema`, kept equal by a test.
"""


def dump(server: PostgresServer) -> str:
    with fresh_database(server) as conninfo:
        trio.run(_migrate, conninfo)
        pg_dump = server.binaries.bin_dir / "pg_dump"
        text = subprocess.run(
            [pg_dump, "--schema-only", "--no-owner", "--no-privileges", conninfo],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    kept = [line for line in text.splitlines() if _is_kept(line)]
    paragraphs = "\n".join(kept).split("\n\n")
    return HEAD + "\n" + "\n\n".join(filter(None, (p.strip("\n") for p in paragraphs))) + "\n"


def _is_kept(line: str) -> bool:
    return not line.startswith(("--", "SET ", "\\", "SELECT pg_catalog.set_config"))


async def _migrate(conninfo: str) -> None:
    connection = await Connection.connect(conninfo)
    await bring_up_to_date(connection, 0)
    await connection.aclose()


if __name__ == "__main__":
    with running_server(installed_binaries()[MAJOR]) as running:
        PAGE.write_text(dump(running))
