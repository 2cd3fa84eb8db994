"""What commands print: tables for people, one JSON document for programs."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import click

__all__ = [
    "Form",
    "json_text",
    "output_option",
    "print_fields",
    "print_json",
    "print_lines",
    "print_table",
    "printable",
    "printable_lines",
]

F = TypeVar("F", bound=Callable[..., Any])
Form = Literal["table", "json"]
_GAP: Final = "  "
_CONTROLS: Final = re.compile("[\x7f-\x9f]")
"""Those that JSON may hold as they are; terminals obey them too."""


def output_option(command: F) -> F:
    """Gives a command `--output`, as the parameter `output`."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Tables are for people, JSON for programs.",
    )(command)


def print_json(document: Any) -> None:
    """One line of JSON, at once; wire types keep the names they have on the wire."""
    sys.stdout.write(json_text(document) + "\n")
    sys.stdout.flush()


def json_text(document: Any) -> str:
    """One line of JSON that steers no terminal either."""
    import msgspec

    text = msgspec.json.encode(document).decode()
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns, never cut off, so that a pipe gets what a terminal shows."""
    cells = [[_cell(value) for value in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print(
            _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """One field a line; a field without a value is left out."""
    present = [(name, _cell(value)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in present), default=0)
    for name, text in present:
        print(f"{name.ljust(width)}{_GAP}{text}")


def print_lines(name: str, text: str) -> None:
    """A field of many lines, below its name and indented."""
    print(name)
    for line in text.rstrip("\n").split("\n"):
        print(_GAP + printable(line.removesuffix("\r").expandtabs(4)))


def _cell(value: object) -> str:
    return printable("-" if value is None else str(value))


def printable(text: str) -> str:
    """Text on one line; what a tenant wrote must not steer the terminal of an operator."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def printable_lines(text: str) -> str:
    """The same of a text that may have many lines."""
    return "\n".join(printable(line) for line in text.split("\n"))
