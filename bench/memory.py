"""Memory of the engine while a backlog grows, and how fast it comes back over that backlog.

Jobs are enqueued in bulk with nobody to work on them; the engine's resident memory is read after
each tenth. Then the engine is stopped and started over the backlog: seconds until it serves, and
until a worker that asks at once has its first lease, both from the start of the process.
"""

from typing import Final

from bench.backlog import start_again
from bench.harness.children import LoadProcess
from bench.harness.cost import rss_mib_of
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, rate_of, show_progress

__all__ = ["run"]

_STEPS: Final = 10
_BATCH: Final = 10_000


async def run(options: Options, *, jobs: int, payload_bytes: int) -> Report:
    """One round: a backlog is only built once."""
    async with open_target(options) as target:
        engine = target.require_engine()
        report = report_on(
            target, "memory", "rss_mib", "MiB", jobs=jobs, payload_bytes=payload_bytes
        )
        report.add("idle", jobs=0, rss_mib=rss_mib_of(engine.pid))
        async with open_ready_load("poster", target) as poster:
            await _enqueue(target, poster, report, jobs, payload_bytes)
        started = await start_again(target, target, target.job_type("memory"))
        report.add("started over the backlog", jobs=jobs, **started)
        return report


async def _enqueue(
    target: Target, poster: LoadProcess, report: Report, jobs: int, payload_bytes: int
) -> None:
    step, job_type = max(1, jobs // _STEPS), target.job_type("memory")
    async with show_progress("memory", jobs, lambda: poster.count):
        for pending in range(step, jobs + 1, step):
            done = await poster.ask(
                do="post", jobs=step, batch=min(_BATCH, step), job_type=job_type,
                payload_bytes=payload_bytes,
            )  # fmt: skip
            rss_mib = rss_mib_of(target.require_engine().pid)
            report.add("backlog", jobs=pending, rss_mib=rss_mib, enqueued_per_s=rate_of(done))
