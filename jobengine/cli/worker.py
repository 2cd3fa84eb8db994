"""`jobengine worker`: runs a worker that is written with the SDK."""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobengine.cli.configuration import LOG_LEVELS
from jobengine.cli.connection import file_of_token, unsendable_text
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.logs import log_to_stderr

if TYPE_CHECKING:
    from jobengine.sdk import Worker

__all__ = ["worker"]


@click.group()
def worker() -> None:
    """Run workers."""


@worker.command()
@click.argument("target", metavar="MODULE:ATTRIBUTE")
@click.option("--url", envvar="JOBENGINE_WORKER_URL", show_envvar=True, help="The workers' door.")
@click.option("--token", envvar="JOBENGINE_TOKEN", show_envvar=True, help="Needs orch:work.")
@click.option(
    "--token-file",
    metavar="FILE",
    envvar="JOBENGINE_TOKEN_FILE",
    show_envvar=True,
    help="A file with the token, read at every connection, so that it can be renewed.",
)
@click.option("--tenant", envvar="JOBENGINE_TENANT", show_envvar=True, help="Whose jobs.")
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    show_default=True,
    help="What is logged to stderr.",
)
def run(
    target: str,
    url: str | None,
    token: str | None,
    token_file: str | None,
    tenant: str | None,
    log_level: str,
) -> None:
    """Run the worker that MODULE names ATTRIBUTE, until SIGTERM or Ctrl-C.

    MODULE is imported in this process, with the current directory on its path; ATTRIBUTE is a
    jobengine.sdk.Worker. What the module itself says about URL, token and tenant goes before the
    options. The first signal lets running jobs finish, the second gives them back.
    """
    from jobengine.sdk import UnsendableError, WorkerRejectedError
    from jobengine.sdk.addresses import AddressError
    from jobengine.sdk.trust import TrustUnusableError
    from jobengine.sdk.worker import NoHandlersError

    log_to_stderr(log_level)
    for name, value in {
        "JOBENGINE_WORKER_URL": url,
        "JOBENGINE_TOKEN": token,
        "JOBENGINE_TOKEN_FILE": file_of_token(token_file),
        "JOBENGINE_TENANT": tenant,
    }.items():
        if value is not None:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    try:
        _load(target).run()
    except AddressError as error:
        raise CommandFailedError(
            f"{error}; correct --url or JOBENGINE_WORKER_URL", ExitCode.USAGE
        ) from None
    except UnsendableError as error:
        raise CommandFailedError(unsendable_text(error), ExitCode.USAGE) from None
    except NoHandlersError:
        raise CommandFailedError(
            f"{target} has no handlers: write @{target.partition(':')[2]}.handler(JOB_TYPE) above "
            "a function"
        ) from None
    except TrustUnusableError as error:
        raise CommandFailedError(str(error)) from None
    except WorkerRejectedError as error:
        raise CommandFailedError(f"{error}; check token and tenant", ExitCode.DENIED) from None


def _load(target: str) -> "Worker":
    from jobengine.sdk import Worker

    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise click.UsageError(f"{target!r} is not MODULE:ATTRIBUTE, such as tasks:worker")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise CommandFailedError(
            f"there is no module {error.name}: run this where it can be imported from"
        ) from None
    found = getattr(module, attribute, None)
    if not isinstance(found, Worker):
        what = "nothing" if found is None else f"of type {type(found).__name__}"
        raise CommandFailedError(f"{target} is {what}, not a jobengine.sdk.Worker")
    return found
