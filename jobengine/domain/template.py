"""Templates: payloads with ``${expression}`` in their strings, filled in when a job is released.

A string that is one expression becomes its value, of whatever type; an expression within a longer
string becomes text: a string as it is, anything else as JSON. ``$${`` stands for ``${``. Names of
members are never templates.

I1  What is filled in is never looked at again: a value with ``${`` in it stays as it is.
I2  Filling in costs what the payload may be large at most, plus the looks of the expressions.
I3  A payload with ``${`` in it is nested ``DEPTH_MAX`` deep at most.

Not here: what an expression may be (``expression``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.domain.canonical import NotCanonicalError, canonical_of
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression import Expression, ExpressionError, parse_expression
from jobengine.domain.expression_effort import Effort

__all__ = ["DEPTH_MAX", "Template", "TemplateError", "depth_of", "parse_template"]

DEPTH_MAX: Final = 100

_OPENS: Final = "${"
_QUOTES: Final = "'\"`"
_EXPRESSIONS_MAX: Final = 1000


class TemplateError(Exception):
    """A template cannot be filled in; the message names the place and says why."""


_Piece = str | Expression


@attrs.frozen(eq=False)
class Template:
    """``names`` are the parts of the environment that its expressions look at, ``reads`` the keys
    of the jobs whose results they read, sorted."""

    names: frozenset[str]
    reads: tuple[str, ...]
    _payload: bytes
    _spots: Mapping[str, Sequence[_Piece]]

    @property
    def constant(self) -> bool:
        """Whether there is no expression in it."""
        return not self._spots

    def fill(
        self, environment: Mapping[str, Any], bytes_max: int, effort: Effort | None = None
    ) -> bytes:
        """The payload as canonical JSON, by the looks of ``effort``, else of one of its own. Raises
        ``TemplateError``."""
        try:
            filled = _Filling(self._spots, environment, bytes_max, effort or Effort()).of(
                msgspec.json.decode(self._payload), ""
            )
            text = canonical_of(filled)
        except ExpressionError as error:
            raise TemplateError(str(error)) from None
        except NotCanonicalError as error:
            raise TemplateError(f"the payload that is filled in {error}") from None
        if len(text) > bytes_max:
            raise TemplateError(f"the payload that is filled in is larger than {bytes_max} bytes")
        return text


def parse_template(payload: bytes, names: frozenset[str], path: str) -> Template | Refusal:
    """Parse a payload, given as JSON. ``names`` are the parts that the environment
    will have, ``path`` is the place of the payload in its document, for the refusal."""
    if _OPENS.encode() not in payload:
        return Template(frozenset(), (), payload, {})
    value = msgspec.json.decode(payload)
    if depth_of(value) > DEPTH_MAX:
        why = f"{path}: a template is nested {DEPTH_MAX} deep at most; flatten it"
        return Refusal(ErrorCode.TEMPLATE_INVALID, why, {"path": path})
    spots: dict[str, Sequence[_Piece]] = {}
    looked_at, reads, count = set[str](), set[str](), 0
    for place, text in _strings(value, ""):
        pieces = _pieces_of(text, names, path + place)
        if isinstance(pieces, Refusal):
            return pieces
        expressions = [piece for piece in pieces if isinstance(piece, Expression)]
        if expressions or _OPENS in text:
            spots[place] = pieces
        count += len(expressions)
        if count > _EXPRESSIONS_MAX:
            why = f"{path}: has more than {_EXPRESSIONS_MAX} expressions"
            return Refusal(ErrorCode.TEMPLATE_INVALID, why, {"path": path})
        for expression in expressions:
            looked_at |= expression.names
            reads |= expression.reads
    return Template(frozenset(looked_at), tuple(sorted(reads)), payload, spots)


def depth_of(value: Any) -> int:
    """How deep lists and objects are nested; without recursion, for it may be deep."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if type(each) is dict else each)
        ]
    return depth


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string that is a value, with its path."""
    match value:
        case str():
            if _OPENS in value:
                yield path, value
        case dict():
            for name, each in value.items():
                yield from _strings(each, f"{path}.{name}")
        case list():
            for place, each in enumerate(value):
                yield from _strings(each, f"{path}[{place}]")


def _pieces_of(text: str, names: frozenset[str], path: str) -> list[_Piece] | Refusal:
    pieces: list[_Piece] = []
    at, plain = 0, ""
    while (opens := text.find(_OPENS, at)) >= 0:
        if opens > at and text[opens - 1] == "$":
            plain += text[at : opens - 1] + _OPENS
            at = opens + len(_OPENS)
            continue
        plain += text[at:opens]
        closes = _closing(text, opens + len(_OPENS))
        if closes is None:
            why = f"{path}: ${{ at character {opens} is not closed; write $${{ for the characters"
            return Refusal(ErrorCode.TEMPLATE_INVALID, why, {"path": path})
        expression = parse_expression(text[opens + len(_OPENS) : closes].strip(), names, path)
        if isinstance(expression, Refusal):
            return expression
        if plain:
            pieces.append(plain)
        pieces.append(expression)
        at, plain = closes + 1, ""
    plain += text[at:]
    return [*pieces, plain] if plain or not pieces else pieces


def _closing(text: str, at: int) -> int | None:
    """The brace that ends the expression which begins at ``at``, outside of its quotes."""
    quote = ""
    while at < len(text):
        character = text[at]
        if quote and character == "\\":
            at += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character == "}":
            return at
        at += 1
    return None


class _Filling:
    """Filling in one payload; ``_left`` bytes may still be brought in by expressions (I2)."""

    __slots__ = ("_bytes_max", "_effort", "_left", "_scope", "_spots")

    def __init__(
        self,
        spots: Mapping[str, Sequence[_Piece]],
        environment: Mapping[str, Any],
        bytes_max: int,
        effort: Effort,
    ) -> None:
        self._effort = effort
        self._spots = spots
        self._scope = environment
        self._bytes_max = self._left = bytes_max

    def of(self, value: Any, path: str) -> Any:
        match value:
            case str():
                pieces = self._spots.get(path)
                return value if pieces is None else self._string(pieces)
            case dict():
                return {name: self.of(each, f"{path}.{name}") for name, each in value.items()}
            case list():
                return [self.of(each, f"{path}[{place}]") for place, each in enumerate(value)]
            case _:
                return value

    def _string(self, pieces: Sequence[_Piece]) -> Any:
        if len(pieces) == 1 and isinstance(pieces[0], Expression):
            return self._value(pieces[0])[0]
        texts = []
        for piece in pieces:
            value, text = (piece, "") if isinstance(piece, str) else self._value(piece)
            texts.append(value if isinstance(value, str) else text)
        return "".join(texts)

    def _value(self, expression: Expression) -> tuple[Any, str]:
        """What the expression finds, and that as JSON."""
        value = expression.evaluate(self._scope, self._effort)
        try:
            text = msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise ExpressionError(expression.text, "finds what is no JSON") from None
        self._left -= len(text)
        if self._left < 0:
            raise TemplateError(f"what is filled in is larger than {self._bytes_max} bytes")
        return value, text.decode()
