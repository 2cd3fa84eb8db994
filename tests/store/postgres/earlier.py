"""A schema as an earlier version had it, to be migrated from."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import psycopg

from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.migrate import migrate
from tests.store.conformance.scribe import NOW

__all__ = ["open_schema_before"]


@asynccontextmanager
async def open_schema_before(
    database: str, number: int, scratch: Path
) -> AsyncIterator[Connection]:
    """A session in a schema `before`, which has all migrations below this number: as the owner,
    whom no policy lets see a row."""
    for each in (files("jobengine.store.postgres") / "migrations").iterdir():
        if each.name.endswith(".sql") and int(each.name[:4]) < number:
            shutil.copy(str(each), scratch)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA before AUTHORIZATION jobengine_owner")
    connection = await Connection.connect(f"{database} options='-c search_path=before'")
    try:
        await connection.execute_script("SET ROLE jobengine_owner")
        await migrate(connection, NOW, scratch)
        yield connection
    finally:
        await connection.aclose()
