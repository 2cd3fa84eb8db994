"""Typed inputs: a JSON Schema (2020-12) that the inputs of a run are held to.

I1  Checking is linear in the inputs: patterns run on an engine that does not backtrack, a reference
    is a local one that leads into no circle, and a schema with all of its references written out
    has ``EXPANDED_MAX`` parts at most. So no schema can be made to hold the engine up.
I2  Nothing is fetched: a reference to another document is refused.

Source: https://json-schema.org/draft/2020-12
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

import jsonschema_rs
import msgspec

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = [
    "EXPANDED_MAX",
    "SCHEMA_BYTES_MAX",
    "declared_inputs",
    "refuse_inputs",
    "refuse_schema",
]

SCHEMA_BYTES_MAX: Final = 64 * 1024
EXPANDED_MAX: Final = 10_000
_ERRORS_MAX: Final = 20
_DEFS: Final = "#/$defs/"
_UNBOUNDED: Final = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef")
_VALUES: Final = ("const", "default", "enum", "examples")
"""Keywords whose values are no schemas."""


def refuse_schema(schema: bytes, path: str) -> Refusal | None:
    """Why this JSON cannot be a schema of inputs; ``path`` is its place, for the refusal."""
    if len(schema) > SCHEMA_BYTES_MAX:
        return _refuse(path, f"is larger than {SCHEMA_BYTES_MAX} bytes")
    decoded = msgspec.json.decode(schema)
    if not isinstance(decoded, dict):
        return _refuse(path, "is no schema; write an object")
    defs = decoded.get("$defs", {})
    if not isinstance(defs, dict):
        return _refuse(f"{path}.$defs", "is no object")
    try:
        _Expansion(defs).of(decoded)
    except _UnfitError as error:
        return _refuse(path, str(error))
    except RecursionError:
        return _refuse(path, "is nested too deeply; flatten it")
    try:
        _validator(schema)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return _refuse(path, f"is no schema of JSON Schema 2020-12: {_first_line(error)}")
    return None


def refuse_inputs(schema: bytes, inputs: bytes) -> Refusal | None:
    """What is wrong with the inputs, each with its path; a schema that ``refuse_schema`` took."""
    found = []
    for error in _validator(schema).iter_errors(msgspec.json.decode(inputs)):
        found.append({"path": _path(error.instance_path), "message": error.message})
        if len(found) == _ERRORS_MAX:
            break
    if not found:
        return None
    first = found[0]
    why = f"{first['path']}: {first['message']}"
    return Refusal(ErrorCode.INPUTS_INVALID, why, {"path": first["path"], "errors": found})


def declared_inputs(schema: bytes) -> frozenset[str]:
    """The names that a schema declares; none where inputs may have any name."""
    decoded = msgspec.json.decode(schema)
    if "patternProperties" in decoded or "propertyNames" in decoded:
        return frozenset()
    properties = decoded.get("properties", {})
    return frozenset(properties) if isinstance(properties, dict) else frozenset()


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        msgspec.json.decode(schema),
        pattern_options=jsonschema_rs.RegexOptions(),
        retriever=_fetch_nothing,
        validate_formats=True,
    )


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is another document; write out what is needed of it")


class _UnfitError(Exception):
    """Why a schema does not hold I1."""


class _Expansion:
    """How many parts a schema has with its references written out."""

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._sizes: dict[str, int | None] = {}

    def of(self, schema: Any) -> int:
        size = 1
        for each in _parts(schema):
            size += self.of(each)
        if isinstance(schema, dict):
            for word in _UNBOUNDED:
                if word in schema:
                    raise _UnfitError(f"uses {word}; name definitions by $ref and {_DEFS}NAME")
            if "$ref" in schema:
                size += self._of_reference(schema["$ref"])
        if size > EXPANDED_MAX:
            raise _UnfitError(f"has more than {EXPANDED_MAX} parts with its references written out")
        return size

    def _of_reference(self, reference: Any) -> int:
        name = str(reference).removeprefix(_DEFS)
        if not str(reference).startswith(_DEFS) or name not in self._defs:
            raise _UnfitError(f"refers to {reference!r}; a reference is {_DEFS}NAME of its own")
        if name not in self._sizes:
            self._sizes[name] = None
            self._sizes[name] = self.of(self._defs[name])
        size = self._sizes[name]
        if size is None:
            raise _UnfitError(f"leads in a circle by {reference!r}; inputs are no recursive type")
        return size


def _parts(schema: Any) -> Iterator[Any]:
    """What stands within a schema, but for its definitions, which count where they are used."""
    if isinstance(schema, dict):
        for word, each in schema.items():
            if word != "$defs" and word not in _VALUES and isinstance(each, dict | list):
                yield each
    elif isinstance(schema, list):
        for each in schema:
            if isinstance(each, dict | list):
                yield each


def _path(steps: list[str | int]) -> str:
    return "inputs" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]


def _refuse(path: str, why: str) -> Refusal:
    return Refusal(ErrorCode.INPUTS_INVALID, f"{path}: {why}", {"path": path})
