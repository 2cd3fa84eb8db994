"""`jobengine workers`: the workers that are attached to a running engine."""

from itertools import islice
from typing import TYPE_CHECKING

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table

if TYPE_CHECKING:
    from jobengine.wire.operating import WorkerView

__all__ = ["workers"]


@click.group()
def workers() -> None:
    """Look at the workers that are attached, and drain them."""


@workers.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_workers(engine: Engine, output: Form, limit: int) -> None:
    """List the workers that are attached, by id."""
    with engine.client() as client:
        found = list(islice(client.workers(), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("WORKER", "TASK RUNNER", "TAKES", "LEASES", "CAPACITY", "CREDIT", "STATE", "CONNECTED"),
        [
            (
                one.worker_id,
                one.task_runner_id,
                _takes(one),
                one.leases,
                one.capacity,
                one.credit,
                _state(one),
                one.connected_at,
            )
            for one in found
        ],
    )


@workers.command()
@click.argument("worker_id", metavar="WORKER")
@engine_options
def show(engine: Engine, output: Form, worker_id: str) -> None:
    """Show one attached worker."""
    with engine.client() as client:
        _print_worker(client.worker(worker_id), output)


@workers.command()
@click.argument("worker_id", metavar="WORKER")
@click.option(
    "--within",
    "within_s",
    type=click.IntRange(1, 86_400),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="By when it should have ended what it holds.",
)
@audited
@engine_options
def drain(
    engine: Engine, output: Form, worker_id: str, within_s: int, reason: str, ticket: str
) -> None:
    """Grant a worker no more leases, and tell it to finish or release what it holds.

    It holds for the connections that the worker has now: one that connects again is served again.
    """
    with engine.client() as client:
        drained = client.drain_worker(worker_id, reason=reason, ticket=ticket, within_s=within_s)
    _print_worker(drained, output)


def _print_worker(found: "WorkerView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("worker", found.worker_id),
            ("task runner", found.task_runner_id),
            ("state", _state(found)),
            ("queues", " ".join(found.queues) or None),
            ("job types", " ".join(found.job_types) or None),
            ("capacity", found.capacity),
            ("leases", found.leases),
            ("credit", found.credit),
            ("connections", found.sessions),
            ("connected", found.connected_at),
            ("heartbeat", found.last_heartbeat_at),
        ]
    )


def _takes(found: "WorkerView") -> str | None:
    return " ".join([*found.queues, *found.job_types]) or None


def _state(found: "WorkerView") -> str:
    return "draining" if found.draining else "attached"
