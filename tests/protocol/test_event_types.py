"""The list of event types against the code that writes entries, and the page that shows both."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jobengine
from jobengine.domain.job import TRANSITIONS
from jobengine.domain.run import RUN_TRANSITIONS
from jobengine.wire.event_types import EVENT_TYPES
from tools import events

PACKAGE = Path(jobengine.__file__).parent
WRITERS = ("actors", "core", "domain", "http")
LISTED = {each.name: each for each in EVENT_TYPES}
OF_LEDGER = {each.name for each in EVENT_TYPES if each.origin == "ledger"}
FAMILIES = {name.partition(".")[0] for name in OF_LEDGER}
A_KIND = re.compile(r"[a-z_]+\.[a-z_]+")
SPECIFIED = (
    *(f"job.{name}" for name in ("created", "scheduled", "started", "progressed", "completed")),
    *(f"job.{name}" for name in ("failed", "retried", "released", "cancelled", "dead_lettered")),
    *("lease.expired", "lease.refused", "source.paused", "source.resumed", "source.throttled"),
    *("bucket.adapted", "watermark.advanced", "schedule.fired", "schedule.missed"),
    *("pack_run.log", "pack_run.artifact", "policy.updated", "export.completed"),
    *("backfill.*", "slo.*", "audit.*", "incident.opened", "quota.created", "breaker.opened"),
)
VERBS_OF_DOCUMENTS = ("registered", "enabled", "disabled")
KIND_PARAMETERS = {"remark": 0, "note": 1, "administer": 1, "_administer": 1, "change": 1}
"""Where calls that write an entry take its kind."""


def strings(node: ast.expr) -> Iterator[str]:
    """Constants with a dot that an expression may come to; of `f"{kind}.made"` it is `*.made`."""
    for each in ast.walk(node):
        if isinstance(each, ast.JoinedStr):
            last = each.values[-1]
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                yield f"*{last.value}"
        elif isinstance(each, ast.Constant) and A_KIND.fullmatch(str(each.value)):
            yield str(each.value)


def read() -> Iterator[tuple[str, str]]:
    """What the engine's code gives as the kind of an entry, with the file: arguments of calls that
    write one, and every other text that begins like a type of event."""
    for layer in WRITERS:
        for path in sorted((PACKAGE / layer).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    given = node.args[KIND_PARAMETERS.get(called, 99) :][:1]
                    if called in ("Entry", "AdministerTenant", "Recording"):
                        given = [each.value for each in node.keywords if each.arg == "kind"]
                    for expression in given:
                        for text in strings(expression):
                            yield text, path.name
                elif isinstance(node, ast.Assign) and path.stem == "control_collection":
                    made = [text for text in strings(node.value) if text.startswith("*.")]
                    yield from ((text, path.name) for text in made)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    family, _, rest = node.value.partition(".")
                    if family in FAMILIES and A_KIND.fullmatch(node.value) and rest:
                        yield node.value, path.name


@cache
def written() -> dict[str, str]:
    """File by text."""
    return dict(read())


def test_every_kind_of_entry_that_the_code_writes_is_a_listed_type() -> None:
    ends = {f"*.{name.partition('.')[2]}" for name in OF_LEDGER}
    found = written()
    unlisted = {
        text: file
        for text, file in found.items()
        if text not in LISTED and not (text.startswith("*.") and text in ends)
    }
    assert not unlisted
    assert {"job.created", "run.grown", "breaker.opened", "*.created"} <= set(found)


def test_every_type_of_the_ledger_is_written_somewhere() -> None:
    found = set(written())
    ends = {text for text in found if text.startswith("*.")}
    left = {name for name in OF_LEDGER - found if f"*.{name.partition('.')[2]}" not in ends}
    assert left == {
        *(f"{kind}.{verb}" for kind in ("dag", "pack") for verb in VERBS_OF_DOCUMENTS),
        *(f"quota.{verb}" for verb in ("paused", "resumed")),
        *(f"{kind}.updated" for kind in ("blackout", "quota", "source")),
    }, "these alone are made of a kind and a verb that stand apart"


def test_the_tables_of_transitions_are_listed() -> None:
    assert {row.event for row in TRANSITIONS} <= OF_LEDGER
    assert {row.event for row in RUN_TRANSITIONS} <= OF_LEDGER


def test_names_are_unique_and_what_the_specification_names_is_there() -> None:
    assert len(LISTED) == len(EVENT_TYPES)
    missing = [name for name in SPECIFIED if name not in LISTED]
    assert not missing


def test_the_page_shows_every_type_and_nothing_of_it_is_stale() -> None:
    text = events.PAGE.read_text()
    assert events.page() == text
    assert all(f"`{name}`" in text for name in LISTED)
