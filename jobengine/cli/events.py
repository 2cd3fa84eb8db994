"""`jobengine events`: what happens to the tenant, a line an event, for as long as somebody looks.

An engine that is away is waited for; the stream goes on behind the last event that came.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.following import print_line, until_interrupted
from jobengine.cli.output import Form, print_json

if TYPE_CHECKING:
    from jobengine.sdk import Event

__all__ = ["events"]

_HELP: Final = """Follow the tenant's events, from now on or from behind --after. Ctrl-C ends it.

\b
jobengine events --types job.failed,run.* --job-type scan
jobengine events --after 0 --output json | jq -c '{seq, eventType}'
"""
_COLOURS: Final = {
    "cancelled": "magenta",
    "completed": "green",
    "created": "cyan",
    "dead_lettered": "red",
    "expired": "red",
    "failed": "red",
    "opened": "red",
    "paused": "yellow",
    "refused": "red",
    "retried": "yellow",
    "started": "blue",
    "throttled": "yellow",
}
_NAMES: Final = ("runId", "name", "sourceId", "webhookId", "workerId", "redriveId", "key", "digest")
"""Of what an event is about that is no job's, the first of these that it has."""


@click.command(help=_HELP)
@click.option("--types", multiple=True, metavar="NAMES", help="Such as job.failed or run.*.")
@click.option("--run", "run_id", help="Of this run and its jobs only.")
@click.option("--job-type", help="Of jobs of this type only.")
@click.option("--source", "source_id", help="Of jobs that talk to this source only.")
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="0: all that there is.")
@click.option("--limit", type=click.IntRange(1), help="End after so many.")
@engine_options
def events(
    engine: Engine,
    output: Form,
    types: tuple[str, ...],
    limit: int | None,
    **filters: Any,
) -> None:
    with engine.client() as client, until_interrupted():
        # A stream waits for an engine that is away; one that was never there is a fault.
        if (run_id := filters["run_id"]) is None:
            client.jobs_summary()
        else:
            client.run_state(run_id)
        following = client.events(types=types, **filters)
        for event in islice(following, limit):
            if output == "json":
                print_json(_document(event))
            else:
                print_line(list(_parts(event)))


def _document(event: "Event") -> Any:
    """The envelope as it came; a gap has no envelope."""
    return event.data if event.gap is None else {"gap": event.data}


def _parts(event: "Event") -> Iterator[tuple[str, str | None]]:
    if event.gap is not None:
        first, last = event.gap
        yield f"events {first} to {last} are past retention: they are in no stream any more", "red"
        return
    data = event.data
    yield data["occurredAt"], None
    yield str(data["seq"]), None
    yield event.type, _COLOURS.get(event.type.rpartition(".")[2])
    for text in _of_job(data["job"]) if "job" in data else _of_tenant(data):
        yield text, None


def _of_job(job: dict[str, Any]) -> Iterator[str]:
    yield job["type"]
    yield job["id"]
    if job["attempt"]:
        yield f"#{job['attempt']}"
    if job.get("status") is not None:
        yield f"{job['from']}→{job['status']}" if job.get("from") else job["status"]
    if job.get("reason"):
        yield job["reason"]
    progress = job.get("progress") or {}
    if progress.get("percent") is not None:
        yield f"{progress['percent']:g}%"
    if progress.get("message"):
        yield " ".join(progress["message"].split())
    error = job.get("error")
    if error:
        yield f"{error.get('class', 'Error')}: {' '.join(str(error.get('message', '')).split())}"


def _of_tenant(envelope: dict[str, Any]) -> Iterator[str]:
    data = envelope.get("data", {})
    name = next((data[name] for name in _NAMES if data.get(name)), None)
    if name is not None:
        yield str(name)
    if data.get("reason"):
        yield str(data["reason"])
    yield f"by {envelope['actor']['subject']}"
