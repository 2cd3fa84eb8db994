"""What goes wrong, and how long it is felt."""

from typing import Any, Final

import click

from bench import horizon, recovery
from bench.commands.running import benchmark
from bench.commands.sections import Section
from bench.harness.options import Options
from bench.harness.report import Report
from bench.horizon import HorizonCase

__all__ = ["SECTION"]


@benchmark("recovery")
@click.option("--restarts", default=0, help="Restart the database so often, instead of kills.")
@click.option("--seconds", default=5.0, help="Load before each kill or restart.")
@click.option("--rate", default=0, help="Jobs/s; 0: as many as go through.")
@click.option("--batch", default=100, help="Jobs in a submit.")
async def run_recovery(options: Options, **given: Any) -> Report:
    """Engine and database killed or restarted under load."""
    return await recovery.run(options, **given)


@benchmark("horizon")
@click.option("--seconds", default=10.0, help="How long single submits go on in a cycle.")
@click.option("--rate", default=200, help="Single submits/s, whose pick-up is timed.")
@click.option("--jobs", default=100_000, help="Jobs of a cycle at full rate.")
@click.option("--cycles", default=3, help="Before the transaction, and after it.")
@click.option("--minutes", default=10.0, help="How long the transaction is open.")
async def run_horizon(options: Options, **given: Any) -> Report:
    """Rate and pick-up while a transaction stays open."""
    return await horizon.run(options, HorizonCase(**given))


SECTION: Final = Section("Faults", (run_recovery, run_horizon))
