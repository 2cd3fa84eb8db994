"""`jobengine breaker`: the circuit breakers of sources."""

from itertools import islice
from typing import TYPE_CHECKING

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every

if TYPE_CHECKING:
    from jobengine.wire.sources import BreakerView

__all__ = ["breaker"]


@click.group()
def breaker() -> None:
    """Look at the breakers of sources, and force them."""


@breaker.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_breakers(engine: Engine, output: Form, limit: int) -> None:
    """List the breakers, by source."""
    with engine.client() as client:
        found = list(islice(every(client.breakers_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("SOURCE", "POSITION", "CAUSE", "FAILED", "OF", "OPENS"),
        [
            (
                one.source_id,
                one.position,
                one.cause,
                one.failures,
                one.outcomes,
                one.opens_at,
            )
            for one in found
        ],
    )


def _force(name: str, what: str) -> None:
    @breaker.command(name, help=what)
    @click.argument("source_id", metavar="SOURCE")
    @audited
    @engine_options
    def force(engine: Engine, output: Form, source_id: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            operate = getattr(client, f"{name}_breaker")
            _print_breaker(operate(source_id, reason=reason, ticket=ticket), output)


_force("open", "Let nothing of SOURCE start until it is released or closed.")
_force("close", "Let jobs of SOURCE start, whatever it answers.")
_force("release", "Let the breaker judge by what it sees again.")


def _print_breaker(found: "BreakerView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("source", found.source_id),
            ("position", found.position),
            ("cause", found.cause),
            ("opens", found.opens_at),
        ]
    )
