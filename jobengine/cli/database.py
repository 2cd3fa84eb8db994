"""`jobengine db`: the schema of a PostgreSQL that the engine does not run itself."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from jobengine.cli.configuration import Configuration
from jobengine.cli.failure import CommandFailed, ExitCode
from jobengine.cli.node_options import config_option, configured, database_option
from jobengine.cli.output import Form, output_option, print_json, print_table

__all__ = ["database"]

T = TypeVar("T")


@click.group("db")
def database() -> None:
    """Look after the schema of the database named by --database-url.

    A node migrates by itself when it starts; these commands are for doing it before.
    """


@database.command()
@database_option
@config_option
@output_option
def migrate(database_url: str | None, config: Path | None, output: Form) -> None:
    """Bring the schema up to date. Safe to repeat, and while nodes are running."""
    from jobengine.engine import migrate_database

    configuration = configured(config, database_url=database_url)
    applied = _ask(configuration, migrate_database)
    if output == "json":
        print_json({"applied": applied})
    else:
        print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


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


def _ask(configuration: Configuration, question: Callable[..., Awaitable[T]]) -> T:
    import trio

    from jobengine.cli.node import explained
    from jobengine.store.errors import ProgrammerError

    conninfo = configuration.options.database_url
    if conninfo is None:
        raise CommandFailed("name the database with --database-url or JOBENGINE_DATABASE_URL")
    try:
        answer: Any = trio.run(question, conninfo, configuration.settings)
    except ProgrammerError as error:
        raise CommandFailed(f"this database cannot be used: {error}") from None
    except Exception as error:
        failure = explained(error)
        if failure is None:
            raise
        raise failure from None
    found: T = answer
    return found
