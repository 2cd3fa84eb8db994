"""`jobengine breaker`: the circuit breakers of sources."""

from itertools import islice
from typing import Any
from urllib.parse import quote

import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every_asked

__all__ = ["breaker"]


@click.group()
def breaker() -> None:
    """Look at the breakers of sources, and force them."""


@breaker.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_breakers(engine: Engine, output: Form, limit: int) -> None:
    """List the breakers, by source."""
    pages = every_asked(lambda query: ask(engine, "GET", "/breakers", query=query))
    found = list(islice(pages, limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("SOURCE", "POSITION", "CAUSE", "FAILED", "OF", "OPENS"),
        [
            (
                one["sourceId"],
                one["position"],
                one.get("cause"),
                one["failures"],
                one["outcomes"],
                one.get("opensAt"),
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
        path = f"/breakers/{quote(source_id, safe='')}:{name}"
        done = ask(engine, "POST", path, {}, reason=reason, ticket=ticket)
        _print_breaker(done, output)


_force("open", "Let nothing of SOURCE start until it is released or closed.")
_force("close", "Let jobs of SOURCE start, whatever it answers.")
_force("release", "Let the breaker judge by what it sees again.")


def _print_breaker(found: dict[str, Any], output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("source", found["sourceId"]),
            ("position", found["position"]),
            ("cause", found.get("cause")),
            ("opens", found.get("opensAt")),
        ]
    )
