"""Other queues, and how they come to be installed."""

from typing import Any, Final

import click

from bench.commands.running import finish, payload_option, split_options
from bench.commands.sections import Section
from bench.harness.options import target_options
from bench.peers import benchmark
from bench.peers.cases import CASES, PeersCase
from bench.peers.installation import Installation, install

__all__ = ["SECTION"]


@click.command(name="peers")
@target_options
@payload_option
@click.option("--seconds-max", default=10.0, help="Whoever takes longer is cut short.")
@click.option("--seconds", default=5.0, help="How long the rate of pick-ups is held.")
@click.option("--rate", default=200, help="Submits/s of pick-ups.")
@click.option("--backlog", default=20_000, help="Jobs that are drained.")
@click.option("--jobs", default=20_000, help="Jobs end to end and in bulk; a tenth of it single.")
@click.option("--case", "parts", multiple=True, type=click.Choice(tuple(CASES)))
@click.option("--peer", "names", multiple=True, metavar="NAME", help="Not all that are there.")
@click.option("--python", metavar="PATH", help="With --install; default: the newest on the path.")
@click.option(
    "--install", "installing", is_flag=True, help="Install the peers into .venv-peers, and end."
)
def run_peers(
    installing: bool,
    python: str | None,
    names: tuple[str, ...],
    parts: tuple[str, ...],
    **given: Any,
) -> None:
    """Other queues on PostgreSQL, beside ours on the same server."""
    if installing:
        for name, version in finish(lambda: install(Installation(), python)).items():
            click.echo(f"{name} {version or 'is not installed'}")
        return
    options, own = split_options(given)
    finish(lambda: benchmark.run(options, PeersCase(**own), names=names, parts=parts)).show()


SECTION: Final = Section("Peers", (run_peers,))
