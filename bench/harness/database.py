"""What a benchmark asks the database itself: durability, what is in it, what it was told to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from jobengine.store.embedded.configuration import DATABASE, ROLE

__all__ = ["Database", "Totals", "embedded_database"]

_TIMEOUT_S: Final = 10
_MAJORS: Final = range(15, 19)
_NO_FLOOR: Final = "0" * 32


@attrs.frozen
class Totals:
    """Running totals of a database; the difference of two says what happened between them."""

    transactions: int
    wal_bytes: int
    commits: int
    entries: int


@attrs.frozen
class Database:
    """A PostgreSQL server by its address. `postmaster` is known when it runs on this machine.

    Each question uses a connection of its own, so nothing is held while a benchmark runs. All
    methods block, some milliseconds.
    """

    conninfo: str
    postmaster: int | None = None

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(
            self.conninfo, autocommit=True, connect_timeout=_TIMEOUT_S, application_name="bench"
        ) as connection:
            yield connection

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            with self.connection() as connection:
                connection.execute("SELECT")
        except psycopg.Error:
            return False
        return True

    def durability(self) -> dict[str, str]:
        """What the server really does before it answers a commit."""
        names = ("fsync", "synchronous_commit", "full_page_writes")
        return {name: str(self._value(f"SHOW {name}")) for name in names}

    def server_version(self) -> str:
        return str(self._value("SHOW server_version"))

    def caveats(self) -> list[str]:
        """Why what is measured on this server is not to be compared, besides durability."""
        major = int(self._value("SHOW server_version_num")) // 10_000
        if major in _MAJORS:
            return []
        return [f"PostgreSQL {major} is not supported ({_MAJORS[0]} to {_MAJORS[-1]} are)"]

    def stop_autovacuum(self) -> None:
        """Let nobody but its clients use transactions; for a server that is thrown away."""
        with self.connection() as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")

    def holds_jobs(self) -> bool:
        """Whether somebody has used it; false where the tables are still to be made."""
        if self._value("SELECT to_regclass('jobs') IS NULL"):
            return False
        return bool(self._value("SELECT EXISTS (SELECT FROM jobs)"))

    def totals(self, *tenant_ids: str) -> Totals:
        """Ledger totals are those of the tenants, whose blocks of one transaction are one commit.
        The question itself counts as one transaction."""
        with self.connection() as connection:
            row = connection.execute(
                """
                SELECT
                    (SELECT xact_commit + xact_rollback FROM pg_stat_database
                     WHERE datname = current_database()),
                    (pg_current_wal_lsn() - '0/0')::bigint,
                    (SELECT count(DISTINCT xmin::text) FROM ledger_blocks
                     WHERE tenant_id = ANY (%(tenants)s)),
                    (SELECT coalesce(sum(next_seq - 1), 0)::bigint FROM ledger_heads
                     WHERE tenant_id = ANY (%(tenants)s))
                """,
                {"tenants": list(tenant_ids)},
            ).fetchone()
        assert row is not None
        return Totals(*row)

    def count_jobs(self, tenant_id: str, job_type: str) -> dict[str, int]:
        """Jobs of one type, by state."""
        with self.connection() as connection:
            rows = connection.execute(
                "SELECT state, count(*) FROM jobs WHERE tenant_id = %s AND job_type = %s "
                "GROUP BY state",
                (tenant_id, job_type),
            ).fetchall()
        return {str(state): int(count) for state, count in rows}

    def created_at(self, tenant_id: str, job_type: str, floor: str = _NO_FLOOR) -> dict[str, int]:
        """When each job of a type was created, in microseconds UTC, by job id; of those above an id
        if it is given, without a look at the others."""
        with self.connection() as connection:
            rows = connection.execute(
                "SELECT job_id::text, created_at FROM jobs "
                "WHERE tenant_id = %s AND job_id > %s::uuid AND job_type = %s",
                (tenant_id, floor, job_type),
            ).fetchall()
        return {str(job_id): int(at) for job_id, at in rows}

    def _value(self, query: str) -> Any:
        with self.connection() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def embedded_database(data_dir: Path) -> Database:
    """The server that an engine runs in its data directory, found by its `postmaster.pid`."""
    lines = (data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()
    conninfo = make_conninfo(host=lines[4], port=int(lines[3]), user=ROLE, dbname=DATABASE)
    return Database(conninfo, postmaster=int(lines[0]))
