"""What checking inputs by a schema may cost, known before it is done, for it holds up the process.

Definitions. A *look* is a keyword that looks at a value. The *own* weight of a place of a schema is
that of all its keywords but ``properties`` and ``items``, which lead to places of their own; what
an own keyword looks at is taken to be all that is in the value, however deep.

I1  References are local and lead into no circle, and a schema has ``EXPANDED_MAX`` parts at most
    with all of them written out.
I2  A pattern compiles to ``PATTERN_BYTES_MAX``, so it costs no more for a character than
    ``_SLOW_NS`` says; ``_firm`` ones, which can go on in one way only, cost next to nothing.

Not here: checking (``inputs``).
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import attrs
import jsonschema_rs

__all__ = [
    "EXPANDED_MAX",
    "PATTERNS_MAX",
    "PATTERN_BYTES_MAX",
    "Cost",
    "Place",
    "UnfitError",
    "cost_of",
    "places_of_schema",
]

EXPANDED_MAX: Final = 10_000
PATTERNS_MAX: Final = 100
PATTERN_BYTES_MAX: Final = 64 * 1024

_DEFS: Final = "#/$defs/"
_UNBOUNDED: Final = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef")
_REPEATED: Final = ("unevaluatedItems", "unevaluatedProperties")
"""Keywords for which the parts beside them are looked at again, for each member."""
_SILENT: Final = ("$comment", "$defs", "$schema", "default", "description", "examples", "title")
_BY_NAME: Final = ("dependencies", "dependentRequired", "dependentSchemas", "properties",
                   "patternProperties")  # fmt: skip
"""Keywords whose members are no keywords."""

_LOOK_NS: Final = 10
_ERROR_BYTES: Final = 512
_VALUE_BYTES: Final = 32
_UNIQUE_LOOKS: Final = 30
_FORMAT_LOOKS: Final = 100
_NESTED_LOOKS: Final = 6
_FIRM_NS: Final = 60
_SLOW_NS: Final = {1: 100, 2: 2_500, 4: 2_500, 8: 4_000, 16: 4_000, 32: 9_000, 64: 21_000}
"""Of a character, by the kilobytes that a pattern compiles to; measured on the worst ones known."""

_ATOM: Final = r"(?:[\w @#%&,:;=~/<>!'\"-]|\\[dwsDWS./+?*()|{}\[\]$^-]|\.|\[\^?[\w .:/@%+,#~-]+\])"
_firm: Final = re.compile(
    rf"\^(?:{_ATOM}(?:\{{\d+\}})?)*(?:{_ATOM}(?:[*+?]|\{{\d*,\d*\}}))?{_ATOM}*\$?"
).fullmatch
"""Anchored, one thing after another, with one repetition of no fixed length at most."""


class UnfitError(Exception):
    """Why a schema is not taken."""


class Weight(NamedTuple):
    """``text_ns`` is of each character that is looked at."""

    parts: int = 0
    looks: int = 0
    text_ns: int = 0

    def plus(self, other: "Weight") -> "Weight":
        return Weight(*(mine + its for mine, its in zip(self, other, strict=True)))


@attrs.frozen(eq=False)
class Place:
    """A place of a schema; ``path`` is that of the inputs that come to it."""

    path: str
    own: Weight
    properties: Mapping[str, "Place"]
    items: "Place | None"


@attrs.define(eq=False)
class Cost:
    """``ns`` by path; ``copied`` are the bytes that naming every error might hold."""

    ns: dict[str, int] = attrs.field(factory=dict)
    copied: int = 0

    @property
    def total_ns(self) -> int:
        return sum(self.ns.values())


def places_of_schema(schema: Mapping[str, Any]) -> Place:
    """Raises ``UnfitError``, ``RecursionError``."""
    weights = _Weights(schema.get("$defs", {}))
    weights.of(schema)
    return _place(weights, schema, "inputs")


def cost_of(place: Place, inputs: Any) -> Cost:
    """Raises ``RecursionError``."""
    cost = Cost()
    _walk(cost, place, inputs)
    return cost


def _walk(cost: Cost, place: Place | None, value: Any) -> tuple[int, int]:
    """How many values, and characters, there are."""
    values, text = 1, 0
    if isinstance(value, dict):
        for name, each in value.items():
            inner = _walk(cost, place and place.properties.get(name), each)
            values, text = values + inner[0], text + inner[1] + len(name)
    elif isinstance(value, list):
        for each in value:
            inner = _walk(cost, place and place.items, each)
            values, text = values + inner[0], text + inner[1]
    elif isinstance(value, str):
        text = len(value)
    if place is not None:
        ns = place.own.looks * values * _LOOK_NS + place.own.text_ns * text
        cost.ns[place.path] = cost.ns.get(place.path, 0) + ns
        cost.copied += place.own.looks * (_ERROR_BYTES + values * _VALUE_BYTES + text)
    return values, text


def _place(weights: "_Weights", schema: Any, path: str) -> Place:
    properties, items = dict[str, Place](), None
    if isinstance(schema, dict):
        rest = dict(schema)
        if isinstance(schema.get("properties"), dict):
            del rest["properties"]
            for name, each in schema["properties"].items():
                properties[name] = _place(weights, each, f"{path}.{name}")
        if isinstance(schema.get("items"), dict):
            del rest["items"]
            items = _place(weights, schema["items"], f"{path}[]")
        schema = rest
    return Place(path, weights.of(schema), properties, items)


class _Weights:
    """Weights of schemas with their references written out."""

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._known: dict[str, Weight | None] = {}
        self._patterns = set[str]()

    def of(self, schema: Any) -> Weight:
        if not isinstance(schema, dict):
            return Weight(1, 1)
        for word in _UNBOUNDED:
            if word in schema:
                raise UnfitError(f"uses {word}; name definitions by $ref and {_DEFS}NAME")
        for word in _REPEATED:
            if word in schema:
                raise UnfitError(f"uses {word}; write additionalProperties or items")
        weight = Weight(1, 1)
        for word, each in schema.items():
            for more in self._of_keyword(word, each):
                weight = weight.plus(more)
            if weight.parts > EXPANDED_MAX:
                why = f"has more than {EXPANDED_MAX} parts with its references written out"
                raise UnfitError(why)
        return weight

    def _of_keyword(self, word: str, each: Any) -> Iterator[Weight]:
        yield Weight(isinstance(each, dict | list), 1)
        if word in _SILENT:
            return
        if word == "$ref":
            yield self._of_reference(each)
        elif word in _BY_NAME and isinstance(each, dict):
            for name, one in each.items():
                if word == "patternProperties":
                    yield self._of_pattern(name)
                yield Weight(1, len(one)) if isinstance(one, list) else self.of(one)
        elif word == "pattern" and isinstance(each, str):
            yield self._of_pattern(each)
        elif word in ("const", "enum"):
            yield Weight(0, _size(each))
        elif word == "uniqueItems":
            yield Weight(0, _UNIQUE_LOOKS)
        elif word == "format":
            yield Weight(0, _FORMAT_LOOKS, _FIRM_NS)
        elif isinstance(each, dict):
            yield self.of(each)
        elif isinstance(each, list):
            for one in each:
                yield self.of(one) if isinstance(one, dict) else Weight(0, 1)

    def _of_pattern(self, pattern: str) -> Weight:
        self._patterns.add(pattern)
        if len(self._patterns) > PATTERNS_MAX:
            raise UnfitError(f"has more than {PATTERNS_MAX} patterns")
        ns = _pattern_ns(pattern)
        if ns is None:
            shown = pattern if len(pattern) <= 80 else f"{pattern[:79]}…"
            raise UnfitError(
                f"has the pattern {shown!r}, which does not compile to {PATTERN_BYTES_MAX} bytes;"
                " shorten its repetitions, and use no lookaround and no backreferences"
            )
        return Weight(0, 1, ns)

    def _of_reference(self, reference: Any) -> Weight:
        name = str(reference).removeprefix(_DEFS)
        plain = str(reference).startswith(_DEFS) and not any(each in name for each in "/~%")
        if not plain or name not in self._defs:
            raise UnfitError(f"refers to {reference!r}; a reference is {_DEFS}NAME of its own")
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.of(self._defs[name])
        weight = self._known[name]
        if weight is None:
            raise UnfitError(f"leads in a circle by {reference!r}; inputs are no recursive type")
        return weight


def _size(value: Any) -> int:
    """What comparing with a value costs."""
    looks, todo = 0, [value]
    while todo:
        each = todo.pop()
        looks += _NESTED_LOOKS if isinstance(each, dict | list) else 1
        if isinstance(each, dict | list):
            todo.extend(each.values() if isinstance(each, dict) else each)
    return looks


@lru_cache(maxsize=1_024)
def _pattern_ns(pattern: str) -> int | None:
    """Of a character; None: it does not compile."""
    if not _compiles(pattern, PATTERN_BYTES_MAX):
        return None
    if _firm(pattern):
        return _FIRM_NS
    return next(ns for size, ns in _SLOW_NS.items() if _compiles(pattern, size * 1024))


def _compiles(pattern: str, bytes_max: int) -> bool:
    options = jsonschema_rs.RegexOptions(size_limit=bytes_max)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True
