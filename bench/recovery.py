"""How long a crash under load is felt: the engine, then its database, killed with SIGKILL; or the
database restarted in order, again and again, while the load goes on.

A producer keeps batches in flight and sends each again, under its idempotency key, until it is
acked; an SDK worker does what comes. Twenty-millisecond counts of both sides give the rates.

- ``down_s``: from the kill until the database answers again (after a kill of the engine: until the
  engine, started again at once, serves).
- ``to_full_rate_s``: from the kill to the first half second in which handlers ran at
  ``FULL_SHARE`` of the rate before it; ``after_back_s`` is the part of it after ``down_s``.
- ``to_100_percent_s``: from the kill to the first whole second in which handlers ran at the full
  rate before it: the median over all windows of one second within the last half of the load before
  the kill. None where that was not reached within ``WHOLE_S_MAX``.
- ``rate_after_share``: the best half second within ``_AFTER_S`` from then on, to the rate before.
- ``lost``: acked jobs that are not completed in the end; ``run_twice``: jobs whose handler was
  called again; over all restarts of a load together. Nothing may be lost; at-least-once allows the
  second, and says how often.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import click
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.database import Database, embedded_database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load
from jobengine.store.embedded.settings import EmbeddedSettings

__all__ = [
    "FULL_SHARE",
    "WHOLE_S_MAX",
    "best_rate",
    "median_rate",
    "rate_before",
    "recovered_at",
    "run",
]

FULL_SHARE: Final = 0.8
WHOLE_S_MAX: Final = 20.0
_WINDOW_S: Final = 0.5
_WHOLE_WINDOW_S: Final = 1.0
_DRAIN_S_MAX: Final = 120.0
_RECOVERY_S_MAX: Final = 60.0
_POLL_S: Final = 0.02
_AFTER_S: Final = 3.0

Harm = Literal["engine killed", "database killed", "database restarted"]


async def run(
    options: Options, *, seconds: float, rate: int, batch: int, restarts: int = 0
) -> Report:
    """`rate` in jobs/s, 0 for as fast as it goes; `seconds` of load before each kill, or before
    each of so many `restarts` of the database under one load, instead of the kills."""
    _require_patience(restarts, seconds)
    async with open_target(options) as target:
        target.require_engine()
        settings = {"seconds": seconds, "rate": rate, "batch": batch, "restarts": restarts}
        report = report_on(target, "recovery", "to_full_rate_s", "s", **settings)
        loads: list[list[Harm]] = [["engine killed"], ["database killed"]]
        if restarts:
            loads = [["database restarted"] * restarts]
        for number in range(options.rounds):
            for place, harms in enumerate(loads):
                order = {
                    "jobs": None,
                    "batch": batch,
                    "in_flight": 8,
                    "rate": rate or None,
                    "job_type": target.job_type("recovery", place, number),
                    "payload_bytes": 100,
                }
                for row in await _measure(target, harms, order, seconds):
                    report.add(row.pop("harm"), **row)
        return report


def _require_patience(restarts: int, seconds: float) -> None:
    """An engine gives up a database that dies more often than this."""
    tolerated, window_s = EmbeddedSettings().restarts_max, EmbeddedSettings().restart_window_s
    if restarts > tolerated and seconds * tolerated < window_s:
        raise click.UsageError(
            f"--restarts: an engine gives its database up after more than {tolerated} within "
            f"{window_s:g} s; no more than that, or --seconds {window_s / tolerated:g}"
        )


async def _measure(
    target: Target, harms: Sequence[Harm], order: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """A row for each harm that is done while one load goes on."""
    job_type = order["job_type"]
    async with (
        open_load(
            "worker", **target.door(), job_type=job_type, capacity=1000, record=True
        ) as worker,
        open_ready_load("producer", target, redial=True) as producer,
    ):
        await producer.order(do="submit", keys=True, record=True, **order)
        await worker.wait_count(1)
        rows = [await _harm_once(target, worker, harm, seconds) for harm in harms]
        await producer.order(do="stop")
        submitted = await producer.answer()
        states = await _wait_finished(target, job_type, submitted["jobs"])
        with trio.fail_after(_DRAIN_S_MAX):
            drained = await worker.ask(do="drain")
    acked = {job_id for job_id, _, _ in submitted["record"]}
    calls = Counter(job_id for job_id, _ in drained["record"])
    totals = {
        "jobs": len(acked),
        "lost": len(acked) - states.get("completed", 0),
        "run_twice": sum(each > 1 for each in calls.values()),
    }
    return [row | totals for row in rows]


async def _harm_once(
    target: Target, worker: LoadProcess, harm: Harm, seconds: float
) -> dict[str, Any]:
    await trio.sleep(seconds)
    harmed_at = time.monotonic()
    back_at = await _do(target, harm)
    before = rate_before(worker.track, harmed_at, seconds)
    whole = median_rate(worker.track, harmed_at, seconds)
    full_at = await _wait_recovered(worker, harmed_at, FULL_SHARE * before)
    whole_at = None
    with trio.move_on_at(trio.current_time() + WHOLE_S_MAX + harmed_at - time.monotonic()):
        whole_at = await _wait_recovered(worker, harmed_at, whole, _WHOLE_WINDOW_S)
    await trio.sleep(max(0.0, full_at + _AFTER_S - time.monotonic()))
    return {
        "harm": harm,
        "to_full_rate_s": full_at - harmed_at,
        "to_100_percent_s": None if whole_at is None else whole_at - harmed_at,
        "down_s": back_at - harmed_at,
        "after_back_s": max(0.0, full_at - back_at),
        "rate_before_per_s": before,
        "median_before_per_s": whole,
        "rate_after_share": best_rate(worker.track, full_at) / before if before else 0.0,
    }


async def _do(target: Target, harm: Harm) -> float:
    """Do harm and wait until what was harmed is back; when that was."""
    engine = target.require_engine()
    if harm == "engine killed":
        await engine.kill()
        target.engine = await engine.start_again()
        target.database = embedded_database(engine.data_dir)
        return time.monotonic()
    postmaster = target.require_database().postmaster
    if postmaster is None:
        raise AssertionError("the database does not run here")
    os.kill(postmaster, signal.SIGKILL if harm == "database killed" else signal.SIGINT)
    look = partial(_successor, engine.data_dir, postmaster)
    while (found := await trio.to_thread.run_sync(look)) is None:  # noqa: ASYNC110
        await trio.sleep(_POLL_S)
    target.database = found
    return time.monotonic()


def _successor(data_dir: Path, postmaster: int) -> Database | None:
    """The database, once another postmaster answers for it."""
    try:
        found = embedded_database(data_dir)
    except (OSError, IndexError, ValueError):
        return None
    return found if found.postmaster != postmaster and found.answers() else None


async def _wait_recovered(
    worker: LoadProcess, killed_at: float, rate: float, window_s: float = _WINDOW_S
) -> float:
    with trio.fail_after(_RECOVERY_S_MAX):
        while (  # noqa: ASYNC110 - the track grows by what another process says
            at := recovered_at(worker.track, killed_at, rate, window_s)
        ) is None:
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


def median_rate(track: Sequence[tuple[float, int]], at: float, seconds: float) -> float:
    """Handled a second, in the median window of a second within the last half of the `seconds`
    before an instant; where none fits in, as in `rate_before`."""
    seen = [(when, count) for when, count in track if at - seconds / 2 <= when <= at]
    rates = [rate for _, rate in _windows(seen, _WHOLE_WINDOW_S)]
    return median(rates) if rates else rate_before(track, at, seconds)


def best_rate(track: Sequence[tuple[float, int]], after: float) -> float:
    """Handled a second, in the best window after an instant."""
    seen = [(when, count) for when, count in track if when >= after]
    return max((rate for _, rate in _windows(seen, _WINDOW_S)), default=0.0)


def recovered_at(
    track: Sequence[tuple[float, int]], after: float, rate: float, window_s: float = _WINDOW_S
) -> float | None:
    """When the first window after an instant began in which `rate` was reached, None before."""
    seen = [(when, count) for when, count in track if when >= after]
    return next((began_at for began_at, had in _windows(seen, window_s) if had >= rate), None)


def _windows(seen: Sequence[tuple[float, int]], window_s: float) -> Iterator[tuple[float, float]]:
    """For each sample that is followed by a whole window: when it begins, and its rate."""
    end = 0
    for first_at, first in seen:
        while end < len(seen) and seen[end][0] - first_at < window_s:
            end += 1
        if end == len(seen):
            return
        last_at, last = seen[end]
        yield first_at, (last - first) / (last_at - first_at)
