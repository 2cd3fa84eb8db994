"""Canonical JSON and ledger entries against the reference implementation of RFC 8785."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.canonical import NotCanonicalError, canonical, canonical_of, digest
from jobengine.domain.entry import (
    GENESIS,
    About,
    Entry,
    about,
    decode_entries,
    encode_entries,
    next_link,
)
from jobengine.domain.job import Backoff, Definition

SAFE = 2**53 - 1
TEXT = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12
) | st.sampled_from(
    ["\x01\x1f\b\t\n\f\r\x7f", '"\\/', "\u2028é€😀\ufb33", "\ue000\U00010000", "1.5", "9" * 20]
)
# A float from 2^53 to 1e21 is written without an exponent, so it reads back as an integer that the
# reference refuses: such a number has no form that can be verified.
EDGES = st.sampled_from([0.0, -0.0, 1.0, 1e21, 1e-7, 5e-324, 1e15 + 0.5, float(SAFE)])
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not SAFE < abs(number) < 1e21
)
NUMBERS = st.integers(-SAFE, SAFE) | FLOATS | EDGES
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
FAST = settings(max_examples=400, deadline=None, derandomize=True)


@FAST
@given(JSON)
def test_the_canonical_form_is_that_of_the_reference(value: Any) -> None:
    assert canonical_of(value) == rfc8785.dumps(value)


@FAST
@given(st.floats(float(SAFE + 1), 1e20))
def test_a_float_that_would_read_back_as_a_large_integer_is_refused(value: float) -> None:
    with pytest.raises(NotCanonicalError):
        canonical_of(value)


@FAST
@given(JSON, st.booleans(), st.integers(0, 2))
def test_every_spelling_of_a_value_has_one_canonical_form(
    value: Any, escaped: bool, indent: int
) -> None:
    raw = json.dumps(value, ensure_ascii=escaped, indent=indent or None).encode()
    form = canonical(raw)
    assert form == rfc8785.dumps(json.loads(raw))
    assert canonical(form) == form
    assert digest(form) == hashlib.sha256(form).hexdigest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nul",
        b"[1,]",
        b"NaN",
        b"1e400",
        b'"\x00"',
        b'"\\u0000"',
        b'{"\\u0000":1}',
        b'["a\\u0000b"]',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff"',
        b"9007199254740993",
        b"-9007199254740993",
        b"[123456789012345678901234567890]",
        b"[" * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
    ],
)
def test_what_has_no_canonical_form_is_refused(raw: bytes) -> None:
    with pytest.raises(NotCanonicalError):
        canonical(raw)


def test_text_that_looks_like_an_escaped_nul_is_no_nul() -> None:
    assert canonical(rb'"\\u0001"') == rb'"\\u0001"'


RAW = st.builds(lambda value: msgspec.Raw(rfc8785.dumps(value)), JSON)
NAMES = st.none() | TEXT
WHOLE = st.integers(0, SAFE)


@FAST
@given(
    st.builds(
        Entry,
        about=st.none()
        | st.builds(
            About,
            correlation_id=TEXT,
            job_type=TEXT,
            payload_digest=TEXT,
            project_id=TEXT,
            queue=TEXT,
            run_id=NAMES,
            source_id=NAMES,
            traceparent=NAMES,
        ),
        actor=TEXT,
        at=WHOLE,
        attempt=WHOLE,
        data=RAW,
        error=RAW,
        from_=NAMES,
        job=TEXT,
        kind=TEXT,
        reason=NAMES,
        reason_given=NAMES,
        seq=WHOLE,
        span_us=st.none() | WHOLE,
        ticket=NAMES,
        to=NAMES,
        worker=NAMES,
    )
)
def test_an_entry_is_stored_in_canonical_form(entry: Entry) -> None:
    body = encode_entries([entry, entry])
    line, again, end = body.split(b"\n")
    assert (line, end) == (again, b"")
    assert line == rfc8785.dumps(json.loads(line))
    assert encode_entries(decode_entries(body)) == body


@FAST
@given(
    st.builds(
        Definition,
        backoff=st.builds(Backoff, base_us=WHOLE, max_us=WHOLE, kind=TEXT, jitter=TEXT),
        concurrency_key=NAMES,
        cost=WHOLE,
        depends_on=st.lists(TEXT, max_size=3).map(tuple),
        expires_at=st.none() | WHOLE,
        hold=st.booleans(),
        job_type=TEXT,
        labels=st.just({}) | st.dictionaries(TEXT, TEXT, max_size=1),
        not_before=st.none() | WHOLE,
        payload_digest=TEXT,
        priority=st.integers(0, 9),
        queue=TEXT,
        timeout_us=st.none() | WHOLE,
        traceparent=NAMES,
        unique_key=NAMES,
        unique_scope=TEXT,
        unique_window_us=WHOLE,
    )
)
def test_a_definition_is_stored_in_canonical_form(definition: Definition) -> None:
    text = msgspec.json.encode(definition)
    assert text == rfc8785.dumps(json.loads(text))
    assert msgspec.json.decode(text, type=Definition) == definition
    assert about(definition).job_type == definition.job_type


def test_each_link_follows_from_the_one_before_and_the_body() -> None:
    first = next_link(GENESIS, b"one\n")
    assert first == hashlib.sha256(bytes(32) + b"one\n").digest()
    assert next_link(first, b"two\n") == hashlib.sha256(first + b"two\n").digest()
    assert next_link(first, b"two\n") != next_link(GENESIS, b"two\n")
