"""Rates beside peers and targets, as one SVG that refers to nothing outside of itself.

A group of bars is a kind of rate, a bar a system: jobengine, the peers, and the goal. Without a
report of ``peers`` the benchmarks that have a target are shown beside it.
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.goals import goal_of

__all__ = ["draw"]

_TARGET: Final = "target"
_UNIT: Final = "jobs/s"
_OURS: Final = "jobengine"

Bars = dict[str, dict[str, float]]
"""Of each system its rate, by kind."""


def draw(path: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write the plot of what there is; nothing where there is no rate."""
    bars = _bars(reports)
    if not bars:
        return
    kinds = list(dict.fromkeys(kind for rates in bars.values() for kind in rates))
    pygal = _pygal()
    chart = pygal.Bar(
        js=[],
        pretty_print=True,
        disable_xml_declaration=True,
        style=pygal.style.CleanStyle(font_family="sans-serif"),
        title="Jobs a second, medians; all on one server, in turns",
        x_labels=kinds,
        y_title=_UNIT,
        legend_at_bottom=True,
        width=1000,
        height=480,
        value_formatter=lambda value: f"{value:,.0f}",
    )
    for system, rates in bars.items():
        chart.add(system, [rates.get(kind) for kind in kinds])
    path.write_text(chart.render(is_unicode=True) + "\n")


def _pygal() -> Any:
    """The library, without the import hook that it leaves behind: one of a kind that is gone since
    Python 3.12, and that 3.11 warns of at every import."""
    hooks = list(sys.meta_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        import pygal  # type: ignore[import-untyped]
        import pygal.style  # type: ignore[import-untyped]
    sys.meta_path[:] = hooks
    return pygal


def _bars(reports: Sequence[Mapping[str, Any]]) -> Bars:
    bars: Bars = {}
    for report in reports:
        for case, figures in report["cases"].items():
            if report["name"] == "peers":
                kind, _, system = case.partition(": ")
                if kind == "pick-up":
                    continue
            elif report["unit"] == _UNIT:
                kind, system = f"{report['name']} {case}".strip(), _OURS
                if goal_of(report["name"], case) is None:
                    continue
            else:
                continue
            bars.setdefault(system, {})[kind] = figures["median"]
            if (goal := goal_of(report["name"], case)) is not None and goal.floor:
                bars.setdefault(_TARGET, {})[kind] = goal.value
    return bars
