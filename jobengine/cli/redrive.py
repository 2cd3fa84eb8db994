"""`jobengine deadletter redrive`: replays many dead letters at a rate."""

from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.numbers import NumberRange
from jobengine.cli.output import Form, print_fields, print_json, print_table

__all__ = ["filter_options", "redrive"]

F = TypeVar("F", bound=Callable[..., Any])


def filter_options(command: F) -> F:
    """Gives a command the filters of dead letters, under the SDK's names."""
    for option in (
        click.option("--signature", help="Of this error signature only."),
        click.option("--class", "class_", help="Of this class only, such as timeout."),
        click.option("--queue", help="Of this queue only."),
        click.option("--type", "job_type", help="Of this job type only."),
    ):
        command = option(command)
    return command


@click.group()
def redrive() -> None:
    """Replay many dead letters, one after another."""


@redrive.command()
@filter_options
@click.option("--all", "everything", is_flag=True, help="All open ones; needed without a filter.")
@click.option(
    "--per-second",
    type=NumberRange(0.001, 1000),
    default=10.0,
    show_default=True,
    help="At most so many letters a second.",
)
@click.option("--max", "letters_max", type=click.IntRange(1), help="At most so many in all.")
@audited
@engine_options
def start(
    engine: Engine,
    output: Form,
    everything: bool,
    per_second: float,
    letters_max: int | None,
    reason: str,
    ticket: str,
    **filters: str | None,
) -> None:
    """Begin a redrive of the open dead letters that match, and show it.

    `jobengine deadletter summary` with the same filter shows beforehand what it will replay.
    """
    if everything == any(value is not None for value in filters.values()):
        raise click.UsageError("name a filter, or all of them with --all")
    with engine.client() as client:
        begun = client.redrive(
            reason=reason,
            ticket=ticket,
            per_second=per_second,
            letters_max=letters_max,
            **filters,
        )
    _print_redrive(begun, output)


@redrive.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_redrives(engine: Engine, output: Form, limit: int) -> None:
    """List redrives, newest first."""
    with engine.client() as client:
        found = list(islice(client.redrives(), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("REDRIVE", "STATE", "DONE", "FAILED", "LEFT", "PER SECOND", "CREATED", "BY"),
        [
            (
                one.redrive_id,
                one.state,
                one.done,
                one.failed,
                one.left,
                one.per_second,
                one.created_at,
                one.created_by,
            )
            for one in found
        ],
    )


@redrive.command()
@click.argument("redrive_id", metavar="REDRIVE")
@engine_options
def show(engine: Engine, output: Form, redrive_id: str) -> None:
    """Show how far a redrive has come."""
    with engine.client() as client:
        _print_redrive(client.redrive_state(redrive_id), output)


def _change(name: str, what: str) -> None:
    """A command that changes one redrive and shows it afterwards."""

    @redrive.command(name, help=what)
    @click.argument("redrive_id", metavar="REDRIVE")
    @audited
    @engine_options
    def change(engine: Engine, output: Form, redrive_id: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            operate = getattr(client, f"{name}_redrive")
            _print_redrive(operate(redrive_id, reason=reason, ticket=ticket), output)


_change("pause", "Let a redrive rest.")
_change("resume", "Let a paused redrive go on.")
_change("stop", "End a redrive for good; what it has replayed stays.")


def _print_redrive(found: Any, output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    wanted = {
        "type": found.filter.job_type,
        "queue": found.filter.queue,
        "class": found.filter.class_,
        "signature": found.filter.signature,
    }
    given = " ".join(f"{name}={value}" for name, value in wanted.items() if value is not None)
    print_fields(
        [
            ("redrive", found.redrive_id),
            ("state", found.state),
            ("filter", given or "all open dead letters"),
            ("per second", found.per_second),
            ("at most", found.max),
            ("matched", found.matched),
            ("done", found.done),
            ("failed", found.failed),
            ("left", found.left),
            ("last error", found.last_error),
            ("created", found.created_at),
            ("by", found.created_by),
            ("reason", found.reason),
            ("ticket", found.ticket),
            ("changed", found.changed_at),
        ]
    )
