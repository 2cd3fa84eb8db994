"""Typed inputs: a JSON Schema (2020-12) that the inputs of a run are held to.

I1  Inputs are not checked where that may take longer than ``_NS_MAX``, by what is known of schema
    and inputs before; so no schema can be made to hold the engine up.
I2  Nothing is fetched: a reference to another document is refused.
I3  Errors are named only where they cannot fill the memory: each holds what it is of, one of
    ``anyOf`` and the like those of all its parts; the first alone, where there may be many.

Not here: what checking may cost (``input_costs``).
Source: https://json-schema.org/draft/2020-12
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NoReturn

import attrs
import jsonschema_rs
import msgspec

from jobengine.domain.canonical import storable
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.input_costs import (
    PATTERN_BYTES_MAX,
    Place,
    UnfitError,
    cost_of,
    places_of_schema,
)

__all__ = [
    "SCHEMA_BYTES_MAX",
    "declared_inputs",
    "refuse_inputs",
    "refuse_schema",
]

SCHEMA_BYTES_MAX: Final = 64 * 1024
_ERRORS_MAX: Final = 20
_MESSAGE_MAX: Final = 300
_NS_MAX: Final = 300_000_000
_COPIED_MAX: Final = 64 * 1024 * 1024


def refuse_schema(schema: bytes, path: str) -> Refusal | None:
    """Why this JSON cannot be a schema of inputs; ``path`` is its place, for the refusal."""
    checker = _checker_of(schema)
    return _refuse(f"{path}{checker.at}", checker.why) if isinstance(checker, _Unfit) else None


def refuse_inputs(schema: bytes, inputs: bytes) -> Refusal | None:
    """What is wrong with the inputs, each with its path; a schema that ``refuse_schema`` took."""
    checker = _checker_of(schema)
    if isinstance(checker, _Unfit):  # it was taken when it was registered, maybe less strictly
        return _refuse("inputs", f"their schema {checker.why}")
    decoded = msgspec.json.decode(inputs)
    try:
        cost = cost_of(checker.place, decoded)
    except RecursionError:
        return _refuse("inputs", "are nested too deeply; flatten them")
    if cost.total_ns > _NS_MAX:
        return _refuse(max(cost.ns, key=cost.ns.__getitem__), _COSTLY)
    if checker.validator.is_valid(decoded):
        return None
    if cost.copied <= _COPIED_MAX:
        return _errors(checker.validator.iter_errors(decoded))
    if b'Of"' in schema:
        return _refuse("inputs", "do not meet their schema, and are too large to say where")
    try:
        checker.validator.validate(decoded)
    except jsonschema_rs.ValidationError as error:
        return _errors([error])
    return None


def _errors(errors: Iterable[jsonschema_rs.ValidationError]) -> Refusal:
    found = []
    for error in errors:
        message = storable(error.message, _MESSAGE_MAX)
        found.append({"path": _path(error.instance_path), "message": message})
        if len(found) == _ERRORS_MAX:
            break
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


_COSTLY: Final = (
    "is too much to check by this schema; give less, or name what is checked by `properties` and"
    " `items`, with fewer parts below them and patterns that begin with ^ and repeat one thing"
)


@attrs.frozen
class _Checker:
    place: Place
    validator: jsonschema_rs.Draft202012Validator


@attrs.frozen
class _Unfit:
    """Why a schema is not taken; ``at`` is the place in it."""

    why: str
    at: str = ""


@lru_cache(maxsize=64)
def _checker_of(schema: bytes) -> _Checker | _Unfit:
    if len(schema) > SCHEMA_BYTES_MAX:
        return _Unfit(f"is larger than {SCHEMA_BYTES_MAX} bytes")
    decoded = msgspec.json.decode(schema)
    if not isinstance(decoded, dict):
        return _Unfit("is no schema; write an object")
    if not isinstance(decoded.get("$defs", {}), dict):
        return _Unfit("is no object", ".$defs")
    try:
        place = places_of_schema(decoded)
    except UnfitError as error:
        return _Unfit(str(error))
    except RecursionError:
        return _Unfit("is nested too deeply; flatten it")
    try:
        validator = jsonschema_rs.Draft202012Validator(
            decoded,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX),
            retriever=_fetch_nothing,
            validate_formats=True,
        )
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return _Unfit(f"is no schema of JSON Schema 2020-12: {_first_line(error)}")
    return _Checker(place, validator)


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is another document; write out what is needed of it")


def _path(steps: list[str | int]) -> str:
    return "inputs" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps
    )


def _first_line(error: Exception) -> str:
    return storable(str(error).splitlines()[0], _MESSAGE_MAX)


def _refuse(path: str, why: str) -> Refusal:
    return Refusal(ErrorCode.INPUTS_INVALID, f"{path}: {why}", {"path": path})
