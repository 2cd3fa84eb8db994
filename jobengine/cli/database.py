"""`jobengine db`: roles and schema of a PostgreSQL that the engine does not run itself."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from jobengine.cli.configuration import Configuration
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.node_options import config_option, configured, database_option
from jobengine.cli.output import Form, output_option, print_json, print_table

__all__ = ["database"]

T = TypeVar("T")


@click.group("db")
def database() -> None:
    """Look after the database named by --database-url: its roles, its schema, its health.

    `db migrate` sets the roles up; `serve` then uses them. A node whose login may do so migrates by
    itself when it starts.
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

    Exits 1 when a check fails; a warning does not count. Best run with a login that is a member of
    pg_monitor: others see less of what keeps the horizon back, and no free space.

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


def _ask(configuration: Configuration, question: Callable[..., Awaitable[T]]) -> T:
    import trio

    from jobengine.cli.node import explained
    from jobengine.store.errors import ProgrammerError

    conninfo = configuration.options.database_url
    if conninfo is None:
        raise CommandFailedError("name the database with --database-url or JOBENGINE_DATABASE_URL")
    try:
        answer: Any = trio.run(question, conninfo, configuration.settings)
    except ProgrammerError as error:
        raise CommandFailedError(f"this database cannot be used: {error}") from None
    except Exception as error:
        failure = explained(error)
        if failure is None:
            raise
        raise failure from None
    found: T = answer
    return found
