"""Where an issuer's keys come from: when they are fetched, and what a bad answer changes."""

import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from jobengine.auth.jwk import JwksInvalidError, read_jwks
from jobengine.auth.jwks_source import JwksSource
from tests.auth.idp import Idp, jwk, new_key

URL = "https://idp.example/jwks"


@pytest.fixture(scope="module")
def idp() -> Idp:
    return Idp()


class Endpoint(httpx.AsyncBaseTransport):
    """The issuer's end of the connection; ``answers`` are given in turn, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked_mono: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked_mono.append(trio.current_time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer == "silence":
            await trio.sleep_forever()
        if answer == "slow":
            await trio.sleep(3)
            return await self.handle_async_request(request)
        if isinstance(answer, int):
            return httpx.Response(answer, headers={"Location": "https://elsewhere.example/"})
        return httpx.Response(200, content=answer)


async def test_keys_are_fetched_before_their_time_is_over(
    idp: Idp, autojump_clock: trio.testing.MockClock
) -> None:
    endpoint = Endpoint(idp.jwks("EdDSA"), idp.jwks("ES256"))
    source = JwksSource(URL, ttl_s=600, transport=endpoint)
    with trio.move_on_after(1_000):
        await source.run()
    assert len(endpoint.asked_mono) == 3
    assert endpoint.asked_mono[1] - endpoint.asked_mono[0] < 600
    assert [key.key_id for key in source.keys] == ["ES256"]


async def test_whoever_loses_patience_leaves_the_fetch_to_the_others(
    idp: Idp, autojump_clock: trio.testing.MockClock
) -> None:
    endpoint = Endpoint(idp.jwks("EdDSA"), "slow", idp.jwks("ES256"))
    source = JwksSource(URL, ttl_s=600, transport=endpoint)
    await source.refresh()
    with trio.move_on_after(1):
        await source.refresh_for_unknown_key()
    assert [key.key_id for key in source.keys] == ["ES256"]


@pytest.mark.parametrize(
    "bad",
    [
        500,
        302,
        httpx.ConnectError("refused"),
        "silence",
        b"",
        b"not json",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [' + b"1," * 200_000 + b"1]}",
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "EdDSA"}]}).encode(),
    ],
    ids=lambda bad: str(bad)[:30],
)
async def test_what_cannot_be_used_leaves_the_last_good_keys_and_is_told(
    idp: Idp, autojump_clock: trio.testing.MockClock, bad: Any
) -> None:
    source = JwksSource(URL, ttl_s=60, transport=Endpoint(idp.jwks("EdDSA"), bad, idp.jwks()))
    await source.refresh()
    with trio.fail_after(10):
        await source.refresh()
    assert [key.key_id for key in source.keys] == ["EdDSA"]
    assert source.state.failing_since_mono is not None
    assert source.state.why
    assert source.state.failures_total == 1
    await source.refresh()
    assert len(source.keys) == 3
    assert source.state.failing_since_mono is None


async def test_unknown_keys_make_us_ask_once_a_minute_whoever_names_them(
    idp: Idp, autojump_clock: trio.testing.MockClock
) -> None:
    endpoint = Endpoint(idp.jwks())
    source = JwksSource(URL, ttl_s=3600, transport=endpoint)
    for _ in range(240):
        await source.refresh_for_unknown_key()
        await trio.sleep(0.5)
    assert len(endpoint.asked_mono) == 2


async def test_an_issuer_that_is_away_is_asked_again_with_pauses_that_grow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Endpoint(503)
    source = JwksSource(URL, ttl_s=600, transport=endpoint)
    with trio.move_on_after(200):
        await source.run()
    assert 4 <= len(endpoint.asked_mono) <= 8
    assert source.keys == ()


@pytest.mark.parametrize(
    "place",
    [
        "http://idp.example/jwks",
        "ftp://idp.example/jwks",
        "https://user:secret@idp.example/jwks",
        "http://127.0.0.1.example/jwks",
    ],
)
def test_a_url_that_others_could_answer_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="JWKS URL"):
        JwksSource(place, ttl_s=60)


@pytest.mark.parametrize("place", ["http://127.0.0.1:8/x", "http://[::1]/x", "http://localhost/x"])
def test_plain_http_is_for_this_machine(place: str) -> None:
    assert JwksSource(place, ttl_s=60).place == place


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "weak"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, "damaged"),
        ({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, "damaged"),
        ({"kty": "RSA", "n": 5, "e": "AQAB"}, "not a JSON Web Key Set"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "no key"),
        ({"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"}, "no key"),
    ],
)
def test_a_key_that_is_damaged_weak_or_of_no_use_is_not_taken(
    key: dict[str, Any], why: str
) -> None:
    with pytest.raises(JwksInvalidError, match=why):
        read_jwks(json.dumps({"keys": [key]}).encode())


def test_keys_for_encryption_or_another_algorithm_are_passed_over() -> None:
    ed = new_key("EdDSA")
    rsa = new_key("RS256")
    keys = [
        jwk("RS256", rsa, "a", use="enc"),
        jwk("RS256", rsa, "b", alg="PS256"),
        jwk("EdDSA", ed, "c", key_ops=["sign"]),
        jwk("EdDSA", ed, "d", alg="EdDSA", use="sig"),
    ]
    found = read_jwks(json.dumps({"keys": keys}).encode())
    assert [(key.key_id, key.algorithm) for key in found] == [("d", "EdDSA")]
    with pytest.raises(JwksInvalidError, match="same kid"):
        read_jwks(json.dumps({"keys": [keys[3], keys[3]]}).encode())
