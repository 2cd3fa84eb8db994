"""`jobengine db`: roles, schema and health of a database, and backups of the embedded one."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from jobengine.cli.configuration import Configuration
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.node_options import config_option, configured, data_option, database_option
from jobengine.cli.output import Form, output_option, print_fields, print_json, print_table

__all__ = ["database"]

T = TypeVar("T")
_MIB: Final = 1 << 20


@click.group("db")
def database() -> None:
    """Look after a database: its roles, its schema, its health, its backups.

    `migrate`, `status` and `doctor` take --database-url. `db migrate` sets the roles up; `serve`
    then uses them. A node whose login may do so migrates by itself when it starts.

    `url`, `dump` and `restore` are for the embedded database that `up` keeps in --data.
    """


@database.command()
@database_option
@config_option
@output_option
def migrate(database_url: str | None, config: Path | None, output: Form) -> None:
    """Bring the engine's roles and schema up to date. Safe to repeat.

    Makes the roles jobengine_owner, jobengine_api and jobengine_ledger where they are missing. That
    takes a login that may create roles; any other is told the SQL for one that may.
    """
    from jobengine.engine import migrate_database

    configuration = configured(config, database_url=database_url)
    done = _ask(configuration, migrate_database)
    applied = [migration.label for migration in done.migrations]
    if output == "json":
        print_json({"rolesMade": done.roles, "applied": applied})
    else:
        lines = [f"made role {role}" for role in done.roles]
        lines += [f"applied {name}" for name in applied]
        print("\n".join(lines) or "the schema is up to date")


@database.command("status")
@database_option
@config_option
@output_option
def show_state(database_url: str | None, config: Path | None, output: Form) -> int:
    """Show every migration and whether it is applied. Exits 3 when not all of them are."""
    from jobengine.domain.instant import to_rfc3339
    from jobengine.engine import migrations_of

    configuration = configured(config, database_url=database_url)
    rows = [
        (
            f"{one.number:04}",
            one.name,
            one.state,
            None if one.applied_at is None else to_rfc3339(one.applied_at),
        )
        for one in _ask(configuration, migrations_of)
    ]
    if output == "json":
        names = ("number", "name", "state", "appliedAt")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(("NUMBER", "NAME", "STATE", "APPLIED AT"), rows)
    return ExitCode.OK if all(row[2] == "applied" for row in rows) else ExitCode.REFUSED


@database.command()
@database_option
@config_option
@output_option
def doctor(database_url: str | None, config: Path | None, output: Form) -> int:
    """Look for what is wrong with the database, and say what to do. Changes nothing.

    Exits 1 when a check fails; a warning does not count. Best run on the server's machine, with a
    login that is a member of pg_monitor and of jobengine_api and jobengine_ledger: others are
    warned of what they cannot see, which is what keeps the horizon back, and free space.

    With --output json: [{"check", "verdict", "detail", "remedy"}], where the verdict is ok, warn or
    fail.
    """
    from jobengine.engine import examine_database

    configuration = configured(config, database_url=database_url)
    findings = _ask(configuration, examine_database)
    if output == "json":
        names = ("check", "verdict", "detail", "remedy")
        print_json([{name: getattr(one, name) for name in names} for one in findings])
    else:
        for one in findings:
            print(f"{one.verdict:<4}  {one.check:<12}  {one.detail}")
            if one.remedy is not None:
                print(f"{'':<20}  do: {one.remedy}")
    failed = any(one.verdict == "fail" for one in findings)
    return ExitCode.ERROR if failed else ExitCode.OK


@database.command("url")
@data_option
@config_option
@output_option
def show_url(data: str | None, config: Path | None, output: Form) -> None:
    """Tell where the embedded database of a running engine answers, until that engine stops.

    For the user who runs the engine, and root: jobengine db doctor --database-url "$(jobengine db
    url)"

    With --output json: {"url", "programs"}, where programs is the directory of the psql and pg_dump
    that match it.
    """
    from jobengine.engine import embedded_address

    url, programs = _run(embedded_address, _embedded(data, config).settings)
    if output == "json":
        print_json({"url": url, "programs": str(programs)})
    else:
        print(url)


@database.command("dump")
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@config_option
@output_option
def write_dump(file: Path, data: str | None, config: Path | None, output: Form) -> None:
    """Write the embedded database of a running engine to the new FILE, as it is at this moment.

    The engine goes on meanwhile. FILE holds the data of all tenants, and is readable by you alone.
    Keep key.pem and key.pem.vault of the data directory with it: they are not in the database.
    """
    from jobengine.engine import dump_embedded

    configuration = _embedded(data, config)
    _run(dump_embedded, configuration.settings, file, _tell)
    _print_copy(file, configuration, output)


@database.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_option
@config_option
@output_option
def load_dump(file: Path, data: str | None, config: Path | None, output: Form) -> None:
    """Make of FILE, which `db dump` wrote, the embedded database of a data directory without one.

    Then put key.pem and key.pem.vault there and start the engine on it. A restore that fails leaves
    nothing behind.
    """
    from jobengine.cli.node import make_data_dir
    from jobengine.engine import restore_embedded

    configuration = _embedded(data, config)
    make_data_dir(configuration)
    _run(restore_embedded, configuration.settings, file, _tell)
    _print_copy(file, configuration, output)


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


def _print_copy(file: Path, configuration: Configuration, output: Form) -> None:
    octets, data_dir = file.stat().st_size, str(configuration.data_dir)
    if output == "json":
        print_json({"file": str(file), "sizeBytes": octets, "data": data_dir})
    else:
        size = f"{octets / _MIB:.1f} MiB"
        print_fields([("file", file), ("size", size), ("data", data_dir)])


def _embedded(data: str | None, config: Path | None) -> Configuration:
    configuration = configured(config, data=data)
    if configuration.options.database_url is not None:
        raise click.UsageError(
            "this is for the embedded database, and database_url names another: take that away, or "
            "use pg_dump and pg_restore on it"
        )
    return configuration


def _ask(configuration: Configuration, question: Callable[..., Awaitable[T]]) -> T:
    conninfo = configuration.options.database_url
    if conninfo is None:
        raise click.UsageError(
            "name the database with --database-url or JOBENGINE_DATABASE_URL; `jobengine db url` "
            "tells that of a running `jobengine up`"
        )
    return _run(question, conninfo, configuration.settings)


def _run(question: Callable[..., Awaitable[T]], *arguments: object) -> T:
    import trio

    from jobengine.cli.node import explained
    from jobengine.store.errors import ProgrammerError

    try:
        answer: Any = trio.run(question, *arguments)
    except ProgrammerError as error:
        raise CommandFailedError(f"this database cannot be used: {error}") from None
    except Exception as error:
        failure = explained(error)
        if failure is None:
            raise
        raise failure from None
    found: T = answer
    return found
