"""Reports as a table of Markdown, kept between two markers of a document.

A row is a case of a benchmark, and what stands between the markers is read again: rows of
benchmarks that did not run this time stay, in their place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import click

from bench.goals import Goal, goal_of, other_goals_of
from bench.harness.report import is_durable

__all__ = ["BEGIN", "END", "rows_of", "split_at_markers", "update_document"]

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"
_HEAD: Final = (
    "| benchmark | case | median | from – to | must reach | durable |",
    "|---|---|---|---|---|---|",
)
_ROW: Final = re.compile(r"\| `(?P<name>[^`]+)` \|")


def update_document(path: Path, reports: Sequence[Mapping[str, Any]], plot: str) -> None:
    """Write the rows of `reports` between the markers of the file at `path`, which has to have
    them, once each and in order; all else in it stays."""
    before, between, after = split_at_markers(path)
    rows = _known_rows(between)
    for report in reports:
        rows[report["name"]] = list(rows_of(report))
    table = [*_HEAD, *(row for each in rows.values() for row in each)]
    parts = ["", *table, "", f"![Rates beside peers and targets]({plot})", ""]
    path.write_text(before + BEGIN + "\n".join(parts) + END + after)


def split_at_markers(path: Path) -> tuple[str, str, str]:
    """What a document says before, between and after the markers. Raises `click.UsageError` where
    it is not there, or does not have them once each and in order."""
    try:
        text = path.read_text()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise click.UsageError(f"{path}: needs a line {BEGIN} and, below it, a line {END}")
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between, after


def rows_of(report: Mapping[str, Any]) -> Iterable[str]:
    """A row for each case of a report, and one for each other field of it that has a goal."""
    name, unit = str(report["name"]), str(report["unit"])
    durable = "yes" if is_durable(report["durability"]) else "**no**"
    durable = "; ".join([durable, *report.get("caveats", ())])
    for case, figures in report["cases"].items():
        spread = (figures["median"], figures["min"], figures["max"])
        yield _row(name, case, spread, _unit_of(unit, case), goal_of(name, case), durable)
        for goal in other_goals_of(name, case):
            read = [figure for run in report["runs"] if (figure := goal.read(run)) is not None]
            if read:
                spread = (median(read), min(read), max(read))
                yield _row(name, f"{case}: `{goal.field}`", spread, "", goal, durable)


def _unit_of(units: str, case: str) -> str:
    """Of ``jobs/s; pick-up: ms``, cases that begin with "pick-up" have the second."""
    unit, *others = units.split("; ")
    for other in others:
        beginning, _, named = other.partition(": ")
        if case.startswith(beginning):
            return named
    return unit


def _row(
    name: str,
    case: str,
    spread: tuple[float, float, float],
    unit: str,
    goal: Goal | None,
    durable: str,
) -> str:
    middle, least, most = spread
    cells = (
        f"`{name}`",
        case.replace("|", "\\|"),
        f"{_number(middle)} {unit}".rstrip(),
        f"{_number(least)} – {_number(most)}",
        "–" if goal is None else goal.judge(middle),
        durable,
    )
    return f"| {' | '.join(cells)} |"


def _known_rows(between: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in between.splitlines():
        if (found := _ROW.match(line)) is not None:
            rows.setdefault(found["name"], []).append(line)
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
