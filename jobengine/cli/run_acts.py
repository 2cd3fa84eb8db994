"""`jobengine run`: what is done to a run that is there."""

from typing import Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.run_printing import print_run

__all__ = ["approve", "callbacks", "cancel", "extend", "reject", "replay_from", "retry_failed"]

_EXTEND_HELP: Final = """Add the jobs and edges in FILE (- is stdin) to a run that is under way.

\b
{"jobs": [{"key": "extra", "jobType": "scan", "dependsOn": ["fetch"]}],
 "edges": [{"from": "extra", "to": "report"}]}
"""

_new_token = click.option("--run-token", help="Of the new run; made when absent.")


@click.command(help=_EXTEND_HELP)
@click.argument("run_id", metavar="RUN")
@click.argument("file", metavar="FILE")
@engine_options
def extend(engine: Engine, output: Form, run_id: str, file: str) -> None:
    from jobengine.cli.run_documents import checked, read_document
    from jobengine.wire.runs import ExtendRequest

    growth = checked(file, read_document(file), ExtendRequest)
    with engine.client() as client:
        added = client.extend_run(run_id, growth.jobs, growth.edges)
    if output == "json":
        print_json(added)
    else:
        print_fields([("run", added.run_id), ("added", f"{len(added.job_ids)} jobs")])


@click.command()
@click.argument("run_id", metavar="RUN")
@audited
@engine_options
def cancel(engine: Engine, output: Form, run_id: str, reason: str, ticket: str) -> None:
    """Give a run up: what has not ended is cancelled."""
    with engine.client() as client:
        print_run(client.cancel_run(run_id, reason=reason, ticket=ticket), output)


@click.command("retry-failed")
@click.argument("run_id", metavar="RUN")
@_new_token
@audited
@engine_options
def retry_failed(
    engine: Engine, output: Form, run_id: str, run_token: str | None, reason: str, ticket: str
) -> None:
    """Run again what did not complete, and all behind it, as a new run; shows that."""
    with engine.client() as client:
        begun = client.retry_failed(run_id, reason=reason, ticket=ticket, run_token=run_token)
    print_run(begun, output)


@click.command("replay-from")
@click.argument("run_id", metavar="RUN")
@click.argument("key", metavar="KEY")
@_new_token
@audited
@engine_options
def replay_from(
    engine: Engine,
    output: Form,
    run_id: str,
    key: str,
    run_token: str | None,
    reason: str,
    ticket: str,
) -> None:
    """Run the job KEY again, and all behind it, as a new run; shows that."""
    with engine.client() as client:
        begun = client.replay_from(run_id, key, reason=reason, ticket=ticket, run_token=run_token)
    print_run(begun, output)


def _gate(name: str, what: str) -> click.Command:
    """A command that ends one approval."""

    @click.command(name, help=what)
    @click.argument("run_id", metavar="RUN")
    @click.argument("key", metavar="KEY")
    @audited
    @engine_options
    def end(engine: Engine, output: Form, run_id: str, key: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            done = getattr(client, name)(run_id, key, reason=reason, ticket=ticket)
        if output == "json":
            print_json(done)
        else:
            print_fields([("run", done.run_id), ("approval", done.key), ("state", done.state)])

    return end


approve = _gate("approve", "Complete the approval KEY, so that the run goes on.")
reject = _gate("reject", "Fail the approval KEY.")


@click.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def callbacks(engine: Engine, output: Form, run_id: str) -> None:
    """List the callbacks that a run waits for, with the URLs that end them; keep those secret."""
    with engine.client() as client:
        found = client.run_callbacks(run_id)
    if output == "json":
        print_json(found)
        return
    print_table(
        ("KEY", "STATE", "JOB", "URL"),
        [(one.key, one.state, one.job_id, one.callback_url) for one in found],
    )
