"""Named SQL statements: `sql/*.sql` read once, checked, and made ready for the driver.

A file holds statements one after another, each under a head of comments:

    -- name: job_by_id
    -- purpose: one job, for reading only
    -- rows: 0 or 1
    -- index: jobs_pkey
    -- locks: none
    -- parameters: tenant_id uuid, job_id uuid
    SELECT … WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s;

A head line goes on in comment lines indented by three spaces or more. `parameters` lists names with
their type as a note, or says `none`.

Several names make as many statements of one text. What some of them leave out stands between a line
`-- in: name, name`, of those that have it, and a line `-- end`.

I1  A name stands for one statement across all files.
I2  The parameters of the head are exactly those of the text.
I3  Every head has every line: what a statement costs and locks is known where it is written.

Placeholders become `$1…` in the order of first use; literals, comments, quoted identifiers and
dollar quotes are left alone, and a `%` anywhere else is the modulo operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

import attrs

from jobengine.store.errors import ProgrammerError

HEAD_LINES: Final = ("name", "purpose", "rows", "index", "locks", "parameters")

OPAQUE_SQL: Final = r"""
    --[^\n]* | /\*.*?\*/                                  # comments
  | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'             # literals
  | "(?:[^"]|"")*"                                        # quoted identifiers
  | \$(?P<dollar>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=dollar)\$   # dollar quotes
"""
_TOKEN = re.compile(
    rf"(?P<opaque>{OPAQUE_SQL}) | %\((?P<name>\w+)\)s | (?P<positional>\$\d+|%s)",
    re.DOTALL | re.VERBOSE,
)
_NAME_LINE = re.compile(r"^-- name:", re.MULTILINE)
_HEAD_LINE = re.compile(r"-- (\w+):\s*(.*)")
_CONTINUED_LINE = re.compile(r"--\s{3,}(\S.*)")
_PASSAGE_LINE = re.compile(r"\s*-- in: (.*)")
_PASSAGE_END = re.compile(r"\s*-- end")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


@attrs.frozen
class Statement:
    """A statement with `$1…` placeholders; `parameters[i]` is the name of `$i+1`."""

    name: str
    sql: str
    parameters: tuple[str, ...] = ()


def load_statements(directory: Traversable | None = None) -> Mapping[str, Statement]:
    """All statements of `directory` (default: this package's `sql/`), by name.

    Raises `ProgrammerError` naming file and statement where I1–I3 do not hold.
    """
    source = files("jobengine.store.postgres") / "sql" if directory is None else directory
    statements: dict[str, Statement] = {}
    for file in sorted(source.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        for statement in parse_statements(file.read_text(encoding="utf-8"), file.name):
            if statement.name in statements:
                raise ProgrammerError(f"{file.name}: {statement.name} is defined twice")
            statements[statement.name] = statement
    return MappingProxyType(statements)


def parse_statements(text: str, file_name: str) -> Iterator[Statement]:
    """The statements of one file's text, in their order."""
    starts = [match.start() for match in _NAME_LINE.finditer(text)]
    preamble = text[: starts[0]] if starts else text
    for line in preamble.splitlines():
        if line.strip() and not line.startswith("--"):
            raise ProgrammerError(f"{file_name}: SQL before the first '-- name:' line")
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield from _parse_family(text[start:end], file_name)


def _parse_family(text: str, file_name: str) -> Iterator[Statement]:
    """The statements of one head."""
    head, body = _split_head(text)
    names = [name.strip() for name in head["name"].split(",")]
    where = f"{file_name}: {head['name']}"
    if not all(map(_IDENTIFIER.fullmatch, names)):
        raise ProgrammerError(f"{where}: a name is lower_case_with_underscores")
    if missing := [line for line in HEAD_LINES if not head.get(line)]:
        raise ProgrammerError(f"{where}: the head lacks {', '.join(missing)}")
    if unknown := [line for line in head if line not in HEAD_LINES]:
        raise ProgrammerError(f"{where}: the head has unknown lines {', '.join(unknown)}")
    if not body:
        raise ProgrammerError(f"{where}: no SQL below the head")
    declared = _declared_parameters(head["parameters"])
    unused = dict.fromkeys(declared)
    for name in names:
        sql, used = _number_placeholders(_passages(body, name, names, where), where)
        if undeclared := [each for each in used if each not in declared]:
            raise ProgrammerError(f"{where}: unknown parameters {', '.join(undeclared)}")
        for each in used:
            unused.pop(each, None)
        yield Statement(name=name, sql=sql, parameters=used)
    if unused:
        raise ProgrammerError(f"{where}: parameters never used {', '.join(unused)}")


def _passages(body: str, name: str, names: Sequence[str], where: str) -> str:
    """What one statement has of a text."""
    kept: list[str] = []
    owners: list[str] | None = None
    for line in body.splitlines():
        if begun := _PASSAGE_LINE.fullmatch(line):
            if owners is not None:
                raise ProgrammerError(f"{where}: a passage begins within another")
            owners = [each.strip() for each in begun[1].split(",")]
            if strangers := [each for each in owners if each not in names]:
                raise ProgrammerError(f"{where}: no statement {', '.join(strangers)}")
        elif _PASSAGE_END.fullmatch(line):
            if owners is None:
                raise ProgrammerError(f"{where}: a passage ends that has not begun")
            owners = None
        elif owners is None or name in owners:
            kept.append(line)
    if owners is not None:
        raise ProgrammerError(f"{where}: a passage has no end")
    return "\n".join(kept)


def _split_head(text: str) -> tuple[dict[str, str], str]:
    """Head lines by keyword, and the SQL below them without its semicolon."""
    head: dict[str, str] = {}
    keyword = ""
    lines = text.splitlines()
    for count, line in enumerate(lines):
        if keyword and (more := _CONTINUED_LINE.fullmatch(line)):
            head[keyword] += f" {more[1]}"
        elif found := _HEAD_LINE.fullmatch(line.rstrip()):
            keyword = found[1]
            head[keyword] = found[2]
        else:
            return head, "\n".join(lines[count:]).strip().removesuffix(";").rstrip()
    return head, ""


def _declared_parameters(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    return tuple(part.split()[0] for part in text.split(",") if part.strip())


def _number_placeholders(body: str, where: str) -> tuple[str, tuple[str, ...]]:
    order: dict[str, int] = {}

    def replace(token: re.Match[str]) -> str:
        if token["positional"]:
            raise ProgrammerError(f"{where}: {token['positional']} is no named placeholder")
        if token["name"] is None:
            return token[0]
        return f"${order.setdefault(token['name'], len(order) + 1)}"

    sql = _TOKEN.sub(replace, body)
    return sql, tuple(order)
