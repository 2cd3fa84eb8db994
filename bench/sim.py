"""How fast the simulator is: seeds a minute, each run twice, on all cores.

A round is a batch of the same seeds over fresh child processes, so starting those is part of it.
`ratio` is simulated to real seconds, of both runs of each seed together; `cpu_s` is what a run
takes of a core, children's start included.
"""

import os
import resource
import time
from typing import Final

from bench.harness.errors import MeasurementFailedError
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target
from jobengine.testing.sim.batch import run_all
from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.named import find_scenario
from jobengine.testing.sim.scenario import Scenario

__all__ = ["run"]

_TIMES: Final = 2
"""How often a batch runs each seed."""


async def run(options: Options, *, seeds: int, scenario: str) -> Report:
    nowhere = Target(http_url="", worker_url="", token="", tenant="", engine=None, database=None)
    settings = {"seeds": seeds, "scenario": scenario, "processes": os.cpu_count()}
    report = report_on(nowhere, "sim", "per_minute", "seeds/min", **settings)
    report.durability = {"storage": "nothing is stored"}
    kind = find_scenario(scenario)
    for number in range(options.rounds):
        began_at, began_cpu = time.monotonic(), _cpu_s_of_children()
        outcomes = await _batch(kind, seeds)
        took_s = time.monotonic() - began_at
        failed = [outcome for outcome in outcomes if outcome.violation is not None]
        if failed:
            first = failed[0]
            raise MeasurementFailedError(f"seed {first.seed} is not clean: {first.violation}")
        report.add(
            scenario,
            per_minute=60 * seeds / took_s,
            ratio=_TIMES * sum(outcome.simulated_s for outcome in outcomes) / took_s,
            cpu_s=(_cpu_s_of_children() - began_cpu) / (_TIMES * seeds),
            round=number + 1,
        )
    return report


async def _batch(scenario: Scenario, seeds: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    requests = (Request(seed=seed, scenario=scenario) for seed in range(1, seeds + 1))
    await run_all(requests, lambda _, outcome: outcomes.append(outcome))
    return outcomes


def _cpu_s_of_children() -> float:
    """Of those that have ended and been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
