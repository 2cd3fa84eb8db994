"""Tokens, page tokens and idempotency keys: whatever is sent, the answer is yes or a refusal.

`make fuzz` tries more: `JOBENGINE_FUZZ_S` above the default means 50 times as many examples.
"""

import base64
import os
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobengine.auth.keys import KeyRing, load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.sealed import PAGES, Seal, SealBrokenError
from jobengine.auth.tokens import TokenInvalidError, Tokens
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.http.admission import trace_id_of
from jobengine.http.query import QueryReader
from jobengine.http.routes.jobs import JobList
from tests.http.conftest import Rest

EXAMPLES = 5_000 if "JOBENGINE_FUZZ_S" in os.environ else 200
NOW_AT = 1_800_000_000_000_000
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
# The server hands on the bytes of a header as Latin-1.
header_text = st.text(st.characters(max_codepoint=255), max_size=400)
jwt_like = st.lists(st.text(BASE64, max_size=120), min_size=1, max_size=5).map(".".join)
cursors = st.one_of(
    st.text(max_size=64), st.integers(0, 2**53), st.tuples(st.integers(0, 2**53), st.text())
)
bindings = st.lists(st.text(max_size=16), min_size=1, max_size=4).map(tuple)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(load_or_create_key(tmp_path_factory.mktemp("key") / "key.pem"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Seal:
    ring = KeyRing(load_or_create_key(tmp_path_factory.mktemp("key") / "key.pem"))
    return Seal(lambda: ring, PAGES)


@fuzz
@given(text=st.one_of(jwt_like, header_text))
@example(text="")
@example(text="..")
@example(text="a" * 100_000)
@example(text="\xff.\xff.\xff")
def test_no_text_is_a_token_that_nobody_signed(tokens: Tokens, text: str) -> None:
    with pytest.raises(TokenInvalidError):
        tokens.verify(text, NOW_AT)


@fuzz
@given(place=st.floats(0, 1, exclude_max=True), change=st.sampled_from(BASE64 + "."))
def test_a_token_with_one_character_changed_is_refused_or_the_same(
    tokens: Tokens, place: float, change: str
) -> None:
    good = tokens.issue("demo", [Scope.READ], "somebody", 600, NOW_AT)
    at = int(place * len(good))
    changed = good[:at] + change + good[at + 1 :]
    try:
        found = tokens.verify(changed, NOW_AT)
    except TokenInvalidError:
        return
    # The last character of a base64 text has bits that carry nothing.
    assert changed == good or at == len(good) - 1
    assert found == tokens.verify(good, NOW_AT)


@fuzz
@given(bound=bindings, cursor=cursors)
def test_a_page_token_opens_to_its_cursor(pages: Seal, bound: Any, cursor: Any) -> None:
    sealed = pages.seal(bound, cursor)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", sealed)
    assert pages.open(bound, sealed, type(cursor)) == cursor


@fuzz
@given(bound=bindings, other=bindings, cursor=cursors)
@example(bound=("a", "bc"), other=("ab", "c"), cursor=1)
@example(bound=("a",), other=("a", ""), cursor=1)
def test_a_page_token_opens_for_what_it_was_made_for_only(
    pages: Seal, bound: Any, other: Any, cursor: Any
) -> None:
    sealed = pages.seal(bound, cursor)
    if bound != other:
        with pytest.raises(SealBrokenError):
            pages.open(other, sealed, type(cursor))


@fuzz
@given(text=st.one_of(st.text(max_size=300), st.text(BASE64, max_size=300)))
@example(text="A" * 1_025)
@example(text="\ud800")
def test_no_text_is_a_page_token_that_nobody_sealed(pages: Seal, text: str) -> None:
    for kind in (str, int, tuple[int, str]):
        with pytest.raises(SealBrokenError):
            pages.open(("demo", "/jobs"), text, kind)


@fuzz
@given(cursor=st.text(max_size=16))
def test_a_page_token_of_another_kind_of_cursor_is_refused(pages: Seal, cursor: str) -> None:
    bound = ("demo", "/jobs")
    with pytest.raises(SealBrokenError):
        pages.open(bound, pages.seal(bound, cursor), tuple[int, str])
    raw = base64.urlsafe_b64encode(cursor.encode()).decode()
    with pytest.raises(SealBrokenError):
        pages.open(bound, raw, str)


@fuzz
@given(raw=st.binary(max_size=200))
@example(raw=b"&".join([b"state=running"] * 100))
@example(raw=b"%ed%a0%80=1")
@example(raw=b"\xff")
def test_any_query_string_is_read_or_refused_by_name(raw: bytes) -> None:
    refusal = None
    try:
        query, _ = QueryReader(JobList).read(raw)
    except RefusedError as error:
        refusal = error.refusal
    else:
        assert isinstance(query, JobList)
    assert refusal is None or refusal.code is ErrorCode.INVALID_FIELD
    assert refusal is None or "path" in refusal.details


@fuzz
@given(text=st.text(max_size=80))
@example(text="00-" + "0" * 32 + "-" + "1" * 16 + "-01")
def test_any_traceparent_gives_a_trace_id(text: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id_of({"traceparent": text}.get))


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"a", 201),
        (b"~!" * 128, 201),
        (b"x" * 257, 400),
        (b"a b", 400),
        (b"\xc3\xbc", 400),
        (b"a\tb", 400),
        (b"\x7f", 400),
        (b"", 400),
    ],
)
async def test_an_idempotency_key_is_visible_ascii(shared: Rest, key: bytes, status: int) -> None:
    headers = [(b"Idempotency-Key", key), (b"Content-Type", b"application/json")]
    answer = await shared.client.post("/jobs", content=b'{"jobType": "scan"}', headers=headers)
    assert answer.status_code == status, answer.text
