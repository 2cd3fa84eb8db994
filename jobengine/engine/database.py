"""The database of an engine: found or started, brought up to date, owned, examined, backed up.

Not here: what is kept in it (``store``), the actors over it (``parts``).
"""

import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.lowlevel

from jobengine.actors.runtime.clock import SystemClock
from jobengine.actors.runtime.dice import Dice, SystemDice
from jobengine.settings import Settings
from jobengine.store.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    EmbeddedSettings,
    dump,
    find_binaries,
    restore,
    running_url,
)
from jobengine.store.port import Store
from jobengine.store.postgres.doctor import Finding, examine
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.isolation import require_isolation, require_modest_login
from jobengine.store.postgres.migrate import (
    MigrationFailedError,
    MigrationState,
    SchemaMismatchError,
    status,
)
from jobengine.store.postgres.opening import SHARD_CONNECTIONS, open_postgres_store
from jobengine.store.postgres.ownership import (
    DatabaseFactMismatchError,
    DatabaseInUseError,
    own_database,
    settle_facts,
)
from jobengine.store.postgres.roles import (
    LEDGER,
    OWNER,
    ROLES,
    Access,
    BroughtUp,
    RolesRefusedError,
    become_a_reader,
    bring_up_to_date,
    login_of,
    require_up_to_date,
)

__all__ = [
    "BroughtUp",
    "DatabaseFactMismatchError",
    "DatabaseInUseError",
    "EmbeddedServerError",
    "Finding",
    "MigrationFailedError",
    "MigrationState",
    "RolesRefusedError",
    "SchemaMismatchError",
    "dump_embedded",
    "embedded_address",
    "examine_database",
    "migrate_database",
    "migrations_of",
    "open_database",
    "restore_embedded",
]

_OTHER_CONNECTIONS: Final = 18


@asynccontextmanager
async def open_database(
    settings: Settings,
    *,
    conninfo: str | None = None,
    dice: Dice | None = None,
    any_login: bool = True,
) -> AsyncIterator[Store]:
    """A store over ``conninfo``, or over an embedded PostgreSQL in ``settings.data_dir``.

    Makes sure that no other engine serves it and that nothing of an earlier one is under way, then
    brings roles and schema up to date, and sees that the database keeps tenants apart. Without
    ``any_login``, a login that no policy binds (a superuser, an owner) is refused before anything
    is done; the embedded server has none. Raises what the embedded server, the driver, the
    migrations, the roles and ``own_database`` raise.
    """
    async with AsyncExitStack() as stack:
        access = Access(conninfo or "")
        if conninfo is None:
            server = await stack.enter_async_context(
                EmbeddedServer(_database_dir(settings), embedded_settings(settings))
            )
            access, any_login = Access(server.conninfo, direct=True), True
        if not any_login:
            async with _session(access.conninfo, settings) as connection:
                await require_modest_login(connection)
        await stack.enter_async_context(
            (_own_embedded if access.direct else _own)(access, settings)
        )
        yield await stack.enter_async_context(_open_store(access, settings, dice or SystemDice()))


def _own(access: Access, settings: Settings) -> AbstractAsyncContextManager[None]:
    """Own the database, then make it ready: whoever waits for it changes nothing in it."""

    async def log_in() -> Connection:
        return await _connect(access.conninfo, settings, f"jobengine {settings.node_id}")

    async def make_ready() -> None:
        await _make_ready(access, settings)

    return own_database(log_in, make_ready)


@asynccontextmanager
async def _own_embedded(access: Access, settings: Settings) -> AsyncIterator[None]:
    """Nobody else has this server; the role that holds the lock is made first."""
    await _make_ready(access, settings)

    async def connect() -> Connection:
        return await access.connect(
            LEDGER,
            timeout_s=settings.connect_timeout_s,
            answer_s_max=settings.read_timeout_s,
            application_name=f"jobengine {settings.node_id}",
        )

    async with own_database(connect, trio.lowlevel.checkpoint):
        yield


async def _make_ready(access: Access, settings: Settings) -> None:
    async with _session(access.conninfo, settings) as connection:
        login = await login_of(connection)
        if OWNER in login.attainable or OWNER not in login.existing:
            await bring_up_to_date(connection, SystemClock().moment().at, direct=access.direct)
        else:
            await require_up_to_date(connection)
        await require_isolation(connection)
        await connection.execute_script(f"SET ROLE {LEDGER}")
        await settle_facts(connection, {"shards": str(settings.shards)})


@asynccontextmanager
async def _open_store(access: Access, settings: Settings, dice: Dice) -> AsyncIterator[Store]:
    seed = int.from_bytes(dice.randbytes(8), "big")
    async with open_postgres_store(
        access,
        dice=random.Random(seed),
        pool_size_max=settings.pool_size_max,
        commit_connections=settings.commits_in_flight_max,
        connect_timeout_s=settings.connect_timeout_s,
        commit_timeout_s=settings.commit_timeout_s,
        read_timeout_s=settings.read_timeout_s,
    ) as store:
        yield store


