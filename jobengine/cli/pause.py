"""`jobengine pause` and `jobengine resume`: let nothing of a tenant or queue start.

Sources and quotas are paused by their own commands.
"""

from itertools import islice
from typing import Any

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every

__all__ = ["pause", "resume"]


@click.group()
def pause() -> None:
    """Let no job of the tenant or of a queue start, and list what is paused."""


@click.group()
def resume() -> None:
    """Let jobs of the tenant or of a queue start again."""


@pause.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_pauses(engine: Engine, output: Form, limit: int) -> None:
    """List what is paused: the tenant, queues and sources."""
    with engine.client() as client:
        found = list(islice(every(client.pauses_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(("OF", "KEY", "SINCE"), [(one.scope, one.key, one.changed_at) for one in found])


def _of_tenant(group: click.Group, verb: str, what: str) -> None:
    @group.command("tenant", help=what)
    @audited
    @engine_options
    def switch(engine: Engine, output: Form, reason: str, ticket: str) -> None:
        with engine.client() as client:
            _print_pause(getattr(client, f"{verb}_tenant")(reason=reason, ticket=ticket), output)


def _of_queue(group: click.Group, verb: str, what: str) -> None:
    @group.command("queue", help=what)
    @click.argument("queue", metavar="QUEUE")
    @audited
    @engine_options
    def switch(engine: Engine, output: Form, queue: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            operate = getattr(client, f"{verb}_queue")
            _print_pause(operate(queue, reason=reason, ticket=ticket), output)


_of_tenant(pause, "pause", "Let no job of the tenant start; what runs goes on.")
_of_queue(pause, "pause", "Let no job of QUEUE start; what runs goes on.")
_of_tenant(resume, "resume", "Let jobs of the tenant start again.")
_of_queue(resume, "resume", "Let jobs of QUEUE start again.")


def _print_pause(found: Any, output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("of", f"{found.scope} {found.key}" if found.key else found.scope),
            ("paused", "yes" if found.paused else "no"),
            ("since", found.changed_at if found.paused else None),
        ]
    )
