"""What is measured: a private engine with its embedded database, or one that was named.

I1  A database that holds jobs is not touched unless that was asked for; its figures are marked.
I2  What was started here, and its directory, is gone after the block; after SIGKILL the processes
    are gone and the directory is left.
"""

import base64
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio

from bench.harness.children import LoadProcess
from bench.harness.cost import Meter
from bench.harness.database import Database, embedded_database
from bench.harness.engine import EngineProcess, start_engine
from bench.harness.options import Options
from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens

__all__ = ["Target", "open_target", "scratch_directory"]

_TOKEN_S: Final = 24 * 3600


@attrs.define
class Target:
    """An engine that can be measured. `engine` is there when it is ours; it is replaced when a
    benchmark starts it again. `database` is there when its address is known."""

    http_url: str
    worker_url: str
    token: str
    tenant: str
    engine: EngineProcess | None
    database: Database | None
    held_jobs: bool = False
    """Whether the database was in use before, which was asked for then."""
    _run: str = attrs.field(init=False, factory=lambda: f"{time.time_ns():x}")

    def job_type(self, *parts: object) -> str:
        """A type for jobs of this run alone, also where the database has seen earlier ones."""
        return ".".join(["bench", self._run, *map(str, parts)])

    def as_tenant(self, tenant: str) -> "Target":
        """The same engine, which has to be ours, as another tenant reaches it."""
        key = load_or_create_key(self.require_engine().data_dir / "key.pem")
        scopes, now_at = (Scope.SUBMIT, Scope.WORK), time.time_ns() // 1000
        token = Tokens(key).issue(tenant, scopes, "bench", _TOKEN_S, now_at)
        return attrs.evolve(self, tenant=tenant, token=token)

    def require_engine(self) -> EngineProcess:
        if self.engine is None:
            raise click.UsageError("this benchmark needs an engine of its own: leave --url out")
        return self.engine

    def require_database(self) -> Database:
        if self.database is None:
            raise click.UsageError("this benchmark reads the database: give --database-url")
        return self.database

    def door(self) -> dict[str, str]:
        """How load processes reach the engine, as part of their plan."""
        return {
            "http_url": self.http_url,
            "worker_url": self.worker_url,
            "token": self.token,
            "tenant": self.tenant,
        }

    def meter(self, **loads: Iterable[LoadProcess]) -> Meter:
        """Of the engine and database as far as they run here, and of the load processes given."""
        parts = {name: tuple(load.pid for load in group) for name, group in loads.items()}
        if self.engine is not None:
            parts = {"engine": (self.engine.pid,)} | parts
        postmaster = self.database and self.database.postmaster
        return Meter(parts, (postmaster,) if postmaster else ())


@asynccontextmanager
async def open_target(options: Options) -> AsyncIterator[Target]:
    """The engine that the options name, or a private one for the block."""
    if not options.own_engine:
        yield await trio.to_thread.run_sync(_named, options)
        return
    with scratch_directory(options.directory) as scratch:
        held_jobs = options.database_url is not None and _held_jobs(
            Database(options.database_url), options
        )
        engine = await start_engine(
            scratch / "data", database_url=options.database_url, settings=options.settings
        )
        target = Target(
            http_url=engine.http_url,
            worker_url=engine.worker_url,
            token=engine.token,
            tenant=engine.tenant,
            engine=engine,
            database=None,
            held_jobs=held_jobs,
        )
        try:
            target.database = (
                embedded_database(engine.data_dir)
                if options.database_url is None
                else Database(options.database_url)
            )
            yield target
        finally:
            await target.require_engine().stop()


@contextmanager
def scratch_directory(parent: Path | None) -> Iterator[Path]:
    """A directory that goes after the block. The account of an embedded server may pass it."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="jobengine-bench-", dir=parent))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _named(options: Options) -> Target:
    assert options.url is not None
    assert options.worker_url is not None
    assert options.token is not None
    database = None if options.database_url is None else Database(options.database_url)
    if database is None and not options.allow_jobs:
        raise click.UsageError(
            "give --database-url, so that it can be seen whether it is empty and how durable it "
            "is, or --allow-jobs"
        )
    held_jobs = database is not None and _held_jobs(database, options)
    return Target(
        http_url=options.url,
        worker_url=options.worker_url,
        token=options.token,
        tenant=options.tenant or _tenant_of(options.token),
        engine=None,
        database=database,
        held_jobs=held_jobs,
    )


def _held_jobs(database: Database, options: Options) -> bool:
    """Whether there are jobs, which is refused unless it was asked for (I1)."""
    holds_jobs = database.holds_jobs()
    if holds_jobs and not options.allow_jobs:
        raise click.UsageError("that database holds jobs; --allow-jobs if it may be measured on")
    return holds_jobs


def _tenant_of(token: str) -> str:
    """The first tenant that a token names; the token is checked by the engine, not here."""
    try:
        body = token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        tenant: str = claims["tenants"][0]
    except (IndexError, KeyError, ValueError):
        raise click.UsageError("the token names no tenant: give --tenant") from None
    return tenant
