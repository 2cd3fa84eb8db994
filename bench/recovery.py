"""How long a crash under load is felt: the engine, then its database, killed with SIGKILL.

A producer keeps batches in flight and sends each again, under its idempotency key, until it is
acked; an SDK worker does what comes. Twenty-millisecond counts of both sides give the rates.

- ``down_s``: from the kill until the database answers again (after a kill of the engine: until the
  engine, started again at once, serves).
- ``to_full_rate_s``: from the kill to the first half second in which handlers ran at
  ``FULL_SHARE`` of the rate before it; ``after_back_s`` is the part of it after ``down_s``.
- ``lost``: acked jobs that are not completed in the end; ``run_twice``: jobs whose handler was
  called again. Nothing may be lost; at-least-once allows the second, and says how often.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.database import embedded_database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load

__all__ = ["FULL_SHARE", "rate_before", "recovered_at", "run"]

FULL_SHARE: Final = 0.8
_WINDOW_S: Final = 0.5
_DRAIN_S_MAX: Final = 120.0
_RECOVERY_S_MAX: Final = 60.0
_POLL_S: Final = 0.02

Victim = Literal["engine", "database"]


async def run(options: Options, *, seconds: float, rate: int, batch: int) -> Report:
    """`rate` in jobs/s, 0 for as fast as it goes; `seconds` of load before the kill."""
    async with open_target(options) as target:
        target.require_engine()
        report = report_on(
            target, "recovery", "to_full_rate_s", "s", seconds=seconds, rate=rate, batch=batch
        )
        for number in range(options.rounds):
            for victim in ("engine", "database"):
                order = {
                    "jobs": None,
                    "batch": batch,
                    "in_flight": 8,
                    "rate": rate or None,
                    "job_type": target.job_type("recovery", victim, number),
                    "payload_bytes": 100,
                }
                report.add(f"{victim} killed", **await _measure(target, victim, order, seconds))
        return report


async def _measure(
    target: Target, victim: Victim, order: dict[str, Any], seconds: float
) -> dict[str, Any]:
    job_type = order["job_type"]
    async with (
        open_load(
            "worker", **target.door(), job_type=job_type, capacity=1000, record=True
        ) as worker,
        open_ready_load("producer", target, redial=True) as producer,
    ):
        await producer.order(do="submit", keys=True, record=True, **order)
        await worker.wait_count(1)
        await trio.sleep(seconds)
        killed_at = time.monotonic()
        back_at = await _kill(target, victim)
        before = rate_before(worker.track, killed_at, seconds)
        full_at = await _wait_recovered(worker, killed_at, FULL_SHARE * before)
        await producer.order(do="stop")
        submitted = await producer.answer()
        states = await _wait_finished(target, job_type, submitted["jobs"])
        with trio.fail_after(_DRAIN_S_MAX):
            drained = await worker.ask(do="drain")
    acked = {job_id for job_id, _, _ in submitted["record"]}
    calls = Counter(job_id for job_id, _ in drained["record"])
    return {
        "to_full_rate_s": full_at - killed_at,
        "down_s": back_at - killed_at,
        "after_back_s": max(0.0, full_at - back_at),
        "rate_before_per_s": before,
        "jobs": len(acked),
        "lost": len(acked) - states.get("completed", 0),
        "run_twice": sum(each > 1 for each in calls.values()),
    }


async def _kill(target: Target, victim: Victim) -> float:
    """Kill one of the two and wait until it is back; when that was."""
    engine = target.require_engine()
    if victim == "engine":
        await engine.kill()
        target.engine = await engine.start_again()
    else:
        database = target.require_database()
        if database.postmaster is None:
            raise AssertionError("the database does not run here")
        os.kill(database.postmaster, signal.SIGKILL)
        while not await trio.to_thread.run_sync(database.answers):  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
    back_at = time.monotonic()
    target.database = embedded_database(engine.data_dir)
    return back_at


async def _wait_recovered(worker: LoadProcess, killed_at: float, rate: float) -> float:
    with trio.fail_after(_RECOVERY_S_MAX):
        while (at := recovered_at(worker.track, killed_at, rate)) is None:  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
    return at


async def _wait_finished(target: Target, job_type: str, jobs: int) -> dict[str, int]:
    """Until no job can still change, or for as long as that may take; what became of them."""
    states: dict[str, int] = {}
    with trio.move_on_after(_DRAIN_S_MAX):
        while states.get("completed", 0) < jobs:
            await trio.sleep(_WINDOW_S)
            states = await trio.to_thread.run_sync(
                target.require_database().count_jobs, target.tenant, job_type
            )
    return states


def rate_before(track: Sequence[tuple[float, int]], at: float, seconds: float) -> float:
    """Handled a second, over the last half of the `seconds` before an instant."""
    seen = [(when, count) for when, count in track if at - seconds / 2 <= when <= at]
    if len(seen) < 2:
        return 0.0
    (first_at, first), (last_at, last) = seen[0], seen[-1]
    return (last - first) / (last_at - first_at)


def recovered_at(track: Sequence[tuple[float, int]], after: float, rate: float) -> float | None:
    """When the first window after an instant began in which `rate` was reached, None before."""
    seen = [(when, count) for when, count in track if when >= after]
    for place, (first_at, first) in enumerate(seen):
        for last_at, last in seen[place:]:
            if last_at - first_at >= _WINDOW_S:
                if (last - first) / (last_at - first_at) >= rate:
                    return first_at
                break
    return None
