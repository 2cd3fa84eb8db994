"""Expressions look into an environment, say beforehand at what, and can do nothing else."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression import Expression, ExpressionError, parse_expression

NAMES = frozenset({"inputs", "results", "item", "index"})
ENVIRONMENT: dict[str, Any] = {
    "inputs": {"limit": 7, "flag": True, "none": None, "names": ["b", "a"]},
    "results": {
        "fetch": {"items": [{"id": 1, "kind": "x"}, {"id": 2, "kind": "y"}], "etag": "e1"},
        "build-sbom": {"count": 3},
        "rows": [[1, 2], [3]],
    },
    "item": {"name": "shard"},
    "index": 4,
}


def parsed(text: str) -> Expression:
    expression = parse_expression(text, NAMES, "payload.x")
    assert isinstance(expression, Expression), expression
    return expression


def refusal(text: str) -> Refusal:
    found = parse_expression(text, NAMES, "payload.x")
    assert isinstance(found, Refusal), f"{text} was taken"
    assert found.code is ErrorCode.TEMPLATE_INVALID
    assert found.details == {"path": "payload.x"}
    return found


@pytest.mark.parametrize(
    ("text", "value", "reads"),
    [
        ("inputs.limit", 7, set()),
        ("index", 4, set()),
        ("item.name", "shard", set()),
        ("results.fetch.etag", "e1", {"fetch"}),
        ("results.fetch.items[0].id", 1, {"fetch"}),
        ("results.fetch.items[*].id", [1, 2], {"fetch"}),
        ("results.fetch.items[?kind == 'y'].id | [0]", 2, {"fetch"}),
        ('results."build-sbom".count', 3, {"build-sbom"}),
        ("results.rows[0]", [1, 2], {"rows"}),
        ("results.rows[]", [1, 2, 3], {"rows"}),
        ("results.rows[1:]", [[3]], {"rows"}),
        ("results.rows | length(@)", 2, {"rows"}),
        ("results.rows[*] | [0]", [1, 2], {"rows"}),
        ("length(results.fetch.items) > `1` && inputs.flag", True, {"fetch"}),
        ("not_null(results.fetch.nothing, inputs.limit)", 7, {"fetch"}),
        ("max_by(results.fetch.items, &id).kind", "y", {"fetch"}),
        ("sort(inputs.names)", ["a", "b"], set()),
        ("!inputs.flag || results.rows == `[]`", False, {"rows"}),
        ("`null`", None, set()),
        ("'a } b'", "a } b", set()),
    ],
)
def test_an_expression_has_a_value_and_says_what_it_reads(
    text: str, value: Any, reads: set[str]
) -> None:
    expression = parsed(text)
    assert expression.evaluate(ENVIRONMENT) == value
    assert expression.reads == reads


@pytest.mark.parametrize("text", ["inputs.limt", "results.fetch.items[9]", "inputs.none"])
def test_a_path_that_finds_nothing_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(ExpressionError, match="finds nothing"):
        parsed(text).evaluate(ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[inputs, inputs]", "builds new values"),
        ("{a: inputs}", "builds new values"),
        ("join(',', inputs.names)", "calls join()"),
        ("to_string(inputs)", "calls to_string()"),
        ("map(&id, results.fetch.items)", "calls map()"),
        ("__import__('os')", "calls __import__()"),
        ("env.SECRET", "looks at 'env'; there are index, inputs, item, results"),
        ("@", "looks at '@'"),
        ("@.inputs", "looks at '@'"),
        ("results", "names no job"),
        ("keys(results)", "names no job"),
        ("results.*", "names no job"),
        ("results[0]", "names no job"),
        ("results | fetch", "names no job"),
        ("inputs.limit == `seven`", "is no JSON"),
        ("inputs.", ""),
        ("", ""),
        ("a" * 1025, "longer than 1024"),
        ("!" * 40 + "inputs", "nested deeper"),
    ],
)
def test_what_could_multiply_or_hide_what_it_looks_at_is_refused(text: str, why: str) -> None:
    assert why in refusal(text).message


def test_a_condition_is_a_boolean_or_an_error() -> None:
    assert parsed("inputs.limit > `3`").holds(ENVIRONMENT)
    with pytest.raises(ExpressionError, match="true or false"):
        parsed("inputs.limit").holds(ENVIRONMENT)


@pytest.mark.parametrize(
    "text",
    [
        "contains(inputs.text, inputs.limit)",
        "contains(inputs.text, not_null(inputs.none, `null`))",
        "ceil(to_number('inf'))",
        "floor(to_number('nan'))",
        "inputs.names[::0]",
    ],
)
def test_what_a_function_can_do_nothing_with_is_an_error(text: str) -> None:
    environment = {**ENVIRONMENT, "inputs": {**ENVIRONMENT["inputs"], "text": "abc"}}
    with pytest.raises(ExpressionError):
        parsed(text).evaluate(environment)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("inputs", "an object"), ("inputs.names", "a list"), ("inputs.long", "'" + "x" * 62 + "…")],
)
def test_what_stands_for_a_condition_is_shown_in_short(text: str, shown: str) -> None:
    environment = {**ENVIRONMENT, "inputs": {**ENVIRONMENT["inputs"], "long": "x" * 9_999}}
    with pytest.raises(ExpressionError, match=f"not {shown}$"):
        parsed(text).holds(environment)


def test_a_wrong_type_is_an_error_that_names_the_expression() -> None:
    with pytest.raises(ExpressionError, match="length"):
        parsed("length(inputs.limit)").evaluate(ENVIRONMENT)


@given(st.text(alphabet="abinputsresults.[]*?@&|!<>='`\"(){}:,0123456789 -", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    found = parse_expression(text, NAMES, "payload")
    if isinstance(found, Expression):
        assert found.names <= NAMES
        with contextlib.suppress(ExpressionError):
            found.evaluate(ENVIRONMENT)
