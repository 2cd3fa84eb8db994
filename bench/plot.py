"""Rates beside peers and targets, as one SVG that refers to nothing outside of itself.

A group of bars is a kind of rate, a bar a system: jobengine, the peers, and the goal. Without a
report of ``peers`` the benchmarks that have a target are shown beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bench.goals import goal_of

__all__ = ["draw"]

_TARGET: Final = "target"
_UNIT: Final = "jobs/s"
_OURS: Final = "jobengine"
_WIDTH: Final = 1000
_LEFT: Final = 330
_RIGHT: Final = 80
_TOP: Final = 40
_BAR: Final = 14
_BETWEEN: Final = 12
_COLOURS: Final = ("#3b6fb6", "#c9722b", "#8a4f9e", "#a33b3b", "#5f7f2f", "#2f8c8c", "#7a6a53")

Bars = dict[str, dict[str, float]]
"""Of each system its rate, by kind."""


def draw(path: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write the plot of what there is; nothing where there is no rate."""
    bars = _bars(reports)
    if not bars:
        return
    kinds = list(dict.fromkeys(kind for rates in bars.values() for kind in rates))
    height = _TOP + len(kinds) * (len(bars) * _BAR + _BETWEEN) + _BETWEEN
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    SubElement(svg, "title").text = "Jobs a second, medians; all on one server, in turns"
    _legend(svg, list(bars))
    most = max(rate for rates in bars.values() for rate in rates.values()) or 1.0
    y = _TOP
    for kind in kinds:
        _text(svg, _LEFT - 8, y + len(bars) * _BAR / 2 + 4, kind, "end")
        for number, (system, rates) in enumerate(bars.items()):
            if kind in rates:
                _bar(svg, y + number * _BAR, rates[kind], most, _colour(system, number))
        y += len(bars) * _BAR + _BETWEEN
    indent(svg)
    path.write_text(tostring(svg, encoding="unicode") + "\n")


def _legend(svg: Element, systems: Sequence[str]) -> None:
    x = float(_LEFT)
    for number, system in enumerate(systems):
        _box(svg, x, 12, 10, 10, _colour(system, number))
        _text(svg, x + 14, 21, system)
        x += 30 + 7 * len(system)
    _text(svg, _LEFT - 8, 21, _UNIT, "end")


def _bar(svg: Element, y: float, rate: float, most: float, colour: str) -> None:
    width = (_WIDTH - _LEFT - _RIGHT) * rate / most
    _box(svg, _LEFT, y, max(1.0, width), _BAR - 2, colour)
    _text(svg, _LEFT + width + 4, y + _BAR - 4, f"{rate:,.0f}")


def _box(svg: Element, x: float, y: float, width: float, height: float, colour: str) -> None:
    at = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    SubElement(svg, "rect", {**at, "fill": colour})


def _text(svg: Element, x: float, y: float, text: str, anchor: str = "start") -> None:
    at = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "fill": "#444"}
    SubElement(svg, "text", at).text = text


def _colour(system: str, number: int) -> str:
    fixed = {_OURS: "#0b6e4f", _TARGET: "#bbbbbb"}
    return fixed.get(system, _COLOURS[number % len(_COLOURS)])


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
