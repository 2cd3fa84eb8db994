"""`jobengine deadletter`: jobs that failed for good, kept until somebody has decided."""

from itertools import islice
from typing import Any

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.job import failure_text, print_job
from jobengine.cli.output import Form, print_fields, print_json, print_table

__all__ = ["deadletter"]


@click.group()
def deadletter() -> None:
    """Review jobs that failed for good."""


@deadletter.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_dead_letters(engine: Engine, output: Form, limit: int) -> None:
    """List dead letters, newest first."""
    with engine.client() as client:
        letters = list(islice(client.dead_letters(), limit))
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
            ("stack", letter.error.stack),
            ("signature", letter.signature),
        ]
    )
