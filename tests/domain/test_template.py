"""Templates take values from an environment, once, and no more than a payload may hold."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.errors import Refusal
from jobengine.domain.template import Template, TemplateError, parse_template

NAMES = frozenset({"inputs", "results"})
ENVIRONMENT: dict[str, Any] = {
    "inputs": {
        "day": "2026-11-22",
        "limit": 7,
        "evil": "${inputs.limit}",
        "long": [int("9" * 4_300)] * 2,
        "places": list(range(10_000)),
    },
    "results": {"list": {"shards": ["a", "b"]}},
}


def parsed(payload: Any) -> Template:
    template = parse_template(msgspec.json.encode(payload), NAMES, "jobs[0].payload")
    assert isinstance(template, Template), template
    return template


def filled(payload: Any) -> Any:
    return msgspec.json.decode(parsed(payload).fill(ENVIRONMENT, 1_000))


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ({"a": "${inputs.limit}"}, {"a": 7}),
        ({"a": "${ results.list.shards }"}, {"a": ["a", "b"]}),
        ({"a": "day ${inputs.day}, ${inputs.limit} at most"}, {"a": "day 2026-11-22, 7 at most"}),
        ({"a": "${results.list.shards}!"}, {"a": '["a","b"]!'}),
        ({"a": ["${inputs.day}", {"b": "${inputs.limit}"}, 1, None, True]},
         {"a": ["2026-11-22", {"b": 7}, 1, None, True]}),
        ({"a": "$${inputs.day} costs $5"}, {"a": "${inputs.day} costs $5"}),
        ({"${inputs.day}": 1}, {"${inputs.day}": 1}),
        ({"a": "${'}'}"}, {"a": "}"}),
        ("${inputs.day}", "2026-11-22"),
        ({"a": "${inputs.evil}"}, {"a": "${inputs.limit}"}),
        ({"a": "x${inputs.evil}"}, {"a": "x${inputs.limit}"}),
    ],
)  # fmt: skip
def test_expressions_in_strings_are_filled_in_once(payload: Any, value: Any) -> None:
    assert filled(payload) == value


def test_a_template_says_what_it_reads() -> None:
    template = parsed({"b": "${results.b.x}", "a": ["${results.a.x} ${inputs.day}"]})
    assert template.reads == ("a", "b")
    assert template.names == {"inputs", "results"}
    assert not template.constant
    assert parsed({"a": "nothing", "b": 1}).constant


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"a": ["", "${inputs.day"]}, "jobs[0].payload.a[1]"),
        ({"a": "${nothing.day}"}, "jobs[0].payload.a"),
        ({"a": {"b": "x ${}"}}, "jobs[0].payload.a.b"),
        ({"a": ["${inputs.day}"] * 1001}, "jobs[0].payload"),
    ],
)
def test_a_bad_template_is_refused_with_the_place(payload: Any, path: str) -> None:
    found = parse_template(msgspec.json.encode(payload), NAMES, "jobs[0].payload")
    assert isinstance(found, Refusal)
    assert found.details == {"path": path}
    assert found.message.startswith(path)


@pytest.mark.parametrize(
    "payload",
    [
        {"a": "${inputs.missing}"},
        {"a": "x" * 990 + "${inputs.day}"},
        {"a": ["${results.list}"] * 900},
        {"a": "${results.list}" * 900},
        {"a": "${sum(inputs.long)}"},
        {"a": "${sum(inputs.long)} of them"},
        {"a": ["${inputs.places[*].not_null(`[0,1,2,3,4,5,6,7,8,9]`)[]}"] * 9},
    ],
)
def test_what_cannot_be_filled_in_is_an_error(payload: Any) -> None:
    with pytest.raises(TemplateError):
        parsed(payload).fill(ENVIRONMENT, 1_000)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text("ab$\"'`{}\\.", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab$", max_size=3), inner),
    max_leaves=10,
)


@given(_json)
def test_a_payload_with_its_dollars_doubled_stays_as_it_is(value: Any) -> None:
    def escaped(each: Any) -> Any:
        match each:
            case str():
                return each.replace("${", "$${")
            case list():
                return [escaped(item) for item in each]
            case dict():
                return {name: escaped(item) for name, item in each.items()}
        return each

    def plain(each: Any) -> bool:
        match each:
            case str():
                return "$${" not in each
            case list():
                return all(map(plain, each))
            case dict():
                return all(map(plain, each.values()))
        return True

    if plain(value):
        assert filled(escaped(value)) == value
