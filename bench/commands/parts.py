"""Parts of the engine, measured without an engine process and without a database.

Each is imported when it is asked for: they bring along the engine itself and what it is compared
with, and no other command is to wait for that.
"""

from typing import Any, Final

import click

from bench.commands.running import benchmark, payload_option
from bench.commands.sections import Section
from bench.harness.options import Options
from bench.harness.report import Report

__all__ = ["SECTION"]


@benchmark("doors", on_engine=False)
@click.option("--requests", default=2_000, help="Requests a case.")
@payload_option
async def run_doors(options: Options, **given: Any) -> Report:
    """CPU that authorisation and validation add to a request."""
    from bench import doors

    return await doors.run(options, **given)


@benchmark("admission", on_engine=False)
@click.option("--tenants", default=10_000)
@click.option("--sources", default=10, help="Of each tenant.")
@click.option("--jobs", default=50_000, help="Jobs a round.")
@click.option("--batch", default=100, help="Jobs in a submit.")
async def run_admission(options: Options, **given: Any) -> Report:
    """CPU that admission adds to a job, every gate in play."""
    from bench import admission

    return await admission.run(options, admission.AdmissionCase(**given))


@benchmark("dag", on_engine=False)
@click.option("--nodes", "sizes", multiple=True, type=int, default=(10_000, 100_000))
async def run_dag(options: Options, **given: Any) -> Report:
    """Planning a run and advancing it, against networkx."""
    from bench import dag

    return await dag.run(options, **given)


@benchmark("sim", on_engine=False)
@click.option("--seeds", default=40, help="Seeds a batch, each twice.")
@click.option("--scenario", default="everything", help="Name or file.")
async def run_sim(options: Options, **given: Any) -> Report:
    """Seeds a minute of the simulator; simulated to real time."""
    from bench import sim

    return await sim.run(options, **given)


SECTION: Final = Section(
    "Parts, without engine process and database", (run_doors, run_admission, run_dag, run_sim)
)