async def migrate_database(conninfo: str, settings: Settings) -> BroughtUp:
    """Bring a database's roles and schema up to date; what was made and applied, in order.

    Raises `RolesRefusedError`, `SchemaMismatchError`, `MigrationFailedError`, and what the driver
    raises.
    """
    async with _session(conninfo, settings) as connection:
        return await bring_up_to_date(connection, SystemClock().moment().at)


async def migrations_of(conninfo: str, settings: Settings) -> tuple[MigrationState, ...]:
    """Every migration that this code knows or the database has, by number; changes nothing."""
    async with _session(conninfo, settings) as connection:
        await become_a_reader(connection)
        return await status(connection)


async def examine_database(conninfo: str, settings: Settings) -> tuple[Finding, ...]:
    """What `jobengine db doctor` finds, in the order it looks; changes nothing."""
    moment = SystemClock().moment
    async with _session(conninfo, settings) as connection, _session(conninfo, settings) as other:
        return await examine(connection, other, lambda: moment().at)


async def embedded_address(settings: Settings) -> tuple[str, Path]:
    """The URL of the embedded database that an engine runs in ``settings.data_dir``, and the
    directory of the programs that match it (`pg_dump`, `psql`). Raises `EmbeddedServerError`."""
    return running_url(_database_dir(settings)), find_binaries(settings.embedded_bin_dir).bin_dir


async def dump_embedded(settings: Settings, target: Path, tell: Callable[[str], None]) -> None:
    """Write that database to a new file, in PostgreSQL's custom format; ``tell`` hears of progress.

    Raises `EmbeddedServerError`.
    """
    binaries = find_binaries(settings.embedded_bin_dir)
    await dump(binaries, running_url(_database_dir(settings)), target, tell)


async def restore_embedded(settings: Settings, source: Path, tell: Callable[[str], None]) -> None:
    """Make of a dump the embedded database of ``settings.data_dir``, which has none yet.

    It is built beside its place and moved there when it is complete and its server has stopped.
    Raises `EmbeddedServerError`, and what the driver raises.
    """
    place = _database_dir(settings)
    building = place.with_name(f"{place.name}.restoring")
    if place.exists():
        raise EmbeddedServerError(f"{place} exists already: name another directory with --data")
    if building.exists():
        raise EmbeddedServerError(
            f"a restore into {building} is under way or was cut short: remove it if none runs"
        )
    try:
        by_socket = attrs.evolve(embedded_settings(settings), tcp_port=None)
        async with EmbeddedServer(building, by_socket) as server:
            async with _session(server.conninfo, settings) as connection:
                roles = "; ".join(f"CREATE ROLE {role} LOGIN" for role in ROLES)
                await connection.execute_script(roles)
            binaries = find_binaries(settings.embedded_bin_dir)
            await restore(binaries, server.conninfo, source, tell)
            async with _session(server.conninfo, settings) as connection:
                with connection.unhurried():
                    await connection.execute_script("ANALYZE")
        building.rename(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@asynccontextmanager
async def _session(conninfo: str, settings: Settings) -> AsyncIterator[Connection]:
    connection = await _connect(conninfo, settings)
    try:
        yield connection
    finally:
        await connection.aclose()


async def _connect(conninfo: str, settings: Settings, name: str = "jobengine") -> Connection:
    """A session of the login itself, no role taken."""
    return await Access(conninfo).log_in(
        timeout_s=settings.connect_timeout_s,
        answer_s_max=settings.read_timeout_s,
        application_name=name,
    )


def embedded_settings(settings: Settings) -> EmbeddedSettings:
    """How the embedded server runs for these pools: each may open its connections anew while those
    that it distrusts are still lent; operators, dumps and PostgreSQL's reserve come on top."""
    pooled = settings.pool_size_max + SHARD_CONNECTIONS + settings.commits_in_flight_max
    return EmbeddedSettings(
        bin_dir=settings.embedded_bin_dir,
        server_user=settings.embedded_server_user,
        runtime_dir=settings.embedded_runtime_dir,
        tcp_port=settings.embedded_tcp_port,
        connections_max=2 * pooled + _OTHER_CONNECTIONS,
        shared_buffers_mib=settings.embedded_shared_buffers_mib,
        start_s_max=settings.embedded_start_s_max,
        initialise_s_max=settings.embedded_initialise_s_max,
    )


def _database_dir(settings: Settings) -> Path:
    if settings.data_dir is None:
        raise ValueError("data_dir: an embedded database needs a directory")
    return settings.data_dir / "postgres"
