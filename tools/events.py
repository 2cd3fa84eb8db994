"""The two tables of `docs/events.md`: the envelope field by field, and the types of events.

The rest of the page is written by hand and kept as it is: a table replaces what stands between its
two marks.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from jobengine.wire.event_schema import EventField, paths
from jobengine.wire.event_types import EVENT_TYPES, EventType

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "events.md"


def page() -> str:
    return filled(PAGE.read_text())


def filled(text: str) -> str:
    """The page with its tables as they are now. Raises `ValueError` where a mark is missing."""
    tables = {
        "fields": _table(["field", "when", "says"], map(_field, *zip(*paths(), strict=True))),
        "types": _types("ledger"),
        "beside": _types("beside"),
        "reserved": _table(
            ["name", "for"],
            ([f"`{each.name}`", each.meaning] for each in _of("reserved")),
        ),
    }
    for name, table in tables.items():
        marks = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        if [text.count(mark) for mark in marks] != [1, 1]:
            raise ValueError(f"{PAGE.name} needs the two marks of {name}, each once")
        head, _, rest = text.partition(marks[0])
        text = head + marks[0] + table + marks[1] + rest.partition(marks[1])[2]
    return text


def _of(origin: str) -> Iterable[EventType]:
    return (each for each in EVENT_TYPES if each.origin == origin)


def _types(origin: str) -> str:
    rows = ([f"`{each.name}`", each.meaning, each.carries or "–"] for each in _of(origin))
    return _table(["type", "means", "carries"], rows)


def _field(path: str, field: EventField) -> Sequence[str]:
    says = field.about + (" *Addition.*" if field.added else "")
    return [f"`{path}`", field.when or "always", says]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
