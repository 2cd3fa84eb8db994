"""`jobengine job logs`: what the attempts of a job have written."""

from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.following import print_line, until_interrupted
from jobengine.cli.output import Form, print_json

if TYPE_CHECKING:
    from jobengine.sdk import JobLogLine

__all__ = ["logs"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_COLOURS: Final = {"debug": "bright_black", "warning": "yellow", "error": "red"}


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines that come, until JOB ends.")
@click.option("--after", metavar="ID", help="With --follow: go on behind this line.")
@click.option("--level", type=click.Choice(_LEVELS), help="Without --follow: this and graver.")
@click.option("--tail", type=click.IntRange(1, 500), help="Without --follow: the last so many.")
@engine_options
def logs(
    engine: Engine,
    output: Form,
    job_id: str,
    follow: bool,
    after: str | None,
    level: Any,
    tail: int | None,
) -> None:
    """Print the log lines of JOB, in the order they were reported.

    Followed lines are a document each in JSON, with an `id` to go on behind. Ctrl-C ends it.
    """
    if after is not None and not follow:
        raise click.UsageError("--after goes with --follow")
    if follow and (level is not None or tail is not None):
        raise click.UsageError("--level and --tail go without --follow")
    with engine.client() as client, until_interrupted():
        if follow:
            # A stream waits for an engine that is away; one that was never there is a fault.
            client.get(job_id)
        lines = client.job_logs(job_id, follow=follow, after=after, level=level, tail=tail)
        if output == "json" and not follow:
            print_json(list(lines))
            return
        for line in lines:
            if output == "json":
                print_json(line)
            else:
                _print(line)


def _print(line: "JobLogLine") -> None:
    colour = _COLOURS.get(line.level)
    print_line(
        [(line.at, None), (f"#{line.attempt}", None), (line.level, colour), (line.text, None)]
    )
