"""`jobengine demo`: real workers on real input, to be watched."""

import sys
from pathlib import Path

import click

from jobengine.cli.failure import CommandFailedError
from jobengine.cli.node_options import configured

__all__ = ["demo"]


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where its engine, logs and report are left; default: demo/ in the data directory.",
)
def demo(data: Path | None) -> int:
    """Match the packages of this machine against published advisories, with three workers.

    A source that refuses for a while and a worker that is killed are part of it. Takes half a
    minute, ends by itself, and exits 0 only if nothing was lost.
    """
    data_dir = data or configured().data_dir / "demo"
    try:
        from jobengine.demo.run import run_demo

        return run_demo(data_dir=data_dir, output=sys.stdout)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jobengine"):
            raise
        raise CommandFailedError(
            f"the demo needs {error.name}, which is not installed: "
            "pip install 'jobengine[demo,embedded]'"
        ) from None
