"""Every benchmark, one after the other, and what becomes of their reports.

Each runs as a process of its own, ``python -m bench NAME``, within a time of its own, so one that
fails or hangs costs the others nothing; which ones did is said at the end, with the exit status.
The reports become a table between two markers of a document, and a plot beside it.

I1  A benchmark that is interrupted, or takes too long, is stopped in order, which stops all that it
    started.
I2  What the document says outside of the markers stays as it is. A benchmark that did not run keeps
    its rows of an earlier time.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click
import msgspec
import trio

from bench.harness.children import start_child, stop_child, wait_gone
from bench.harness.errors import BenchmarkError
from bench.plot import draw
from bench.results import split_at_markers, update_document

__all__ = ["PLANS", "Outcome", "Plan", "run"]


def _words(text: str) -> Sequence[str]:
    return tuple(text.split())


@attrs.frozen
class Plan:
    """How a benchmark is run as one of many: `quick` and `full` are its arguments, `within_s` and
    `quick_within_s` what it may take then, several times what it takes on a quiet machine."""

    name: str
    within_s: float
    quick: Sequence[str] = attrs.field(default="", converter=_words)
    full: Sequence[str] = attrs.field(default="", converter=_words, kw_only=True)
    quick_within_s: float = attrs.field(default=120, kw_only=True)

    def arguments(self, *, quick: bool) -> Sequence[str]:
        return ("--rounds", "1", *self.quick) if quick else self.full

    def limit_s(self, *, quick: bool) -> float:
        return self.quick_within_s if quick else self.within_s


PLANS: Final = (
    # What the others are compared with first, then jobs, then other load; the longest last.
    Plan("store_limit", 900, "--jobs 20000 --with throughput", full="--with throughput"),
    Plan("throughput", 600, "--jobs 20000"),
    Plan("drain", 600, "--jobs 20000"),
    Plan("enqueue", 900, "--jobs 10000"),
    Plan("pickup", 600, "--rate 200 --rate 2000 --seconds 3", full="--rate 200 --rate 2000"),
    Plan(
        "peers",
        3600,
        "--jobs 3000 --backlog 3000 --seconds 1 --seconds-max 2",
        quick_within_s=300,
    ),
    Plan("wal", 600, "--jobs 10000"),
    Plan("doors", 300, "--requests 500"),
    Plan("admission", 600, "--tenants 1000 --jobs 10000"),
    Plan("dag", 600, "--nodes 10000"),
    Plan("runs", 600, "--nodes 2000"),
    Plan("fairness", 900, "--seconds 4"),
    Plan("idle", 600, "--workers 200 --seconds 5 --beat-s 2"),
    Plan("sessions", 900, "--workers 500 --seconds 5 --beat-s 2"),
    Plan("streams", 900, "--readers 100 --burst 500 --seconds 3 --jobs 10000"),
    Plan("shapes", 1800, "--jobs 3000 --tenants 100 --readers 20", quick_within_s=180),
    Plan("recovery", 600, "--seconds 3"),
    Plan("sim", 900, "--seeds 6"),
    Plan("memory", 1200, "--jobs 50000"),
    Plan("growth", 3600, "--jobs 3000 --finished 10000 --finished 50000"),
    Plan("horizon", 3600, "--minutes 0.1 --cycles 1 --jobs 5000 --seconds 2", full="--rounds 1"),
    Plan("adaptive", 3600, "--seconds 5 --settle-s 5 --rise-s 5", full="--rounds 1"),
    Plan("backlog", 3600, "--jobs 100000", full="--rounds 1"),
)


@attrs.frozen
class Outcome:
    """`report` is the benchmark's JSON; without one `failure` says why."""

    name: str
    report: Mapping[str, Any] | None
    failure: str | None = None


class SomeFailedError(BenchmarkError):
    """Not every benchmark came to its end; the message names those that did not."""


async def run(
    known: Sequence[str],
    *,
    quick: bool,
    only: Sequence[str],
    document: Path,
    plot: Path,
    plans: Sequence[Plan] = PLANS,
    say: Callable[[str], None] = click.echo,
) -> int:
    """How many benchmarks ran, of those that are `known` to the command line. Raises
    `SomeFailedError` when all have had their turn, and `click.UsageError` before the first where
    the document has no place for them."""
    split_at_markers(document)
    chosen = _chosen(plans, known, only)
    outcomes = []
    for number, plan in enumerate(chosen):
        say(f"[{number + 1}/{len(chosen)}] {plan.name} {' '.join(plan.arguments(quick=quick))}")
        outcome = await _run_one(plan, quick=quick)
        outcomes.append(outcome)
        say(f"    {outcome.failure or _headline(outcome)}")
        # After each one, so that what was measured is kept whatever comes later.
        reports = [each.report for each in outcomes if each.report is not None]
        await trio.to_thread.run_sync(update_document, document, reports, plot.name)
        await trio.to_thread.run_sync(draw, plot, reports)
    if failed := [each for each in outcomes if each.failure is not None]:
        lines = [f"  {each.name}: {each.failure}" for each in failed]
        raise SomeFailedError("\n".join([f"{len(failed)} of {len(chosen)} failed:", *lines]))
    return len(outcomes)


def _chosen(plans: Sequence[Plan], known: Sequence[str], only: Sequence[str]) -> list[Plan]:
    """In the order of the plans; a benchmark that no plan mentions comes last, as it is."""
    planned = {plan.name for plan in plans}
    every = [plan for plan in plans if plan.name in known]
    every += [Plan(name, 900) for name in known if name not in planned]
    if unknown := set(only) - {plan.name for plan in every}:
        raise click.UsageError(f"--only: no benchmark is named {', '.join(sorted(unknown))}")
    return [plan for plan in every if not only or plan.name in only]


async def _run_one(plan: Plan, *, quick: bool) -> Outcome:
    command = [sys.executable, "-m", "bench", plan.name, *plan.arguments(quick=quick)]
    process = start_child(command)
    said = bytearray()
    limit_s = plan.limit_s(quick=quick)
    try:
        with trio.move_on_after(limit_s) as limit:
            assert process.stdout is not None
            async with trio.lowlevel.FdStream(os.dup(process.stdout.fileno())) as stream:
                async for chunk in stream:
                    said += chunk
            await wait_gone(process)
    finally:
        await stop_child(process, within_s=60.0)
        process.stdout.close() if process.stdout else None
    if limit.cancelled_caught:
        return Outcome(plan.name, None, f"took more than {limit_s:.0f} s")
    if process.returncode:
        return Outcome(plan.name, None, f"ended with {process.returncode}")
    return _outcome(plan.name, bytes(said))


def _outcome(name: str, said: bytes) -> Outcome:
    """What the last line of its output holds."""
    lines = said.splitlines()
    try:
        report = msgspec.json.decode(lines[-1] if lines else b"", type=dict[str, Any])
    except msgspec.DecodeError:
        return Outcome(name, None, "gave no report")
    return Outcome(name, report)


def _headline(outcome: Outcome) -> str:
    assert outcome.report is not None
    report = outcome.report
    return f"{report['figure']} {report['median']} ({report['min']} – {report['max']})"
