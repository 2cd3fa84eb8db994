"""The effort of an expression: a JMESPath interpreter that takes no more looks than it is given.

Definitions. A *look* is a visit of a node of the expression, an item that is collected or looked
through, or 256 characters of a text that is.

I1  Time and memory of an evaluation are linear in its looks: what is not a visit is paid for before
    it is done.
I2  No number has more than some thousand digits, so that each has a text: ``to_number`` takes none
    of more than ``NUMBER_MAX`` characters.

Not here: what may stand in an expression (``expression``).
"""

from collections.abc import Sequence
from typing import Any, Final

from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

__all__ = ["LOOKS_MAX", "NUMBER_MAX", "Effort", "Interpreter", "SpentError"]

LOOKS_MAX: Final = 400_000
"""Of one node of a run: some 0.4 s."""
NUMBER_MAX: Final = 400

_CHARACTERS: Final = 256
_AT_ONCE: Final = frozenset({"length", "not_null", "type"})
"""Functions that do not look through what they are given."""


_functions: Final = Functions()


class SpentError(Exception):
    """There are no looks left."""


class Effort:
    """The looks that may be taken, by as many expressions as share it."""

    __slots__ = ("_left", "looks")

    def __init__(self, looks: int = LOOKS_MAX) -> None:
        self.looks = looks
        self._left = looks

    @property
    def spent(self) -> bool:
        """Whether an evaluation was stopped for want of looks."""
        return self._left < 0

    def spend(self, looks: int) -> None:
        """Raises ``SpentError``."""
        self._left -= looks
        if self._left < 0:
            raise SpentError


class Interpreter(TreeInterpreter):
    """Evaluates by the looks of ``effort``. Raises ``SpentError``, and what jmespath raises."""

    def __init__(self, effort: Effort) -> None:
        super().__init__()
        self._effort = effort

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._effort.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        merged: list[Any] = []
        for each in base:
            if isinstance(each, list):
                self._effort.spend(len(each))
                merged.extend(each)
            else:
                merged.append(each)
        self._effort.spend(len(base))
        return merged

    def visit_slice(self, node: Any, value: Any) -> Any:
        self._effort.spend(_size(value))
        return super().visit_slice(node, value)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        if node["value"] not in ("eq", "ne"):
            return super().visit_comparator(node, value)
        left, right = (self.visit(child, value) for child in node["children"])
        if type(left) is type(right) and _size(left) == _size(right):
            self._look_through(left)
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        given: Sequence[Any] = [self.visit(child, value) for child in node["children"]]
        name = node["value"]
        if name not in _AT_ONCE:
            self._effort.spend(sum(map(_size, given)))
        if name == "contains" and len(given) == 2 and isinstance(given[1], dict | list):
            self._look_through(given[0])
        if name == "to_number" and len(given) == 1 and _is_long(given[0]):
            raise ValueError(f"to_number() takes {NUMBER_MAX} characters at most")
        return _functions.call_function(name, given)

    def _look_through(self, value: Any) -> None:
        """Pay for all that is in a value."""
        todo = [value]
        while todo:
            each = todo.pop()
            self._effort.spend(_size(each))
            if isinstance(each, dict):
                todo.extend(each.values())
            elif isinstance(each, list):
                todo.extend(each)


def _size(value: Any) -> int:
    if isinstance(value, dict | list):
        return len(value)
    return len(value) // _CHARACTERS if isinstance(value, str) else 0


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > NUMBER_MAX
