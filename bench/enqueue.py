"""Jobs submitted a second, answered after their commit, with nobody working on them.

Bulk over HTTP as NDJSON (10,000 and 1,000 jobs a request, two requests at a time), bulk over the
WebSocket (100 jobs a message, 8 in flight), and single submits by 8 clients, each waiting for its
answer, over both; over the WebSocket also with 8 submits of each client in flight, each in a frame
of its own.
"""

from typing import Any, Final

import attrs
import click
import trio

from bench.flow import Flow, measure_flow
from bench.harness.database import Totals
from bench.harness.errors import MeasurementFailedError
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, rate_of, show_progress

__all__ = ["CASES", "EnqueueCase", "run"]


@attrs.frozen(kw_only=True)
class EnqueueCase:
    """`clients` connections with `in_flight` requests each; a tenth of the jobs warms up."""

    name: str
    via: str
    batch: int
    clients: int
    in_flight: int
    share: float
    """Jobs of this case, as a part of what the benchmark was asked for."""
    to_the_end: bool = False
    """Whether a worker completes them."""


_BULK: Final = (
    EnqueueCase(
        name="http 10,000 a request", via="http", batch=10_000, clients=2, in_flight=1, share=1
    ),
    EnqueueCase(
        name="http 1,000 a request", via="http", batch=1_000, clients=2, in_flight=1, share=1
    ),
    EnqueueCase(
        name="websocket 100 a message", via="websocket", batch=100, clients=1, in_flight=24, share=1
    ),
)
_HTTP_SINGLE: Final = EnqueueCase(
    name="http single, 8 clients", via="http", batch=1, clients=8, in_flight=1, share=0.05
)
_SINGLE: Final = EnqueueCase(
    name="websocket single, 8 clients", via="websocket", batch=1, clients=8, in_flight=1, share=0.2
)
_SINGLES: Final = (
    _SINGLE,
    attrs.evolve(_SINGLE, name=f"{_SINGLE.name}, 8 in flight", in_flight=8),
)
CASES: Final = (
    *_BULK,
    _HTTP_SINGLE,
    *_SINGLES,
    *(attrs.evolve(of, name=f"to the end, {of.name}", to_the_end=True) for of in _SINGLES),
)


async def run(options: Options, *, jobs: int, payload_bytes: int, part: str = "") -> Report:
    """The cases whose names hold `part`."""
    cases = [case for case in CASES if part in case.name]
    if not cases:
        raise click.UsageError(f"--case {part}: no case is named so")
    async with open_target(options) as target:
        report = report_on(
            target, "enqueue", "jobs_per_s", "jobs/s", jobs=jobs, payload_bytes=payload_bytes
        )
        for number in range(options.rounds):
            for case in cases:
                measure = _measure_to_the_end if case.to_the_end else _measure
                measured = await measure(target, case, number, jobs, payload_bytes)
                report.add(case.name, **measured)
        return report


async def _measure_to_the_end(
    target: Target, case: EnqueueCase, number: int, jobs: int, payload_bytes: int
) -> dict[str, Any]:
    jobs = max(case.clients, round(jobs * case.share))
    flow = Flow(
        jobs=jobs,
        warm_up=max(1, jobs // 10),
        batch=case.batch,
        in_flight=case.in_flight,
        connections=case.clients,
        payload_bytes=payload_bytes,
    )
    job_type = target.job_type("end", case.in_flight, number)
    totals: list[Totals] = []

    def look() -> None:
        if target.database is not None:
            totals.append(target.database.totals(target.tenant))

    measured = await measure_flow(target, flow, job_type, look)
    if totals:
        before, after = totals
        measured["jobs_per_commit"] = jobs / max(1, after.commits - before.commits)
    return measured


async def _measure(
    target: Target, case: EnqueueCase, number: int, jobs: int, payload_bytes: int
) -> dict[str, Any]:
    jobs = max(case.clients, round(jobs * case.share))
    job_type = target.job_type(case.via, case.batch, case.in_flight, number)
    kind = "poster" if case.via == "http" else "producer"
    order = {
        "do": "post" if case.via == "http" else "submit",
        "batch": case.batch,
        "clients": case.clients,
        "in_flight": case.in_flight,
        "job_type": job_type,
        "payload_bytes": payload_bytes,
    }
    async with open_ready_load(kind, target, connections=case.clients) as load:
        warm_up = max(1, jobs // 10)
        await load.ask(jobs=warm_up, **order)
        meter = target.meter(load=[load])
        meter.start()
        async with show_progress(case.name, warm_up + jobs, lambda: load.count):
            done = await load.ask(jobs=jobs, **order)
        cpu = meter.spent_per(jobs)
    if target.database is not None:
        states = await trio.to_thread.run_sync(target.database.count_jobs, target.tenant, job_type)
        if states != {"scheduled": warm_up + jobs}:
            raise MeasurementFailedError(f"{warm_up + jobs} jobs should be scheduled: {states}")
    return {"jobs_per_s": rate_of(done), "cpu_us_per_job": cpu}
