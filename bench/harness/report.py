"""The report: a table for people, and one JSON object as the last line.

{name, figure, unit, settings, durability, versions, runs[], caveats[], median, min, max, cases}. A
run is one measurement of one case; `cases` holds median, minimum and maximum for each case, and the
three at the top are those of the first, which is the benchmark's headline.
"""

import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

import attrs
import msgspec
from rich.console import Console
from rich.table import Table

from bench.harness.target import Target
from jobengine import __version__

__all__ = ["Report", "is_durable", "percentile", "report_on"]

_PARTS = ("trio", "trio-websocket", "msgspec", "psycopg", "zstandard", "httptools", "quart-trio")


@attrs.define
class Report:
    """`figure` is the field of a run that is compared, in `unit`."""

    name: str
    figure: str
    unit: str
    settings: dict[str, Any]
    durability: Mapping[str, str]
    versions: Mapping[str, str]
    runs: list[dict[str, Any]] = attrs.field(factory=list)
    caveats: list[str] = attrs.field(factory=list)
    """Why the figures are not to be compared with others, besides durability."""

    def add(self, case: str, **measured: Any) -> None:
        """One run; figures are rounded to what they can mean."""
        rounded = {
            name: _sensible(value) if isinstance(value, float) else value
            for name, value in measured.items()
        }
        self.runs.append({"case": case, **rounded})

    @property
    def durable(self) -> bool:
        return is_durable(self.durability)

    @property
    def comparable(self) -> bool:
        return self.durable and not self.caveats

    def cases(self) -> dict[str, dict[str, float]]:
        """Median, minimum and maximum of each case, in the order of their first runs."""
        figures: dict[str, list[float]] = {}
        for run in self.runs:
            figures.setdefault(run["case"], []).append(run[self.figure])
        return {
            case: {"median": _sensible(median(of)), "min": min(of), "max": max(of)}
            for case, of in figures.items()
        }

    def document(self) -> dict[str, Any]:
        cases = self.cases()
        headline = next(iter(cases.values()), {"median": None, "min": None, "max": None})
        return {**attrs.asdict(self), **headline, "cases": cases}

    def show(self) -> None:
        """Print the tables and, last, the line of JSON."""
        console = Console(file=sys.stdout, width=max(Console().width, 110))
        console.print(self._summary())
        console.print(self._each_run())
        durability = ", ".join(f"{name} {state}" for name, state in self.durability.items())
        console.print(f"durability: {durability or 'unknown'}")
        if not self.durable:
            console.print("[bold red]NOT DURABLE: these figures are not comparable.[/]")
        for caveat in self.caveats:
            console.print(f"[bold red]* {caveat}: these figures are not comparable.[/]")
        print(msgspec.json.encode(self.document()).decode(), flush=True)

    def _summary(self) -> Table:
        table = Table(title=f"{self.name}: {self.figure} ({self.unit})", title_justify="left")
        for column in ("case", "median", "min", "max", "runs"):
            table.add_column(column, justify="left" if column == "case" else "right")
        for case, figures in self.cases().items():
            runs = sum(run["case"] == case for run in self.runs)
            mark = "" if self.comparable else " *"
            table.add_row(case, *(f"{value:,}{mark}" for value in figures.values()), str(runs))
        return table

    def _each_run(self) -> Table:
        columns = list(dict.fromkeys(column for run in self.runs for column in run))
        table = Table(title="runs", title_justify="left")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right", overflow="fold")
        for run in self.runs:
            table.add_row(*(_cell(run.get(column, "")) for column in columns))
        return table


def report_on(target: Target, name: str, figure: str, unit: str, **settings: Any) -> Report:
    """An empty report about a target, with what is known of it."""
    versions = {"jobengine": __version__, "python": platform.python_version()}
    versions |= {part: version(part) for part in _PARTS}
    versions |= {"kernel": platform.release(), "cores": str(len(os.sched_getaffinity(0)))}
    durability: Mapping[str, str] = {}
    caveats = ["the database held jobs before"] if target.held_jobs else []
    if target.database is not None:
        durability = target.database.durability()
        versions["postgresql"] = target.database.server_version()
        caveats += target.database.caveats()
    if target.engine is not None and target.engine.settings:
        settings["engine"] = dict(target.engine.settings)
    return Report(name, figure, unit, settings, durability, versions, caveats=caveats)


def is_durable(durability: Mapping[str, str]) -> bool:
    """Whether what is known of a server's settings says that it loses nothing; if nothing is known
    of them, it does not."""
    return bool(durability) and all(
        state not in ("off", "unknown") for state in durability.values()
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above; `values` may be unsorted."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def _sensible(value: float) -> float:
    """Three digits behind the point below 100, none from 1,000 on."""
    if abs(value) >= 1000:
        return round(value)
    return round(value, 3 if abs(value) < 100 else 1)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name} {_cell(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
