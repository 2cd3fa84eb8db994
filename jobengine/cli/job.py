"""`jobengine job`: jobs, one at a time, through the REST interface of a running engine."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.job_logs import logs
from jobengine.cli.output import Form, print_fields, print_json, print_table

if TYPE_CHECKING:
    from jobengine.sdk import Client
    from jobengine.wire.jobs import JobFailure, JobView

__all__ = ["failure_text", "job", "print_job"]

_STATES: Final = ("pending", "scheduled", "running", "completed", "failed", "cancelled")


@click.group()
def job() -> None:
    """Submit jobs, look at them, and operate on them."""


@job.command()
@click.argument("job_type", metavar="TYPE")
@click.option("--payload", default="{}", help="JSON for the worker, @FILE, or - for stdin.")
@click.option("--queue", help="Which workers get it; the job type when not named.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, 9 goes first; default 5.")
@click.option("--max-retries", type=click.IntRange(0, 100), help="Default 3.")
@click.option("--lease-seconds", type=click.IntRange(1, 3600), help="Default 30.")
@click.option("--timeout-seconds", type=click.IntRange(1), help="Longest run of one attempt.")
@click.option("--unique-key", help="At most one unfinished job of this type has it.")
@click.option("--project", "project_id", help="The project it is of.")
@click.option("--source", "source_id", help="The source it talks to.")
@click.option("--cost", type=click.IntRange(1), help="Tokens that it takes; default 1.")
@click.option("--concurrency-key", help="Of jobs with one key only so many run at once.")
@click.option("--concurrency-limit", type=click.IntRange(1), help="How many; default 1.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--hold", is_flag=True, help="Create it held; `job release` lets it go.")
@click.option("--idempotency-key", help="The same key again answers the same job.")
@click.option("--wait", type=float, metavar="SECONDS", help="Wait until it has finished.")
@engine_options
def submit(
    engine: Engine,
    output: Form,
    job_type: str,
    payload: str,
    labels: tuple[str, ...],
    hold: bool,
    idempotency_key: str | None,
    wait: float | None,
    **fields: Any,
) -> int:
    """Create one job of TYPE and show it.

    With --wait, exits 0 only if the job completed, 1 if it ended otherwise or not in time.
    """
    import msgspec

    given = {name: value for name, value in fields.items() if value is not None}
    if "concurrency_key" in given:
        given.setdefault("concurrency_limit", 1)
    if labels:
        given["labels"] = _labels(labels)
    if hold:
        given["hold"] = True
    with engine.client() as client:
        try:
            created = client.submit(
                job_type, _payload(payload), idempotency_key=idempotency_key, **given
            )
        except msgspec.ValidationError as error:
            raise click.UsageError(str(error)) from None
        if wait is not None:
            created = _finished(client, created.job_id, wait)
    print_job(created, output)
    return ExitCode.OK if wait is None or created.state == "completed" else ExitCode.ERROR


@job.command("list")
@click.option("--state", type=click.Choice(_STATES), help="In this state only.")
@click.option("--type", "job_type", help="Of this type only.")
@click.option("--queue", help="Of this queue only.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@engine_options
def list_jobs(engine: Engine, output: Form, limit: int, **filters: Any) -> None:
    """List jobs, newest first."""
    with engine.client() as client:
        page_size = min(limit, 500)
        jobs = list(islice(client.list(page_size=page_size, **filters), limit))
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


def print_job(found: "JobView", output: Form) -> None:
    """One job, whole."""
    import msgspec

    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("job", found.job_id),
            ("type", found.job_type),
            ("queue", found.queue),
            ("state", found.state),
            ("reason", found.reason),
            ("priority", found.priority),
            ("attempt", f"{found.attempt} (failures {found.failures} of {found.max_retries + 1})"),
            ("held", "yes" if found.hold else None),
            ("labels", " ".join(f"{k}={v}" for k, v in found.labels.items()) or None),
            ("created", found.created_at),
            ("started", found.started_at),
            ("finished", found.finished_at),
            ("payload", bytes(found.payload).decode()),
            ("result", None if found.result is msgspec.UNSET else bytes(found.result).decode()),
            ("error", failure_text(found.error)),
            ("replay of", found.replay_of),
        ]
    )


def failure_text(error: "JobFailure | None") -> str | None:
    """Class and message of a failure, on one line."""
    return None if error is None else f"{error.class_}: {' '.join(error.message.split())}"


def _finished(client: "Client", job_id: str, wait_s: float) -> "JobView":
    try:
        return client.wait(job_id, wait_s)
    except TimeoutError as error:
        raise CommandFailedError(str(error)) from None


def _payload(text: str) -> Any:
    import msgspec

    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        elif text.startswith("@"):
            data = Path(text[1:]).read_bytes()
        else:
            data = text.encode()
        msgspec.json.decode(data)
    except OSError as error:
        raise click.UsageError(f"--payload {text}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise click.UsageError(f"--payload is not JSON: {error}") from None
    return msgspec.Raw(data)


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for one in given:
        name, divided, value = one.partition("=")
        if not divided or not name:
            raise click.UsageError(f"--label {one}: write NAME=VALUE")
        labels[name] = value
    return labels
