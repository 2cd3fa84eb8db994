"""What `jobengine sim` prints: violations as they come, the sums of a batch, a trace.

I1  stdout has what was asked for, stderr what is only to be watched.
"""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobengine.cli.output import Form, print_json, print_table, printable
from jobengine.testing.sim.coverage import Coverage
from jobengine.testing.sim.ledger_lines import merged
from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.run import Verdict
from jobengine.testing.sim.sources import code_stamp

__all__ = ["BatchTold", "print_trace"]

_FOUND_MAX: Final = 100
"""Violations that are listed; all are counted."""
_TELLS_EVERY_S: Final = 30.0
"""How often a batch says where it is, where there is no terminal for a bar."""


class BatchTold:
    """Takes the outcomes of a batch of the scenario `named`, of which `sites` are counted. `failed`
    counts those that are no clean runs."""

    def __init__(self, sites: Sequence[str], named: str, output: Form) -> None:
        self.failed = 0
        self._named = named
        self._output = output
        self._code = code_stamp()
        self._coverage = Coverage(sites)
        self._found: list[dict[str, Any]] = []
        self._done = 0
        self._sums = dict.fromkeys(("simulatedS", "jobs", "entries", "lives"), 0.0)
        self._began = self._told_at = time.monotonic()
        self._count = 0
        self._first_missing: int | None = None
        self._ahead: set[int] = set()
        self._console = Console(stderr=True)
        self._progress: Progress | None = None

    @contextmanager
    def progress(self, count: int) -> Iterator[None]:
        """A bar on a terminal, elsewhere a line now and then."""
        self._count = count
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console) as self._progress:
            self._progress.add_task("all clean", total=count)
            yield

    def take(self, request: Request, outcome: Outcome) -> None:
        self._done += 1
        self._advance(request.seed)
        self._coverage.add(outcome)
        for name, value in (
            ("simulatedS", outcome.simulated_s),
            ("jobs", outcome.jobs),
            ("entries", outcome.entries),
            ("lives", outcome.lives),
        ):
            self._sums[name] += value
        if outcome.violation is not None:
            self._tell(request, outcome)
        if self._progress is not None:
            told = f"{self.failed} failed" if self.failed else "all clean"
            self._progress.update(
                self._progress.task_ids[0], completed=self._done, description=told
            )
        elif time.monotonic() - self._told_at >= _TELLS_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{self._done:,} of {self._count:,} runs, {self.failed} failed", file=sys.stderr)

    def begin_at(self, seed: int) -> None:
        """The batch takes one seed after the other, from this one: interrupted, it says with which
        to go on."""
        self._first_missing = seed

    def _advance(self, seed: int) -> None:
        """`_ahead` has seeds that were done before an earlier one: no more than run at once."""
        if self._first_missing is None:
            return
        self._ahead.add(seed)
        while self._first_missing in self._ahead:
            self._ahead.remove(self._first_missing)
            self._first_missing += 1

    def finish(self, *, interrupted: bool) -> None:
        real_s = time.monotonic() - self._began
        document = {
            "scenario": self._named,
            "code": self._code,
            "runs": self._done,
            "failed": self.failed,
            "interrupted": interrupted,
            "nextSeed": self._first_missing,
            "realS": round(real_s, 3),
            "runsPerMinute": round(60 * self._done / real_s, 1),
            "simulatedPerReal": round(self._sums["simulatedS"] / real_s, 1),
            **{name: round(value) for name, value in self._sums.items()},
            "violations": self._found,
            "coverage": self._coverage.document(),
        }
        if self._output == "json":
            print_json(document)
            return
        print_table(("SITE", "CHANCES", "STRIKES", "STATES"), self._coverage.rows())
        if self._coverage.never:
            print(f"\nnever exercised: {', '.join(self._coverage.never)}")
        met = len(self._coverage.sites) - len(self._coverage.never)
        print(
            f"\n{'interrupted after ' if interrupted else ''}{self._done:,} runs,"
            f" {self.failed} failed, {self._done - self.failed:,} clean;"
            f" {met} of {len(self._coverage.sites)} sites struck;"
            f" {document['runsPerMinute']:,.0f} a minute,"
            f" {document['simulatedPerReal']:,.0f} simulated seconds a real one;"
            f" {document['jobs']:,} jobs, {document['entries']:,} entries,"
            f" {document['lives']:,} starts; code {self._code}"
        )
        if interrupted and self._first_missing is not None:
            print(f"go on with --first {self._first_missing} --seeds {self._left}")

    @property
    def _left(self) -> int:
        """How many seeds there are from the first that is missing."""
        return self._count - (self._done - len(self._ahead))

    def _tell(self, request: Request, outcome: Outcome) -> None:
        self.failed += 1
        if len(self._found) < _FOUND_MAX:
            self._found.append(
                {
                    "seed": outcome.seed,
                    "nth": None if request.nth is None else str(request.nth),
                    "violation": outcome.violation,
                    "traceback": outcome.traceback,
                    "digest": outcome.digest,
                }
            )
        where = "" if request.nth is None else f", call {request.nth} its effect"
        self._console.print(
            f"seed {outcome.seed}{where}: {printable(outcome.violation or '')}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        if outcome.traceback is not None:
            self._console.print(outcome.traceback, markup=False, highlight=False, soft_wrap=True)
        elif request.nth is None:
            again = f"--seed {outcome.seed} --scenario {self._named} --code {self._code}"
            self._console.print(
                f"  jobengine sim replay {again}", markup=False, highlight=False, soft_wrap=True
            )


def print_trace(
    verdict: Verdict,
    caught_by: str | None,
    pattern: "re.Pattern[str]",
    output: Form,
    *,
    ledger: bool,
) -> None:
    """`caught_by`: the code with which the run was seen before, if that is known."""
    code = code_stamp()
    trace = merged(verdict.trace, verdict.ledger) if ledger else verdict.trace
    lines = [line for line in trace if pattern.search(line)]
    if output == "json":
        print_json(
            {
                "seed": verdict.seed,
                "scenario": verdict.scenario,
                "code": code,
                "caughtBy": caught_by,
                "digest": verdict.digest,
                "violation": verdict.violation,
                "traceback": verdict.traceback,
                "trace": lines,
            }
        )
        return
    print(f"# seed {verdict.seed}, scenario {printable(verdict.scenario)}, code {code}")
    if caught_by not in (None, code):
        print(
            f"# CAUTION: it was found with code {printable(str(caught_by))}; with this code the "
            "same seed is another run, which may do something else"
        )
    print(f"# digest {verdict.digest}")
    print(f"# {'seconds':>10} {'who':<14} {'what':<22} facts")
    for line in lines:
        print(printable(line))
    if verdict.traceback is not None:
        click.echo(verdict.traceback)
    sys.stdout.flush()
    print(f"# VIOLATION: {printable(verdict.violation)}" if verdict.violation else "# clean")
