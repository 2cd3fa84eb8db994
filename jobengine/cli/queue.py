"""`jobengine queue`: why the jobs of a queue do not start."""

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.explaining import waits_for
from jobengine.cli.output import Form, print_json, print_table

__all__ = ["queue"]


@click.group()
def queue() -> None:
    """Look at the queues of a tenant."""


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option(
    "--count", type=click.IntRange(1, 100), default=20, show_default=True, help="Jobs to look at."
)
@engine_options
def explain(engine: Engine, output: Form, name: str, count: int) -> None:
    """Show why the first jobs of QUEUE do not start."""
    with engine.client() as client:
        found = client.explain_queue(name, count=count)
    if output == "json":
        print_json(found)
        return
    if not found.items:
        print(f"nothing waits in {name}")
        return
    print_table(
        ("JOB", "POSITION", "STARTS", "WAITS FOR"),
        [(one.job_id, one.position, one.estimated_start_at, waits_for(one)) for one in found.items],
    )
    if found.closed:
        print()
        print_table(
            ("GATE", "KEY", "JOBS"), [(gate.gate, gate.key, gate.jobs) for gate in found.closed]
        )
