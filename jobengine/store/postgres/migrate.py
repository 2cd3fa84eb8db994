"""Brings a database to the schema this code wants: forward only, one transaction a migration.

Migrations are files `NNNN_name.sql`, numbered from 0001 without gaps. Each is applied by whoever
holds the advisory lock, recorded with its SHA-256 in `schema_migration` in the same transaction,
and never touched again.

I1  A migration is applied wholly or not at all, and once, however many nodes start together: the
    lock is taken and the record read again inside each migration's own transaction.
I2  The applied migrations are a prefix of the known ones, byte for byte (line ends aside); anything
    else refuses before a change is made, and says what to do.
I3  A migration does not end its own transaction: files that say BEGIN, COMMIT or ROLLBACK at the
    head of a statement are refused.

That a migration is safe while the previous version serves (expand, then contract) is its author's
duty and the tests' of the schema.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import inf
from typing import Final, Literal

import attrs

from jobengine.store.errors import (
    ProgrammerError,
    StatementRefusedError,
    StoreUnavailableError,
    TransactionConflictError,
)
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.statements import OPAQUE_SQL

# Any number works as long as it never changes: every node of every version takes this lock.
_LOCK_KEY: Final = 0x6A6F_6265_6E67_696E  # "jobengin"
_SERVERS_SHARE: Final = 0.9
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_OPAQUE = re.compile(OPAQUE_SQL, re.DOTALL | re.VERBOSE)
_ENDS_TRANSACTION = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "ABORT"})

_CREATE_RECORD: Final = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        number integer CONSTRAINT schema_migration_pkey PRIMARY KEY,
        name text NOT NULL,
        sha256 bytea NOT NULL,
        applied_at bigint NOT NULL
    )
"""
_INSERT_RECORD: Final = """
    INSERT INTO schema_migration (number, name, sha256, applied_at) VALUES ($1, $2, $3, $4)
"""
_SELECT_RECORDS: Final = "SELECT number, name, sha256, applied_at FROM schema_migration"

State = Literal["applied", "pending", "changed", "unknown"]


class SchemaMismatchError(Exception):
    """The database's schema and this code do not go together; the message names the remedy."""


class MigrationFailedError(Exception):
    """The database refused a migration; nothing of it remains, earlier ones stay applied."""


@attrs.frozen
class Migration:
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()

    @property
    def label(self) -> str:
        return f"{self.number:04}_{self.name}"


@attrs.frozen
class MigrationState:
    """`changed`: applied from another text. `unknown`: applied, but not part of this code.

    `applied_at` is in microseconds UTC, None while pending.
    """

    number: int
    name: str
    state: State
    applied_at: int | None


@attrs.frozen
class _Record:
    number: int
    name: str
    sha256: bytes
    applied_at: int


async def migrate(
    connection: Connection, now_at: int, directory: Traversable | None = None
) -> tuple[Migration, ...]:
    """Apply what is pending; the migrations this call applied, in order.

    `directory` defaults to the package's. A migration may take as long as it takes, everything else
    as long as the connection waits for an answer; cancelled, it leaves the migrations applied so
    far. Raises `SchemaMismatchError`,
    `MigrationFailedError`, `StoreUnavailableError`, and `ProgrammerError` for a directory that is
    not in order.
    """
    known = load_migrations(directory)
    applied: list[Migration] = []
    while True:
        async with connection.transaction():
            await take_turn(connection, _LOCK_KEY, "migrates")
            await connection.execute_script("SET LOCAL client_min_messages = warning")
            await connection.execute_script(_CREATE_RECORD)
            done = len(_compatible(known, await _records(connection)))
            if done == len(known):
                return tuple(applied)
            await _apply(connection, known[done], now_at)
        applied.append(known[done])


