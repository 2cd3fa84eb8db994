"""`jobengine run`: records of runs, as auditors read them."""

import sys
from datetime import UTC, datetime

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.output import Form, json_text, print_fields, print_json, print_table
from jobengine.cli.run_printing import took

__all__ = ["export", "record"]


@click.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def record(engine: Engine, output: Form, run_id: str) -> None:
    """Show what stays of a run, with a step for each of its jobs."""
    with engine.client() as client:
        found = client.run_record(run_id)
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("tenant", found.tenant),
            ("run", found.run_id),
            ("dag", None if found.dag_id is None else f"{found.dag_id} {found.dag_version}"),
            ("token", found.run_token),
            ("trace", found.trace_id),
            ("status", found.status),
            ("inputs hash", found.inputs_hash),
            ("outputs hash", found.outputs_hash),
            ("started", found.started_utc),
            ("ended", found.ended_utc),
            ("took", took(found.duration_ms)),
        ]
    )
    print()
    print_table(
        ("STEP", "STATUS", "ATTEMPT", "TOOK", "ERROR", "INPUTS HASH", "OUTPUTS HASH"),
        [
            (
                step.step_id,
                step.status,
                step.attempt,
                took(step.duration_ms),
                step.error_code,
                step.inputs_hash,
                step.outputs_hash,
            )
            for step in found.steps
        ],
    )


@click.command()
@click.option("--from", "started_from", required=True, help="Started then or later; RFC 3339.")
@click.option("--to", "started_before", help="Started before then; now when not named.")
@engine_options
def export(engine: Engine, output: Form, started_from: str, started_before: str | None) -> None:
    """Export the records of ended runs by start and id, a line of JSON each, in either --output."""
    until = started_before or datetime.now(UTC).isoformat(timespec="milliseconds")
    with engine.client() as client:
        for found in client.export_runs(started_from, until):
            sys.stdout.write(json_text(found) + "\n")
