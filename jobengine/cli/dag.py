"""`jobengine dag`: templates of runs, registered in versions."""

from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table

if TYPE_CHECKING:
    from jobengine.wire.documents import DagTemplateView

__all__ = ["dag"]

_REGISTER_HELP: Final = """Register the DAG in FILE (- is stdin) as its next version, and show that.

\b
{"dagId": "nightly", "inputs": {"type": "object", "required": ["day"]}, "jobs": [
  {"key": "fetch", "jobType": "osv.fetch", "payload": {"day": "${inputs.day}"}},
  {"key": "report", "jobType": "report.write", "dependsOn": ["fetch"]}]}
"""


@click.group()
def dag() -> None:
    """DAGs: templates of runs, in versions that never change."""


@dag.command(help=_REGISTER_HELP)
@click.argument("file", metavar="FILE")
@engine_options
def register(engine: Engine, output: Form, file: str) -> None:
    from jobengine.cli.run_documents import checked, read_document
    from jobengine.wire.documents import DagRequest

    request = checked(file, read_document(file), DagRequest)
    with engine.client() as client:
        _print_dag(client.register_dag(request), output)


@dag.command("list")
@click.option("--dag", "dag_id", help="Versions of this DAG only.")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_dags(engine: Engine, output: Form, dag_id: str | None, limit: int) -> None:
    """List DAGs by id and version."""
    from functools import partial

    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(islice(every(partial(client.dags_page, dag_id=dag_id)), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("DAG", "VERSION", "STATE", "CREATED", "BY", "DIGEST"),
        [
            (one.dag_id, one.version, one.state, one.created_at, one.created_by, one.digest)
            for one in found
        ],
    )


@dag.command()
@click.argument("dag_id", metavar="DAG")
@click.argument("version", metavar="[VERSION]", type=click.IntRange(1), required=False)
@engine_options
def show(engine: Engine, output: Form, dag_id: str, version: int | None) -> None:
    """Show VERSION of a DAG; its newest when none is named."""
    with engine.client() as client:
        _print_dag(client.dag(dag_id, version), output)


def _switch(name: str, what: str) -> None:
    @dag.command(name, help=what)
    @click.argument("dag_id", metavar="DAG")
    @click.argument("version", metavar="VERSION", type=click.IntRange(1))
    @audited
    @engine_options
    def switch(
        engine: Engine, output: Form, dag_id: str, version: int, reason: str, ticket: str
    ) -> None:
        with engine.client() as client:
            turn = getattr(client, f"{name}_dag")
            _print_dag(turn(dag_id, version, reason=reason, ticket=ticket), output)


_switch("disable", "Let no new run use VERSION of a DAG; runs that are under way go on.")
_switch("enable", "Let new runs use VERSION of a DAG again.")


def _print_dag(found: "DagTemplateView", output: Form) -> None:
    import msgspec

    from jobengine.wire.runs import NodeRequest

    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("dag", found.dag_id),
            ("version", found.version),
            ("state", found.state),
            ("description", found.description or None),
            ("fail fast", "yes" if found.fail_fast else None),
            ("inputs", bytes(found.inputs).decode()),
            ("digest", found.digest),
            ("created", f"{found.created_at} by {found.created_by}"),
            ("disabled", found.disabled_at),
        ]
    )
    print()
    nodes = msgspec.json.decode(found.jobs, type=list[NodeRequest])
    print_table(
        ("KEY", "KIND", "TYPE", "AFTER"),
        [
            (node.key, node.kind, node.job_type, ", ".join(node.depends_on) or None)
            for node in nodes
        ],
    )
