"""Expressions: a part of JMESPath that can look and compare, and nothing else.

Definitions. The *environment* is the object that an expression looks into: ``inputs`` and
``results`` of a run by key, and what else the place offers (``item``, ``index``, ``run``,
``callbacks``). What an expression *reads* are the keys that follow ``results``.

I1  An expression costs no more than its length times the size of the environment: whatever could
    copy or multiply what it looks at (multi-select, ``join``, ``to_string``, …) is refused when it
    is parsed, by a list of what is allowed.
I2  Which names of the environment and which results it looks at is known without evaluating it.
I3  A path that finds nothing is an error, since a misspelt name would go unnoticed; where that may
    happen, ``not_null(path, `default`)`` says so. A function may answer null.

Not here: where expressions stand in a payload (``template``).
Source: https://jmespath.org/specification.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = ["EXPRESSION_MAX", "Expression", "ExpressionError", "parse_expression"]

EXPRESSION_MAX: Final = 1024
"""Characters."""

_FUNCTIONS: Final = frozenset(
    {
        "abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max", "max_by",
        "min", "min_by", "not_null", "reverse", "sort", "sort_by", "starts_with", "sum",
        "to_number", "type", "values",
    }
)  # fmt: skip
_ALL_LOOK: Final = frozenset(
    {"and_expression", "comparator", "function_expression", "not_expression", "or_expression"}
)
"""Nodes whose every child looks into what the node looks into."""
_FIRST_LOOKS: Final = frozenset(
    {
        "filter_projection", "flatten", "index_expression", "pipe", "projection", "subexpression",
        "value_projection",
    }
)  # fmt: skip
"""Nodes whose first child does, and whose others look into what that has found."""
_LEAVES: Final = frozenset({"current", "expref", "field", "identity", "index", "literal", "slice"})
_PATHS: Final = _FIRST_LOOKS | {"field"}
_DEPTH_MAX: Final = 32
_SHOWN_MAX: Final = 64

_quoted: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`((?:\\.|[^`\\])*)`""")
"""Raw strings, quoted names, and literals, of which it gives the inside."""

_NO_VALUE: Final = (JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError)
"""What functions raise of their own too, where an argument is of no use to them."""

_Node = Mapping[str, Any]


class ExpressionError(Exception):
    """An expression has no value here; the message names the expression and says why."""


@attrs.frozen(eq=False)
class Expression:
    """``names`` are the parts of the environment it looks at, ``reads`` the results among them."""

    text: str
    names: frozenset[str]
    reads: frozenset[str]
    _parsed: ParsedResult
    _may_be_null: bool

    def evaluate(self, environment: Mapping[str, Any]) -> Any:
        """The value, part of the environment or new. Raises ``ExpressionError``."""
        try:
            value = self._parsed.search(environment)
        except _NO_VALUE as error:
            raise ExpressionError(f"${{{self.text}}}: {error}") from None
        if value is None and not self._may_be_null:
            why = "finds nothing; allow for that with not_null(path, `default`)"
            raise ExpressionError(f"${{{self.text}}}: {why}")
        return value

    def holds(self, environment: Mapping[str, Any]) -> bool:
        """The value of a condition. Raises ``ExpressionError``, also where it is no boolean."""
        value = self.evaluate(environment)
        if not isinstance(value, bool):
            why = f"a condition is true or false, not {_brief(value)}"
            raise ExpressionError(f"${{{self.text}}}: {why}")
        return value


def _brief(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def parse_expression(text: str, names: frozenset[str], path: str) -> Expression | Refusal:
    """Parse what stands between ``${`` and ``}``. ``names`` are the parts that the environment
    will have; where one is ``inputs.NAME``, inputs of other names are refused. ``path`` is where it
    stands in the document, for the refusal."""
    if len(text) > EXPRESSION_MAX:
        return _refuse(path, text, f"is longer than {EXPRESSION_MAX} characters")
    for literal in _quoted.finditer(text):
        if literal[1] is not None and not _is_json(literal[1].replace("\\`", "`")):
            return _refuse(path, text, f"holds {literal[0]}, which is no JSON; write '…' for text")
    try:
        parsed = jmespath.compile(text)
    except (JMESPathError, RecursionError) as error:
        return _refuse(path, text, str(error).splitlines()[0])
    tree: _Node = parsed.parsed
    for depth, node in _walk(tree):
        why = _why_not(node) if depth <= _DEPTH_MAX else f"is nested deeper than {_DEPTH_MAX}"
        if why is not None:
            return _refuse(path, text, why)
    looked_at, reads = set[str](), set[str]()
    for name, key in _roots(tree):
        if name not in names:
            known = ", ".join(sorted(each for each in names if "." not in each))
            return _refuse(path, text, f"looks at {name or '@'!r}; there are {known}")
        if name == "results" and key is None:
            return _refuse(path, text, 'names no job; write results.KEY or results."KEY"')
        if name == "inputs" and key is not None and f"inputs.{key}" not in names:
            declared = sorted(each for each in names if each.startswith("inputs."))
            if declared:
                known = ", ".join(declared)
                return _refuse(path, text, f"looks at inputs.{key}; declared are {known}")
        looked_at.add(name)
        if name == "results" and key is not None:
            reads.add(key)
    may_be_null = tree["type"] not in _PATHS
    return Expression(text, frozenset(looked_at), frozenset(reads), parsed, may_be_null)


def _refuse(path: str, text: str, why: str) -> Refusal:
    shown = text if len(text) <= 160 else f"{text[:160]}…"
    return Refusal(
        ErrorCode.TEMPLATE_INVALID, f"{path}: the expression ${{{shown}}} {why}", {"path": path}
    )


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True


def _why_not(node: _Node) -> str | None:
    """Why an expression with this node is refused (I1)."""
    kind = node["type"]
    if kind == "function_expression" and node["value"] not in _FUNCTIONS:
        return f"calls {node['value']}(); allowed are {', '.join(sorted(_FUNCTIONS))}"
    if kind not in _ALL_LOOK | _FIRST_LOOKS | _LEAVES:
        return f"builds new values ({kind.replace('_', ' ')}); take them one by one"
    return None


def _walk(tree: _Node) -> Iterator[tuple[int, _Node]]:
    """Every node, with its depth."""
    todo = [(1, tree)]
    while todo:
        depth, node = todo.pop()
        yield depth, node
        if node["type"] != "slice":
            todo.extend((depth + 1, child) for child in node["children"])


def _roots(tree: _Node) -> Iterator[tuple[str, str | None]]:
    """What the expression looks at in the environment itself: the name, "" for all of it, and the
    name that follows, if one does."""
    todo: list[tuple[_Node, str | None]] = [(tree, None)]
    while todo:
        node, follows = todo.pop()
        kind = node["type"]
        if kind == "field":
            yield node["value"], follows
        elif kind in ("current", "identity", "expref"):
            yield "", None
        elif kind in _ALL_LOOK:
            todo.extend((child, None) for child in node["children"] if child["type"] != "expref")
        elif kind in _FIRST_LOOKS:
            first, *others = node["children"]
            if kind == "subexpression":
                follows = _leftmost_field(others[0])
            todo.append((first, follows))


def _leftmost_field(node: _Node) -> str | None:
    while node["type"] in _FIRST_LOOKS:
        node = node["children"][0]
    return str(node["value"]) if node["type"] == "field" else None
