"""Whether a job costs the same however many have finished before it.

The tables are filled to each size in turn, with copies of finished jobs (`bench.load.copies`; the
ledger has no entries of copies), and flows of jobs are measured at each. A second engine whose
tables hold nothing but its own flows does the same in turns with it: ``ratio`` is jobs/s, and
``cpu_ratio`` CPU a job of all processes, to the second engine's flow right beside it, which takes
the machine's own drift out.
"""

from typing import Any, Final

import attrs
import click

from bench.flow import Flow, job_id_floor, measure_flow
from bench.harness.children import open_load
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import show_progress

__all__ = ["Filled", "begin", "compared", "run"]

_ORIGINALS_MAX: Final = 2_000


async def run(options: Options, *, sizes: tuple[int, ...], jobs: int, payload_bytes: int) -> Report:
    """Every round at each size before the next."""
    if not options.own_engine or options.database_url is not None:
        raise click.UsageError("growth needs two databases of its own: leave the addresses out")
    flow = Flow(jobs=jobs, payload_bytes=payload_bytes)
    async with open_target(options) as small, open_target(options) as full:
        return await _measure(small, full, options.rounds, sizes, flow)


async def _measure(
    small: Target, full: Target, rounds: int, sizes: tuple[int, ...], flow: Flow
) -> Report:
    settings = {"sizes": sizes, "jobs": flow.jobs, "payload_bytes": flow.payload_bytes}
    report = report_on(full, "growth", "cpu_us", "µs of CPU a job", **settings)
    await measure_flow(small, flow, small.job_type("growth", "warm-up"))
    originals = attrs.evolve(flow, jobs=min(_ORIGINALS_MAX, *sizes), warm_up=1)
    filled = await begin(full, originals, full.job_type("originals"))
    for size in sorted(sizes):
        await filled.fill(size)
        for number in range(rounds):
            measured = {}
            for each in ("small", "full") if number % 2 else ("full", "small"):
                target = small if each == "small" else full
                job_type = target.job_type("growth", size, number, each)
                measured[each] = await measure_flow(target, flow, job_type)
            filled.finished += flow.jobs + flow.warm_up
            report.add(f"{size:,} finished", **compared(measured["full"], measured["small"]))
    return report


def compared(full: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    cpu_us, usual_us = (sum(each["cpu_us_per_job"].values()) for each in (full, small))
    return {
        "cpu_us": cpu_us,
        "cpu_ratio": cpu_us / max(0.1, usual_us),
        "ratio": full["jobs_per_s"] / small["jobs_per_s"],
        **full,
    }


@attrs.define(eq=False)
class Filled:
    """An engine whose tables hold `finished` jobs, `copied` of them copies of one type's."""

    target: Target
    job_type: str
    floor: str
    finished: int
    copied: int = 0

    async def fill(self, size: int) -> None:
        """Up to so many finished jobs; they stay as they are where there are more."""
        more = max(0, size - self.finished)
        conninfo = self.target.require_database().conninfo
        async with (
            open_load("copies", conninfo=conninfo) as copier,
            show_progress(f"{size:,} finished", more, lambda: copier.count),
        ):
            await copier.answer()
            await copier.ask(
                do="copy", tenant=self.target.tenant, job_type=self.job_type, floor=self.floor,
                first=self.copied, last=self.copied + more, delayed_percent=0,
            )  # fmt: skip
            await copier.ask(do="settle")
        self.copied += more
        self.finished += more


async def begin(target: Target, originals: Flow, job_type: str) -> Filled:
    """An engine whose tables hold the jobs of a flow, which are the originals of the others."""
    floor = job_id_floor()
    await measure_flow(target, originals, job_type)
    return Filled(target, job_type, floor, originals.jobs + originals.warm_up)
