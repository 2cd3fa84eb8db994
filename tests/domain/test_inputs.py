"""Inputs are held to their schema, and no schema can hold the engine up."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.input_costs import EXPANDED_MAX, PATTERNS_MAX
from jobengine.domain.inputs import refuse_inputs, refuse_schema

DAY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "sources": {"type": "array", "items": {"$ref": "#/$defs/source"}, "minItems": 1},
    },
    "required": ["day"],
    "additionalProperties": False,
    "$defs": {"source": {"type": "string", "pattern": "^[a-z]+$"}},
}


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def test_inputs_that_meet_their_schema_are_taken() -> None:
    assert refuse_schema(encoded(DAY), "inputs") is None
    assert refuse_inputs(encoded(DAY), encoded({"day": "2026-11-22", "sources": ["osv"]})) is None


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({}, "inputs"),
        ({"day": "2026-13-01"}, "inputs.day"),
        ({"day": "2026-11-22", "sources": []}, "inputs.sources"),
        ({"day": "2026-11-22", "sources": ["osv", "O"]}, "inputs.sources[1]"),
        ({"day": "2026-11-22", "dya": 1}, "inputs"),
        ([], "inputs"),
    ],
)
def test_inputs_that_do_not_are_refused_with_the_place(inputs: Any, path: str) -> None:
    refusal = refuse_inputs(encoded(DAY), encoded(inputs))
    assert isinstance(refusal, Refusal)
    assert refusal.details["path"] == path
    assert [each["path"] for each in refusal.details["errors"]] == [path]


def test_no_more_than_twenty_errors_are_named() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    refusal = refuse_inputs(encoded(schema), encoded(["x"] * 100))
    assert isinstance(refusal, Refusal)
    assert len(refusal.details["errors"]) == 20


def nested(levels: int) -> Any:
    schema: Any = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for level in range(1, levels + 1):
        reference = {"$ref": f"#/$defs/d{level - 1}"}
        defs[f"d{level}"] = {"allOf": [reference, reference]}
    return {"$defs": defs, "$ref": f"#/$defs/d{levels}"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "no schema"),
        ({"type": "frob"}, "2020-12"),
        ({"type": "string", "pattern": "(?=a)"}, "no lookaround"),
        ({"$ref": "https://example.com/schema.json"}, "refers to"),
        ({"$ref": "file:///etc/passwd"}, "refers to"),
        ({"$ref": "#/$defs/none"}, "refers to"),
        ({"$ref": "#"}, "refers to"),
        ({"$id": "https://example.com/", "type": "object"}, "uses $id"),
        ({"$dynamicRef": "#a"}, "uses $dynamicRef"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "circle"),
        ({"$defs": 1}, "no object"),
        (nested(800), "nested too deeply"),
        (doubling(20), f"more than {EXPANDED_MAX} parts"),
        ({"properties": {"default": doubling(20)}, **doubling(20)}, "more than"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}},
          "properties": {"const": {"$ref": "#/$defs/a"}}}, "circle"),
        ({"$defs": {"a/b": {}, "a": {"b": {"$ref": "#/$defs/a/b"}}}, "$ref": "#/$defs/a/b"},
         "refers to"),
        ({"unevaluatedProperties": False}, "uses unevaluatedProperties; write additional"),
        ({"items": {"pattern": "(a{1,50}){1,50}c"}}, "'(a{1,50}){1,50}c', which does not compile"),
        ({"allOf": [{"pattern": f"a{place}"} for place in range(PATTERNS_MAX + 1)]},
         f"more than {PATTERNS_MAX} patterns"),
        ({"enum": ["x" * 70_000]}, "larger than"),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_or_could_cost_too_much_is_refused(schema: Any, why: str) -> None:
    refusal = refuse_schema(encoded(schema), "inputs")
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.INPUTS_INVALID
    assert why in refusal.message


def test_a_definition_may_be_used_many_times_and_is_no_part_where_it_is_not() -> None:
    assert refuse_schema(encoded(doubling(8)), "inputs") is None
    unused = {"$defs": doubling(20)["$defs"], "type": "object"}
    assert refuse_schema(encoded(unused), "inputs") is None


NAMES = {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}}
SOME_NAMES = [f"host-{place}" for place in range(10_000)]


@pytest.mark.parametrize(
    ("schema", "inputs", "path"),
    [
        ({"items": {"anyOf": [{"type": "string"}] * 3_000}}, [0] * 20_000, "inputs[]"),
        ({"properties": {"a": {"allOf": [{"uniqueItems": True}] * 100}}},
         {"a": list(range(40_000))}, "inputs.a"),
        ({"items": {"enum": [[place] for place in range(2_000)]}}, [[1]] * 20_000, "inputs[]"),
        ({"properties": {"a": {"pattern": "[ab]*a[ab]{40}c"}}}, {"a": "ab" * 100_000}, "inputs.a"),
    ],
)  # fmt: skip
def test_inputs_that_would_take_too_long_to_check_are_refused_unchecked(
    schema: Any, inputs: Any, path: str
) -> None:
    assert refuse_schema(encoded(schema), "inputs") is None
    refusal = refuse_inputs(encoded(schema), encoded(inputs))
    assert isinstance(refusal, Refusal)
    assert "too much to check by this schema; give less" in refusal.message
    assert refusal.details["path"] == path


def test_large_inputs_of_a_usual_schema_are_checked() -> None:
    assert refuse_inputs(encoded(NAMES), encoded(SOME_NAMES)) is None
    refusal = refuse_inputs(encoded(NAMES), encoded([*SOME_NAMES, "A"]))
    assert isinstance(refusal, Refusal)
    assert refusal.details["path"] == "inputs[10000]"


def test_errors_that_could_fill_the_memory_are_not_made() -> None:
    wide = {"allOf": [{"type": "string"}] * 2_000}
    refusal = refuse_inputs(encoded(wide), encoded([0] * 1_000))
    assert isinstance(refusal, Refusal)
    assert "too large to say where" in refusal.message
    many = refuse_inputs(encoded({"items": {"type": "integer"}}), encoded(["x"] * 60_000))
    assert isinstance(many, Refusal)
    assert [each["path"] for each in many.details["errors"]] == ["inputs[0]"]


def test_an_error_shows_the_value_in_short_and_as_it_can_be_stored() -> None:
    refusal = refuse_inputs(encoded({"type": "integer"}), encoded("x\0" * 9_999))
    assert isinstance(refusal, Refusal)
    assert len(refusal.message) < 400
    assert "\0" not in refusal.message