async def take_turn(connection: Connection, lock_key: int, does: str) -> None:
    """Wait for an advisory lock, which the transaction holds until it ends.

    Raises `StoreUnavailableError`, saying what another session `does`, where that session holds it
    for nearly as long as the connection waits for an answer.
    """
    wait_s = connection.answer_s_max * _SERVERS_SHARE
    if wait_s < inf:
        await connection.execute_script(f"SET LOCAL lock_timeout = {max(1, int(wait_s * 1_000))}")
    try:
        await connection.fetch("SELECT pg_advisory_xact_lock($1)", (lock_key,))
    except TransactionConflictError as error:
        raise StoreUnavailableError(
            f"another session {does}, and has not ended within {wait_s:g} s",
            sqlstate=error.sqlstate,
        ) from None
    await connection.execute_script("SET LOCAL lock_timeout TO DEFAULT")


async def status(
    connection: Connection, directory: Traversable | None = None
) -> tuple[MigrationState, ...]:
    """Every migration known or applied, by number. Changes nothing, takes no lock."""
    known = {migration.number: migration for migration in load_migrations(directory)}
    records: Mapping[int, _Record] = {}
    if await connection.fetch_one("SELECT 1 WHERE to_regclass('schema_migration') IS NOT NULL"):
        records = await _records(connection)
    return tuple(
        _state(known.get(number), records.get(number)) for number in sorted({*known, *records})
    )


def load_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """The migrations of `directory`, by number; `ProgrammerError` where the files break a rule."""
    source = files("jobengine.store.postgres") / "migrations" if directory is None else directory
    migrations = sorted(_read(source), key=lambda migration: migration.number)
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise ProgrammerError(f"{migration.label} stands where number {expected:04} is due")
    return tuple(migrations)


def _read(source: Traversable) -> Iterator[Migration]:
    for file in source.iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise ProgrammerError(f"{file.name} is not named NNNN_name.sql")
        sql = file.read_bytes().decode().replace("\r\n", "\n")
        for part in _OPAQUE.sub(" ", sql).split(";"):
            if part.split()[:1] and part.split()[0].upper() in _ENDS_TRANSACTION:
                raise ProgrammerError(f"{file.name} ends its own transaction: {part.split()[0]}")
        yield Migration(number=int(match[1]), name=match[2], sql=sql)


async def _records(connection: Connection) -> dict[int, _Record]:
    rows = await connection.fetch(_SELECT_RECORDS)
    return {number: _Record(number, *rest) for number, *rest in rows}


def _state(known: Migration | None, record: _Record | None) -> MigrationState:
    if record is None:
        assert known is not None
        return MigrationState(known.number, known.name, "pending", None)
    state: State = "applied"
    if known is None:
        state = "unknown"
    elif known.sha256 != record.sha256:
        state = "changed"
    return MigrationState(record.number, record.name, state, record.applied_at)


def _compatible(known: Sequence[Migration], records: Mapping[int, _Record]) -> Sequence[Migration]:
    """I2: the known migrations that are applied, or `SchemaMismatchError`."""
    if newer := sorted(number for number in records if number > len(known)):
        raise SchemaMismatchError(
            f"the database has migration {newer[-1]:04} ({records[newer[-1]].name}), this version "
            f"of jobengine knows {len(known):04} at most: start the version that applied it, or "
            "restore a backup from before it"
        )
    prefix = known[: len(records)]
    for migration in prefix:
        record = records.get(migration.number)
        if record is None:
            raise SchemaMismatchError(
                f"migration {migration.label} is missing below applied ones: the table "
                "schema_migration was edited; restore its row or a backup"
            )
        if record.sha256 != migration.sha256:
            raise SchemaMismatchError(
                f"migration {migration.label} was changed after it was applied: restore the file "
                "as released and put the change into a new migration"
            )
    return prefix


async def _apply(connection: Connection, migration: Migration, now_at: int) -> None:
    try:
        with connection.unhurried():
            await connection.execute_script(migration.sql)
    except (ProgrammerError, StatementRefusedError) as error:
        raise MigrationFailedError(f"{migration.label}: {error}") from error
    record = (migration.number, migration.name, migration.sha256, now_at)
    await connection.execute(_INSERT_RECORD, record)
