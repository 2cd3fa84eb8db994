"""`jobengine run`: runs, begun, found, shown and watched.

Not here: what is done to a run (`run_acts`), records for auditors (`run_records`).
"""

from itertools import islice
from typing import Any, Final

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.output import Form, print_json, print_table
from jobengine.cli.run_acts import (
    approve,
    callbacks,
    cancel,
    extend,
    reject,
    replay_from,
    retry_failed,
)
from jobengine.cli.run_printing import dag_of, print_run, took
from jobengine.cli.run_records import export, record

__all__ = ["run"]

_SUBMIT_HELP: Final = """Begin a run: of the JSON document in FILE (- is stdin), or of a DAG.

\b
{"runToken": "nightly-7", "jobs": [
  {"key": "fetch", "jobType": "osv.fetch"},
  {"key": "match", "jobType": "sbom.match", "dependsOn": ["fetch"]}]}
"""

_STATES: Final = ("pending", "running", "completed", "failed", "cancelled")


@click.group()
def run() -> None:
    """Runs: jobs that depend on each other, begun and ended as one."""


@run.command(help=_SUBMIT_HELP)
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--dag", "dag_id", help="Run this registered DAG instead of a file.")
@click.option("--version", type=click.IntRange(1), help="That version of it; the newest.")
@click.option(
    "--input",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="One input; VALUE is JSON where it can be, else text. May be repeated.",
)
@click.option("--inputs", "inputs_file", metavar="FILE", help="All inputs, a JSON object.")
@click.option("--run-token", help="The same token again answers the same run; made when absent.")
@click.option("--watch", is_flag=True, help="Show it until it has ended, as `run watch` does.")
@engine_options
def submit(
    engine: Engine,
    output: Form,
    file: str | None,
    dag_id: str | None,
    version: int | None,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    run_token: str | None,
    watch: bool,
) -> int:
    from jobengine.cli.run_documents import inputs_of, run_request
    from jobengine.cli.run_watch import watch_run

    request = run_request(file, dag_id, version, inputs_of(pairs, inputs_file), run_token)
    with engine.client() as client:
        begun = client.create_run(request)
        if watch:
            return watch_run(client, begun.run_id, output)
    print_run(begun, output)
    return 0


@run.command("list")
@click.option(
    "--state", "state", multiple=True, type=click.Choice(_STATES), help="May be repeated."
)
@click.option("--dag", "dag_id", help="Of this DAG only.")
@click.option("--project", help="Of this project only.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_runs(engine: Engine, output: Form, limit: int, **filters: Any) -> None:
    """List runs, newest first."""
    with engine.client() as client:
        found = list(islice(client.runs(page_size=min(limit, 500), **filters), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("RUN", "TOKEN", "DAG", "STATE", "NODES", "CREATED", "TOOK"),
        [
            (
                one.run_id,
                one.run_token,
                dag_of(one),
                one.state,
                one.nodes,
                one.created_at,
                took(one.duration_ms),
            )
            for one in found
        ],
    )


@run.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def show(engine: Engine, output: Form, run_id: str) -> None:
    """Show one run."""
    with engine.client() as client:
        print_run(client.run_state(run_id), output)


@run.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def watch(engine: Engine, output: Form, run_id: str) -> int:
    """Show a run live until it has ended; exits 0 only if it completed.

    On a terminal the graph is redrawn; elsewhere every change is a line. Goes on when the engine
    restarts.
    """
    from jobengine.cli.run_watch import watch_run

    with engine.client() as client:
        return watch_run(client, run_id, output)


@run.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "json"]),
    default="text",
    show_default=True,
    help="dot is for Graphviz.",
)
@engine_options
def dag(engine: Engine, output: Form, run_id: str, form: str) -> None:
    """Show the graph of a run by levels; * marks its critical path."""
    from jobengine.cli.run_text import dag_rows, dot_lines

    with engine.client() as client:
        graph = client.run_dag(run_id)
    if form == "dot":
        print("\n".join(dot_lines(graph)))
    elif form == "json" or output == "json":
        print_json(graph)
    else:
        print_table(*dag_rows(graph))


@run.command()
@click.argument("run_id", metavar="RUN")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="Jobs.")
@engine_options
def gantt(engine: Engine, output: Form, run_id: str, limit: int) -> None:
    """Show when the jobs of a run queued, ran and backed off, as wide as the terminal."""
    with engine.client() as client:
        chart = client.run_gantt(run_id)
    if output == "json":
        print_json(chart)
        return
    from rich.console import Console

    from jobengine.cli.run_chart import chart_lines

    console = Console(highlight=False)
    for line in chart_lines(chart, console.width, limit):
        console.print(line, no_wrap=True, crop=True, overflow="crop")


for command in (
    cancel,
    retry_failed,
    replay_from,
    extend,
    approve,
    reject,
    callbacks,
    record,
    export,
):
    run.add_command(command)
