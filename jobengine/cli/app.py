"""The command `jobengine`: its commands, and how it ends.

Commands import what they run with when they run, so that `--help` and completion are quick.
"""

import os
import sys

import click

from jobengine import __version__
from jobengine.cli.apikey import apikey
from jobengine.cli.artifact import artifact
from jobengine.cli.blackout import blackout
from jobengine.cli.breaker import breaker
from jobengine.cli.completion import completion
from jobengine.cli.config import config
from jobengine.cli.dag import dag
from jobengine.cli.database import database
from jobengine.cli.deadletter import deadletter
from jobengine.cli.demo import demo
from jobengine.cli.events import events
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.governance import governance
from jobengine.cli.job import job
from jobengine.cli.openapi import openapi
from jobengine.cli.output import printable_lines
from jobengine.cli.pack import pack
from jobengine.cli.pause import pause, resume
from jobengine.cli.queue import queue
from jobengine.cli.quota import quota
from jobengine.cli.run import run
from jobengine.cli.serve import serve
from jobengine.cli.sim import sim
from jobengine.cli.source import source
from jobengine.cli.throttle import throttle, weight
from jobengine.cli.token import token
from jobengine.cli.up import up
from jobengine.cli.webhook import webhook
from jobengine.cli.worker import worker
from jobengine.cli.workers import workers

__all__ = ["jobengine", "main"]


class _InOrder(click.Group):
    """Lists commands in the order in which they were added."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jobengine", message="%(prog)s %(version)s")
def jobengine() -> None:
    """Schedule, observe and recover jobs, and keep a ledger of what was done.

    `jobengine up` starts everything on this machine; `jobengine demo` shows it at work.
    """


for command in (
    up,
    serve,
    demo,
    worker,
    workers,
    job,
    run,
    dag,
    pack,
    events,
    queue,
    artifact,
    deadletter,
    source,
    quota,
    throttle,
    weight,
    breaker,
    blackout,
    pause,
    resume,
    governance,
    webhook,
    token,
    apikey,
    database,
    config,
    sim,
    openapi,
    completion,
):
    jobengine.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; answers the exit code (see `ExitCode`).

    A fault that no command foresaw leaves with its traceback, and Python ends with 1.
    """
    try:
        result = jobengine.main(arguments, prog_name="jobengine", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.ERROR
    except click.ClickException as error:
        error.show()
        return ExitCode.ERROR
    except CommandFailedError as failure:
        print(printable_lines(f"jobengine: {failure}"), file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:
        # The reader of the output wants no more (`… | head`); the interpreter would flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    return result if isinstance(result, int) else ExitCode.OK
