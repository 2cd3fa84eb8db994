"""`jobengine job`: jobs, one at a time, through the REST interface of a running engine."""

from itertools import islice
from typing import Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.job_logs import logs
from jobengine.cli.job_printing import failure_text, print_job
from jobengine.cli.job_submitting import labels_of, submit, submit_many
from jobengine.cli.output import Form, print_json, print_table

__all__ = ["job"]

_STATES: Final = ("pending", "scheduled", "running", "completed", "failed", "cancelled")


@click.group()
def job() -> None:
    """Submit jobs, look at them, and operate on them."""


@job.command("list")
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="May be repeated.")
@click.option("--type", "job_type", help="Of this type only.")
@click.option("--queue", help="Of this queue only.")
@click.option("--run", "run_id", help="Of this run only.")
@click.option("--source", "source_id", help="Of those that talk to this source only.")
@click.option("--label", metavar="NAME=VALUE", help="With this label only.")
@click.option("--project", help="Of this project only.")
@click.option("--from", "created_from", metavar="INSTANT", help="Created then or later.")
@click.option("--before", "created_before", metavar="INSTANT", help="Created before then.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_jobs(
    engine: Engine,
    output: Form,
    state: tuple[str, ...],
    label: str | None,
    limit: int,
    **filters: str | None,
) -> None:
    """List jobs, newest first; filters must all hold.

    An INSTANT is written as in RFC 3339: 2026-12-24T18:00:00Z.
    """
    if label is not None:
        [(name, value)] = labels_of((label,)).items()
        label = f"{name}:{value}"
    with engine.client() as client:
        page_size = min(limit, 500)
        found = client.list(state=state or None, label=label, page_size=page_size, **filters)
        jobs = list(islice(found, limit))
    if output == "json":
        print_json(jobs)
        return
    print_table(
        ("JOB", "TYPE", "QUEUE", "STATE", "ATTEMPT", "CREATED", "REASON"),
        [
            (
                one.job_id,
                one.job_type,
                one.queue,
                one.state,
                one.attempt,
                one.created_at,
                one.reason,
            )
            for one in jobs
        ],
    )


@job.command()
@click.argument("job_id", metavar="JOB")
@engine_options
def show(engine: Engine, output: Form, job_id: str) -> None:
    """Show one job."""
    with engine.client() as client:
        found = client.get(job_id)
    print_job(found, output)


@job.command()
@click.argument("job_id", metavar="JOB")
@engine_options
def history(engine: Engine, output: Form, job_id: str) -> None:
    """Show every change of a job's state, oldest first."""
    with engine.client() as client:
        items = client.history(job_id)
    if output == "json":
        print_json(items)
        return
    print_table(
        ("SEQ", "AT", "FROM", "TO", "ATTEMPT", "REASON", "ACTOR", "WORKER", "ERROR"),
        [
            (
                item.seq,
                item.at,
                item.from_,
                item.to,
                item.attempt,
                item.reason,
                item.actor,
                item.worker_id,
                failure_text(item.error),
            )
            for item in items
        ],
    )


@job.command()
@click.argument("job_id", metavar="JOB")
@engine_options
def explain(engine: Engine, output: Form, job_id: str) -> None:
    """Show why a job does not start: every closed gate, and what opens it."""
    from jobengine.cli.explaining import print_explanation

    with engine.client() as client:
        found = client.explain(job_id)
    if output == "json":
        print_json(found)
    else:
        print_explanation(found)


def _operation(name: str, what: str) -> None:
    """A command that operates on one job and shows it, or the new one, afterwards."""

    @job.command(name, help=what)
    @click.argument("job_id", metavar="JOB")
    @audited
    @engine_options
    def operate(engine: Engine, output: Form, job_id: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            print_job(getattr(client, name)(job_id, reason=reason, ticket=ticket), output)


_operation("cancel", "Cancel a job; a running one is cancelled when its worker has stopped.")
_operation("retry", "Schedule a failed job again.")
_operation("replay", "Create a new job from a finished one, and show that.")


@job.command()
@click.argument("job_id", metavar="JOB")
@click.argument("priority", metavar="PRIORITY", type=click.IntRange(0, 9))
@audited
@engine_options
def prioritize(
    engine: Engine, output: Form, job_id: str, priority: int, reason: str, ticket: str
) -> None:
    """Give a waiting job another PRIORITY, 0 to 9; 9 goes first."""
    with engine.client() as client:
        print_job(client.prioritize(job_id, priority, reason=reason, ticket=ticket), output)


@job.command()
@click.argument("job_id", metavar="JOB")
@click.option("--reason", help="Why; needed unless the token may submit.")
@click.option("--ticket", help="Where it was decided; needed unless the token may submit.")
@engine_options
def release(
    engine: Engine, output: Form, job_id: str, reason: str | None, ticket: str | None
) -> None:
    """Let go of a job that was created with --hold."""
    with engine.client() as client:
        print_job(client.release(job_id, reason=reason, ticket=ticket), output)


job.add_command(logs)
job.add_command(submit)
job.add_command(submit_many)
