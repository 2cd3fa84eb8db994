"""How long a job waits for an idle worker: from the commit of its submit to its handler's start.

A producer sends single submits at a fixed rate, whether or not answers come (up to what the engine
lets a connection leave unanswered), and one SDK worker with free slots notes when each handler
starts. All instants are of this machine's real-time clock.
The commit is taken to be when its producer knows of it, as with a queue whose producers commit
themselves: the headline counts from when the ack of the submit reached the producer. It is negative
where the lease overtook the ack. Two more instants enclose it:

- ``created``: the job's ``createdAt``, which the engine takes before the commit. From there to the
  handler's start the whole commit is in it.
- ``sent``: when the submit left the producer: what a user of both sides sees.
"""

from typing import Any, Final

import trio

from bench.flow import job_id_floor
from bench.harness.children import open_load
from bench.harness.options import Options
from bench.harness.report import Report, percentile, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress

__all__ = ["measure_pickup", "run"]

_WARM_UP_S: Final = 2.0
_CONNECTIONS: Final = 8
_IN_FLIGHT: Final = 60
_SLOTS_MIN: Final = 200


async def run(options: Options, *, rates: tuple[int, ...], seconds: float) -> Report:
    async with open_target(options) as target:
        target.require_database()
        report = report_on(target, "pickup", "p50_ms", "ms", rates=rates, seconds=seconds)
        for number in range(options.rounds):
            for rate in rates:
                measured = await measure_pickup(target, rate, seconds, number)
                report.add(f"{rate} jobs/s", **measured)
        return report


async def measure_pickup(target: Target, rate: int, seconds: float, number: int) -> dict[str, Any]:
    """One rate for so long; `number` tells it from others of this run at the same rate."""
    job_type, floor = target.job_type("pickup", rate, number), job_id_floor()
    jobs = max(1, round(rate * seconds))
    warm_up = max(1, round(rate * min(seconds, _WARM_UP_S)))
    order = {
        "do": "submit",
        "batch": 1,
        "in_flight": _IN_FLIGHT,
        "rate": rate,
        "job_type": job_type,
        "payload_bytes": 100,
        "record": True,
    }
    async with (
        open_load(
            "worker",
            **target.door(),
            job_type=job_type,
            capacity=max(_SLOTS_MIN, rate),
            record=True,
        ) as worker,
        open_ready_load("producer", target, connections=_CONNECTIONS) as producer,
    ):
        await producer.ask(jobs=warm_up, **order)
        await worker.wait_count(warm_up)
        meter = target.meter(worker=[worker], producer=[producer])
        meter.start()
        async with show_progress(f"{rate} jobs/s", warm_up + jobs, lambda: producer.count):
            submitted = await producer.ask(jobs=jobs, **order)
            await worker.wait_count(warm_up + jobs)
        cpu = meter.spent_per(jobs)
        drained = await worker.ask(do="drain")
    created = await trio.to_thread.run_sync(
        target.require_database().created_at, target.tenant, job_type, floor
    )
    return _waits(submitted["record"], drained["record"], created) | {"cpu_us_per_job": cpu}


def _waits(
    submits: list[tuple[str, int, int]], starts: list[tuple[str, int]], created: dict[str, int]
) -> dict[str, float]:
    """Percentiles in milliseconds; created is in microseconds, the others in nanoseconds."""
    started = dict(starts)
    since_created = [started[job] / 1e6 - created[job] / 1e3 for job, _, _ in submits]
    since_acked = [(started[job] - acked) / 1e6 for job, _, acked in submits]
    since_sent = [(started[job] - sent) / 1e6 for job, sent, _ in submits]
    return {
        "p50_ms": percentile(since_acked, 0.5),
        "p99_ms": percentile(since_acked, 0.99),
        "max_ms": max(since_acked),
        "p50_since_created_ms": percentile(since_created, 0.5),
        "p99_since_created_ms": percentile(since_created, 0.99),
        "p50_since_sent_ms": percentile(since_sent, 0.5),
        "p99_since_sent_ms": percentile(since_sent, 0.99),
    }
