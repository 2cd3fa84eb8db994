"""Expressions look into an environment, say beforehand at what, and can do nothing else."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression import Expression, ExpressionError, parse_expression
from jobengine.domain.expression_effort import Effort

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
        ("not_null(&inputs)", "has & where"),
        ("type(&inputs.limit)", "has & where"),
        ("sort_by(&inputs, &a)", "has & where"),
        ("max_by(inputs.names, &length(&a))", "has & where"),
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
    shown = (
        r"^\$\{length\(inputs.limit\)\}: length\(\) takes string or array or object, not number$"
    )
    with pytest.raises(ExpressionError, match=shown):
        parsed("length(inputs.limit)").evaluate(ENVIRONMENT)


def test_a_number_of_more_digits_than_can_be_written_is_not_read() -> None:
    expression = parsed("to_number(item)")
    assert expression.evaluate({"item": "9" * 400}) == int("9" * 400)
    with pytest.raises(ExpressionError, match="400 characters at most"):
        expression.evaluate({"item": "9" * 401})


@given(st.text(alphabet="abinputsresults.[]*?@&|!<>='`\"(){}:,0123456789 -", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    found = parse_expression(text, NAMES, "payload")
    if isinstance(found, Expression):
        assert found.names <= NAMES
        with contextlib.suppress(ExpressionError):
            found.evaluate(ENVIRONMENT)


TENFOLD = ".not_null(`[0,1,2,3,4,5,6,7,8,9]`)[]"


def nested_filters(levels: int) -> str:
    text = "@ == `1`"
    for _ in range(levels):
        text = f"`[0,1,2,3,4,5,6,7,8,9]`[?{text}]"
    return text


@pytest.mark.parametrize(
    "text",
    [
        "inputs.names[*]" + TENFOLD * 13,
        f"inputs.flag && {nested_filters(9)}",
        "inputs.many[?@ != `1`]",
        "inputs.many[:][:][:]",
        "inputs.many[][][]",
        "sort(reverse(sort(inputs.many)))",
        "inputs.many == inputs.more && inputs.more == inputs.many",
        "contains(inputs.lists, inputs.lists[0]) && contains(inputs.lists, inputs.many)",
        "max_by(inputs.many, &abs(@))",
    ],
)
def test_an_expression_takes_no_more_looks_than_it_is_given(text: str) -> None:
    many = list(range(1_000))
    inputs = {**ENVIRONMENT["inputs"], "many": many, "more": [*many], "lists": [[*many], [1]]}
    effort = Effort(1_900)
    with pytest.raises(ExpressionError, match="no more than 1900 items"):
        parsed(text).evaluate({**ENVIRONMENT, "inputs": inputs}, effort)
    assert effort.spent


def test_a_list_that_is_made_of_many_costs_what_it_holds() -> None:
    environment = {**ENVIRONMENT, "item": list(range(1_000))}
    effort = Effort(18_000)
    with pytest.raises(ExpressionError, match="no more than 18000 items"):
        parsed("item[*]" + TENFOLD).evaluate(environment, effort)


def test_expressions_share_the_looks_that_they_are_given() -> None:
    effort = Effort(5)
    assert parsed("inputs.limit").evaluate(ENVIRONMENT, effort) == 7
    with pytest.raises(ExpressionError, match="no more than 5 items"):
        parsed("inputs.limit").evaluate(ENVIRONMENT, effort)


def test_a_list_of_ten_thousand_is_filtered_within_the_looks_of_a_node() -> None:
    items = [{"kind": "x", "n": place} for place in range(10_000)]
    found = parsed("item[?kind == 'x' && n > `4`].n").evaluate({**ENVIRONMENT, "item": items})
    assert len(found) == 9_995


@pytest.mark.parametrize(
    "text",
    [
        'keys(`"a\\u0000b"`)',
        "keys(inputs.names)",
        "sum(inputs.names)",
        "sum(inputs.digits[*].to_number(@))",
        "sum(inputs.sums)",
        "inputs.none.a" + ".b" * 400,
    ],
)
def test_a_message_is_short_and_can_be_stored(text: str) -> None:
    digits, sums = ["9" * 4_300] * 2, [int("9" * 4_300)] * 2
    inputs = {"names": ["\0", "x" * 200_000, 1], "none": None, "digits": digits, "sums": sums}
    environment = {**ENVIRONMENT, "inputs": inputs}
    with pytest.raises(ExpressionError) as raised:
        parsed(text).holds(environment)
    message = str(raised.value)
    assert len(message) <= 500
    assert "\0" not in message
    assert message.encode()
