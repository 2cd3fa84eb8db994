"""Expressions: a part of JMESPath that can look and compare, and nothing else.

Definitions. The *environment* is the object that an expression looks into: ``inputs`` and
``results`` of a run by key, and what else the place offers (``item``, ``index``, ``run``,
``callbacks``). What an expression *reads* are the keys that follow ``results``.

I1  An evaluation takes no more looks than its ``Effort`` has. What builds new values (multi-select,
    ``join``, ``to_string``, …) is refused when it is parsed, by a list of what is allowed.
I2  Which names of the environment and which results it looks at is known without evaluating it.
I3  A path that finds nothing is an error, since a misspelt name would go unnoticed; where that may
    happen, ``not_null(path, `default`)`` says so. A function may answer null.
I4  Whatever goes wrong is an ``ExpressionError``, whose message is short and can be stored.

Not here: where expressions stand in a payload (``template``), what a look is
(``expression_effort``).
Source: https://jmespath.org/specification.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import jmespath
import msgspec
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult

from jobengine.domain.canonical import storable
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression_effort import Effort, Interpreter, SpentError

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
_MESSAGE_MAX: Final = 500
_BY: Final = frozenset({"max_by", "min_by", "sort_by"})
"""Functions whose second argument, and no other, is an expression (``&name``)."""
_BY_NAMES: Final = ", ".join(sorted(_BY))

_quoted: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`((?:\\.|[^`\\])*)`""")
"""Raw strings, quoted names, and literals, of which it gives the inside."""

_NO_VALUE: Final = (JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError)
"""What functions raise of their own too, where an argument is of no use to them."""

_Node = Mapping[str, Any]


class ExpressionError(Exception):
    """An expression has no value here; the message names the expression and says why (I4)."""

    def __init__(self, text: str, why: str) -> None:
        shown = text if len(text) <= _MESSAGE_MAX // 2 else f"{text[: _MESSAGE_MAX // 2 - 1]}…"
        super().__init__(storable(f"${{{shown}}}: {why}", _MESSAGE_MAX))


@attrs.frozen(eq=False)
class Expression:
    """``names`` are the parts of the environment it looks at, ``reads`` the results among them."""

    text: str
    names: frozenset[str]
    reads: frozenset[str]
    _parsed: ParsedResult
    _may_be_null: bool

    def evaluate(self, environment: Mapping[str, Any], effort: Effort | None = None) -> Any:
        """The value, part of the environment or new, by the looks of ``effort``, else of one of its
        own. Raises ``ExpressionError``."""
        effort = effort or Effort()
        try:
            value = Interpreter(effort).visit(self._parsed.parsed, environment)
        except SpentError:
            why = f"a node looks at no more than {effort.looks} items; make the list shorter before"
            raise ExpressionError(self.text, why) from None
        except _NO_VALUE as error:
            raise ExpressionError(self.text, _words(error)) from None
        if value is None and not self._may_be_null:
            why = "finds nothing; allow for that with not_null(path, `default`)"
            raise ExpressionError(self.text, why)
        return value

    def holds(self, environment: Mapping[str, Any], effort: Effort | None = None) -> bool:
        """The value of a condition. Raises ``ExpressionError``, also where it is no boolean."""
        value = self.evaluate(environment, effort)
        if not isinstance(value, bool):
            why = f"a condition is true or false, not {_brief(value)}"
            raise ExpressionError(self.text, why)
        return value


def _words(error: Exception) -> str:
    """What an error says, but for a value that it shows whole."""
    if isinstance(error, JMESPathTypeError):
        wanted = " or ".join(map(str, error.expected_types))
        return f"{error.function_name}() takes {wanted}, not {error.actual_type}"
    try:
        return str(error)
    except ValueError:
        return "a number is too long"


def _brief(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    try:
        text = repr(value)
    except ValueError:
        return "a long number"
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
    for place, child in enumerate(node["children"] if kind != "slice" else ()):
        by = kind == "function_expression" and node["value"] in _BY and place == 1
        if child["type"] == "expref" and not by:
            return f"has & where no expression stands; it is the second argument of {_BY_NAMES}"
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
