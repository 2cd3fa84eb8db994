from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from jobengine.auth.keys import KeyRing, RetiredKey, load_key_ring, load_or_create_key, rotate_key
from jobengine.auth.sealed import CALLBACKS, PAGES, Seal, SealBrokenError
from jobengine.wire.fields import INDEXED_BYTES_MAX

RING = KeyRing(Ed25519PrivateKey.generate())
LISTS = Seal(lambda: RING, PAGES)
BOUND = ("demo", "/jobs", "")


@given(st.tuples(st.integers(-(2**53), 2**53), st.text(max_size=50)))
def test_a_token_gives_back_its_cursor(cursor: tuple[int, str]) -> None:
    assert LISTS.open(BOUND, LISTS.seal(BOUND, cursor), tuple[int, str]) == cursor


@pytest.mark.parametrize("character", ["x", "ü", "\1"])
def test_the_longest_cursor_comes_back(character: str) -> None:
    name = character * (INDEXED_BYTES_MAX // len(character.encode()))
    assert LISTS.open(BOUND, LISTS.seal(BOUND, (1, name)), tuple[int, str]) == (1, name)


def test_a_text_of_any_length_is_refused() -> None:
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, LISTS.seal(BOUND, "x" * 20_000), str)


@pytest.mark.parametrize(
    "other", [("other", "/jobs", ""), ("demo", "/deadletter", ""), ("demo/jobs", "", "")]
)
def test_a_token_is_good_for_what_it_was_bound_to(other: tuple[str, ...]) -> None:
    token = LISTS.seal(BOUND, "x")
    with pytest.raises(SealBrokenError):
        LISTS.open(other, token, str)


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    token = LISTS.seal(BOUND, [1, "abc"])
    # The last character may hold bits that mean nothing, so it is left alone.
    at = data.draw(st.integers(0, len(token) - 2))
    changed = data.draw(st.sampled_from("AZaz09-_").filter(lambda c: c != token[at]))
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, token[:at] + changed + token[at + 1 :], tuple[int, str])


@given(st.text(max_size=60))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, text, str)


def test_a_seal_of_one_purpose_opens_for_no_other() -> None:
    calls = Seal(lambda: RING, CALLBACKS)
    for maker, opener in ((calls, LISTS), (LISTS, calls)):
        with pytest.raises(SealBrokenError):
            opener.open(BOUND, maker.seal(BOUND, "x"), str)


def test_a_token_of_another_key_or_kind_is_refused() -> None:
    other = KeyRing(Ed25519PrivateKey.generate())
    stranger = Seal(lambda: other, PAGES)
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, stranger.seal(BOUND, "x"), str)
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, LISTS.seal(BOUND, "x"), int)
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, "x" * 2_000, str)


def test_a_token_outlives_a_rotation_and_a_restart_while_its_key_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    load_or_create_key(file)
    before = load_key_ring(file)
    token = Seal(lambda: before, PAGES).seal(BOUND, "x")
    rotate_key(file, until_at=60_000_000, now_at=0)
    rotate_key(file, until_at=60_000_000, now_at=1)
    kept = load_key_ring(file)
    assert Seal(lambda: kept, PAGES).open(BOUND, token, str) == "x"
    rotate_key(file, until_at=61_000_000, now_at=60_000_000)
    gone = load_key_ring(file)
    with pytest.raises(SealBrokenError):
        Seal(lambda: gone, PAGES).open(BOUND, token, str)


def test_a_retired_key_opens_and_the_new_one_seals() -> None:
    new = KeyRing(Ed25519PrivateKey.generate(), [RetiredKey(RING.signer.public_key(), 1)])
    pages = Seal(lambda: new, PAGES)
    assert pages.open(BOUND, LISTS.seal(BOUND, "x"), str) == "x"
    with pytest.raises(SealBrokenError):
        LISTS.open(BOUND, pages.seal(BOUND, "x"), str)
