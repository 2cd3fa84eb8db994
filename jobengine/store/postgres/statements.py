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

I1  A name stands for one statement across all files.
I2  The parameters of the head are exactly those of the text.
I3  Every head has every line: what a statement costs and locks is known where it is written.

Placeholders become `$1…` in the order of first use; literals, comments, quoted identifiers and
dollar quotes are left alone, and a `%` anywhere else is the modulo operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
        yield _parse_statement(text[start:end], file_name)


def _parse_statement(text: str, file_name: str) -> Statement:
    head, body = _split_head(text)
    name = head["name"]
    where = f"{file_name}: {name}"
    if not _IDENTIFIER.fullmatch(name):
        raise ProgrammerError(f"{where}: a name is lower_case_with_underscores")
    if missing := [line for line in HEAD_LINES if not head.get(line)]:
        raise ProgrammerError(f"{where}: the head lacks {', '.join(missing)}")
    if unknown := [line for line in head if line not in HEAD_LINES]:
        raise ProgrammerError(f"{where}: the head has unknown lines {', '.join(unknown)}")
    if not body:
        raise ProgrammerError(f"{where}: no SQL below the head")
    sql, used = _number_placeholders(body, where)
    declared = _declared_parameters(head["parameters"])
    if undeclared := [name for name in used if name not in declared]:
        raise ProgrammerError(f"{where}: unknown parameters {', '.join(undeclared)}")
    if unused := [name for name in declared if name not in used]:
        raise ProgrammerError(f"{where}: parameters never used {', '.join(unused)}")
    return Statement(name=name, sql=sql, parameters=used)


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
