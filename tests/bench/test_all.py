"""All benchmarks in turn: the table between the markers, the plot, and what a failure does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest

from bench import all as every
from bench.__main__ import bench
from bench.all import PLANS, Plan, SomeFailedError
from bench.goals import GOALS, Goal
from bench.plot import draw
from bench.results import BEGIN, END, rows_of, update_document

SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
PROSE = f"# Performance\n\nBefore.\n\n{BEGIN}\n{END}\n\nBehind.\n"


def report(name: str, **cases: float) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "jobs/s",
        "durability": SAFE,
        "caveats": [],
        "cases": {
            case.replace("_", " "): {"median": figure, "min": figure, "max": figure}
            for case, figure in cases.items()
        },
        "runs": [],
    }


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "performance.md"
    path.write_text(PROSE)
    return path


def rows_in(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("| `")]


def test_the_table_goes_between_the_markers_and_all_else_stays(document: Path) -> None:
    update_document(document, [report("throughput", throughput=12_345.0)], "plot.svg")
    text = document.read_text()
    assert text.startswith(f"# Performance\n\nBefore.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nBehind.\n")
    (row,) = rows_in(document)
    figures = "12,345 jobs/s | 12,345 – 12,345 | ≥ 20,000: **missed** | yes"
    assert row == f"| `throughput` | throughput | {figures} |"


def test_a_case_may_have_a_unit_of_its_own() -> None:
    made = report("peers", **{"drain: oban": 5.0, "pick-up: oban": 2.0})
    made["unit"] = "jobs/s; pick-up: ms"
    drain, pick_up = rows_of(made)
    assert "| 5 jobs/s |" in drain
    assert "| 2 ms |" in pick_up


def test_rows_of_a_benchmark_that_did_not_run_stay_in_their_place(document: Path) -> None:
    first = [report("drain", a=1.0, b=2.0), report("pickup", c=3.0)]
    update_document(document, first, "plot.svg")
    once = document.read_text()
    update_document(document, first, "plot.svg")
    assert document.read_text() == once
    update_document(document, [report("drain", a=9.0)], "plot.svg")
    assert [row.split(" | ")[:3] for row in rows_in(document)] == [
        ["| `drain`", "a", "9 jobs/s"],
        ["| `pickup`", "c", "3 jobs/s"],
    ]


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}\n", f"{BEGIN}{BEGIN}{END}"])
def test_a_document_without_its_markers_is_left_alone(document: Path, text: str) -> None:
    document.write_text(text)
    with pytest.raises(click.UsageError, match="bench:begin"):
        update_document(document, [report("drain", a=1.0)], "plot.svg")
    assert document.read_text() == text


async def test_nothing_is_measured_for_a_document_without_a_place_for_it(tmp_path: Path) -> None:
    said: list[str] = []
    arguments: Mapping[str, Any] = {
        "quick": True,
        "only": (),
        "plot": tmp_path / "plot.svg",
        "plans": (Plan("dag", 60),),
        "say": said.append,
    }
    (tmp_path / "prose.md").write_text("Nothing else.\n")
    for name, why in (("prose.md", "bench:begin"), ("nonesuch.md", "No such file")):
        with pytest.raises(click.UsageError, match=why):
            await every.run(["dag"], document=tmp_path / name, **arguments)
    assert said == []


def test_a_row_says_what_makes_its_figure_incomparable() -> None:
    told = report("drain", a=1.0) | {"durability": SAFE | {"fsync": "off"}, "caveats": ["used"]}
    assert next(iter(rows_of(told))).endswith("| **no**; used |")


def test_a_goal_is_a_floor_or_a_ceiling() -> None:
    assert Goal("b", "c", 10).judge(10) == "≥ 10"
    assert Goal("b", "c", 10).judge(9) == "≥ 10: **missed**"
    assert Goal("b", "c", 0.6, floor=False).judge(0.7) == "≤ 0.6: **missed**"


def test_a_goal_of_another_field_has_a_row_of_its_own() -> None:
    told = report("throughput", throughput=30_000.0)
    told["runs"] = [
        {"case": "throughput", "cpu_us_per_job": {"engine": cpu_us}}
        for cpu_us in (50.0, 30.0, 41.0)
    ]
    _, row = rows_of(told)
    figures = "41 | 30 – 50 | ≤ 40: **missed** | yes"
    assert row == f"| `throughput` | throughput: `cpu_us_per_job.engine` | {figures} |"


def test_a_field_that_no_run_has_is_not_judged() -> None:
    told = report("pickup")
    told["cases"] = {"200 jobs/s": {"median": 0.5, "min": 0.4, "max": 0.7}}
    told["runs"] = [{"case": "200 jobs/s"}, {"case": "2000 jobs/s", "p99_ms": 99.0}]
    (row,) = rows_of(told)
    assert "≤ 0.6 |" in row


def test_the_plot_shows_each_system_and_refers_to_nothing_outside(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    cases = {"drain: jobengine": 3.0, "drain: oban": 2.0, "pick-up: oban": 1.0}
    told = report("peers", **cases)
    draw(path, [told, report("store_limit", limit=5.0)])
    text = path.read_text()
    ET.fromstring(text)
    assert "oban" in text
    assert "jobengine" in text
    assert "target" in text
    assert "pick-up" not in text
    for attribute in ("href=", "src=", "@import", "url("):
        assert attribute not in text


def test_without_rates_there_is_no_plot(tmp_path: Path) -> None:
    draw(tmp_path / "plot.svg", [report("store_limit", limit=5.0)])
    assert not (tmp_path / "plot.svg").exists()


async def test_a_benchmark_that_fails_or_hangs_does_not_keep_the_others(document: Path) -> None:
    said: list[str] = []
    plans = (
        Plan("doors", 60, full="--no-such-option"),
        Plan("sim", 0),
        Plan("dag", 60, full="--rounds 1 --nodes 50"),
    )
    with pytest.raises(SomeFailedError) as failure:
        await every.run(
            ["dag", "sim", "doors"],
            quick=False,
            only=(),
            document=document,
            plot=document.with_suffix(".svg"),
            plans=plans,
            say=said.append,
        )
    assert str(failure.value).splitlines() == [
        "2 of 3 failed:",
        "  doors: ended with 2",
        "  sim: took more than 0 s",
    ]
    assert [row.split(" | ")[0] for row in rows_in(document)] == ["| `dag`"] * 4
    assert said[0] == "[1/3] doors --no-such-option"


async def test_only_those_that_are_named_run_and_an_unknown_name_is_a_mistake(
    document: Path,
) -> None:
    arguments: Mapping[str, Any] = {
        "quick": False,
        "document": document,
        "plot": document.with_suffix(".svg"),
        "plans": (Plan("dag", 0), Plan("sim", 0)),
        "say": lambda line: None,
    }
    with pytest.raises(SomeFailedError, match=r"^1 of 1 failed:\n  dag:"):
        await every.run(["dag", "sim"], only=["dag"], **arguments)
    with pytest.raises(click.UsageError, match="no benchmark is named rabbit"):
        await every.run(["dag"], only=["rabbit"], **arguments)


def test_every_benchmark_has_a_plan() -> None:
    assert {plan.name for plan in PLANS} == set(bench.commands) - {"all"}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_a_plan_holds_what_its_benchmark_can_be_told(plan: Plan, quick: bool) -> None:
    arguments = list(plan.arguments(quick=quick))
    context = bench.commands[plan.name].make_context(plan.name, arguments)
    assert not quick or context.params["rounds"] == 1
    assert 0 < plan.limit_s(quick=quick) <= (300 if quick else 3600)


def test_every_goal_is_of_a_benchmark_that_there_is() -> None:
    assert {goal.benchmark for goal in GOALS} <= set(bench.commands)


def test_help_has_one_whole_line_for_each_command() -> None:
    text = bench.get_help(click.Context(bench, info_name="bench", max_content_width=80))
    lines = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert {line[0] for line in lines} >= set(bench.commands)
    for name in bench.commands:
        (line,) = (line for line in lines if line[0] == name)
        assert line[-1].endswith(".")
        assert not line[-1].endswith("...")
