"""`jobengine deadletter`: jobs that failed for good, kept until somebody has decided."""

import sys
from itertools import islice
from typing import Any, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.job_printing import failure_text, print_job
from jobengine.cli.output import Form, print_fields, print_json, print_lines, print_table
from jobengine.cli.redrive import filter_options, redrive

__all__ = ["deadletter"]

_STATES: Final = ("open", "replayed", "retried", "discarded")


@click.group()
def deadletter() -> None:
    """Review jobs that failed for good."""


@deadletter.command("list")
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="May be repeated.")
@filter_options
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_dead_letters(
    engine: Engine, output: Form, state: tuple[str, ...], limit: int, **filters: str | None
) -> None:
    """List dead letters, newest first; filters must all hold."""
    with engine.client() as client:
        page_size = min(limit, 500)
        found = client.dead_letters(state=state or None, page_size=page_size, **filters)
        letters = list(islice(found, limit))
    if output == "json":
        print_json(letters)
        return
    print_table(
        ("DEAD LETTER", "TYPE", "QUEUE", "STATE", "ATTEMPTS", "AT", "ERROR"),
        [
            (
                letter.dead_letter_id,
                letter.job_type,
                letter.queue,
                letter.state,
                letter.attempts,
                letter.at,
                failure_text(letter.error),
            )
            for letter in letters
        ],
    )


@deadletter.command()
@click.argument("dead_letter_id", metavar="DEAD_LETTER")
@engine_options
def show(engine: Engine, output: Form, dead_letter_id: str) -> None:
    """Show one dead letter; its job is shown by `jobengine job show` and `job history`."""
    with engine.client() as client:
        _print_dead_letter(client.dead_letter(dead_letter_id), output)


@deadletter.command()
@click.argument("dead_letter_id", metavar="DEAD_LETTER")
@audited
@engine_options
def replay(engine: Engine, output: Form, dead_letter_id: str, reason: str, ticket: str) -> None:
    """Create a new job from a dead letter, and show that."""
    with engine.client() as client:
        print_job(client.replay_dead_letter(dead_letter_id, reason=reason, ticket=ticket), output)


@deadletter.command()
@click.argument("dead_letter_id", metavar="DEAD_LETTER")
@audited
@engine_options
def retry(engine: Engine, output: Form, dead_letter_id: str, reason: str, ticket: str) -> None:
    """Schedule the failed job itself again."""
    with engine.client() as client:
        print_job(client.retry_dead_letter(dead_letter_id, reason=reason, ticket=ticket), output)


@deadletter.command()
@click.argument("dead_letter_id", metavar="DEAD_LETTER")
@audited
@engine_options
def discard(engine: Engine, output: Form, dead_letter_id: str, reason: str, ticket: str) -> None:
    """Close a dead letter for good; nothing is run."""
    with engine.client() as client:
        _print_dead_letter(
            client.discard_dead_letter(dead_letter_id, reason=reason, ticket=ticket), output
        )


@deadletter.command()
@engine_options
def stats(engine: Engine, output: Form) -> None:
    """Count dead letters by state, class, job type, queue and error signature."""
    with engine.client() as client:
        found = client.dead_letter_stats()
    if output == "json":
        print_json(found)
        return
    kinds = {
        "state": found.by_state,
        "class": found.by_class,
        "job type": found.by_job_type,
        "queue": found.by_queue,
    }
    rows: list[tuple[object, ...]] = [
        (kind, value or None, letters, None, None, None)
        for kind, counts in kinds.items()
        for value, letters in counts.items()
    ]
    rows += [
        ("signature", one.signature or None, one.letters, one.open, one.first_at, one.last_at)
        for one in found.signatures
    ]
    print_table(("BY", "VALUE", "LETTERS", "OPEN", "FIRST", "LAST"), rows)
    _print_incomplete(found.complete, found.letters)


@deadletter.command()
@filter_options
@click.option("--top", type=click.IntRange(1, 50), help="How many signatures; default 10.")
@engine_options
def summary(engine: Engine, output: Form, top: int | None, **filters: str | None) -> None:
    """Show the commonest errors of open dead letters: what `redrive start` would replay."""
    with engine.client() as client:
        found = client.dead_letter_summary(top=top, **filters)
    if output == "json":
        print_json(found)
        return
    print_table(
        ("SIGNATURE", "CLASS", "TYPE", "LETTERS", "FIRST", "LAST", "SAMPLE", "ERROR"),
        [
            (
                group.signature,
                group.class_,
                group.job_type,
                group.letters,
                group.first_at,
                group.last_at,
                group.sample.dead_letter_id,
                failure_text(group.sample.error),
            )
            for group in found.items
        ],
    )
    _print_incomplete(found.complete, found.letters)


deadletter.add_command(redrive)


def _print_incomplete(complete: bool, letters: int) -> None:
    if not complete:
        print(f"There are more; these are the newest {letters}.", file=sys.stderr)


def _print_dead_letter(letter: Any, output: Form) -> None:
    if output == "json":
        print_json(letter)
        return
    print_fields(
        [
            ("dead letter", letter.dead_letter_id),
            ("job", letter.job_id),
            ("type", letter.job_type),
            ("queue", letter.queue),
            ("state", letter.state),
            ("at", letter.at),
            ("attempts", letter.attempts),
            ("error", failure_text(letter.error)),
            ("signature", letter.signature),
        ]
    )
    if letter.error.stack:
        print_lines("stack", letter.error.stack)
