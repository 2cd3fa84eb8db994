"""Tokens of an external issuer, over a real JWKS file."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.auth.authenticator import Authenticator
from jobengine.auth.claims import ClaimNames, TokenInvalidError
from jobengine.auth.issuers import ExternalIssuer, IssuerRules
from jobengine.auth.jwks_source import JwksSource
from jobengine.auth.signatures import unverified_id
from jobengine.auth.tokens import Tokens
from jobengine.domain.instant import Moment
from tests.auth.idp import AUDIENCE, ISSUER, NOW, Idp, S, new_key

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def idp() -> Idp:
    return Idp()


@pytest.fixture
def place(tmp_path: Path, idp: Idp) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(idp.jwks())
    return path


@pytest.fixture
async def authenticator(place: Path) -> Authenticator:
    return await trusting(place)


async def trusting(place: Path, **rules: Any) -> Authenticator:
    given = {"issuer": ISSUER, "audience": AUDIENCE, "leeway_s": 10, **rules}
    source = JwksSource(str(place), ttl_s=60)
    await source.refresh()
    own = Tokens(Ed25519PrivateKey.generate())
    return Authenticator(own, [ExternalIssuer(IssuerRules(**given), source)])


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_a_token_of_each_algorithm_says_whom_it_speaks_for(
    authenticator: Authenticator, idp: Idp, algorithm: str
) -> None:
    token = idp.token(algorithm, roles=["Orch.Operator", "Accounting"])
    identity = await authenticator.authenticate(token, NOW)
    assert identity.subject == "alice"
    assert identity.tenants == {"demo"}
    assert identity.scopes == {"orch:read", "orch:operate"}
    assert await authenticator.authenticate(token, NOW) is identity


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://other.example"}, "another issuer"),
        ({"aud": "payroll"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": ["payroll", 7]}, "audience"),
        ({"exp": NOW // S - 11}, "expired at"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": float("1e300")}, "exp"),
        ({"nbf": NOW // S + 11}, "not valid before"),
        ({"nbf": "now"}, "nbf"),
        ({"sub": None}, "sub"),
        ({"sub": 7}, "sub"),
        ({"tenant": "a", "tenants": ["b"]}, "tenants disagree"),
        ({"tenant": 5}, "tenant"),
        ({"scope": {"a": 1}}, "scope"),
        ({"jti": 9}, "jti"),
    ],
)
async def test_a_token_that_does_not_fit_is_refused_and_told_why(
    authenticator: Authenticator, idp: Idp, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(TokenInvalidError, match=why):
        await authenticator.authenticate(idp.token(**changes), NOW)


async def test_the_issuers_clock_may_differ_by_the_leeway(
    authenticator: Authenticator, idp: Idp
) -> None:
    for token in (idp.token(exp=NOW // S - 9), idp.token(nbf=NOW // S + 9)):
        await authenticator.authenticate(token, NOW)


@pytest.mark.parametrize(
    ("claims", "tenants"),
    [
        ({"tenant": "a"}, {"a"}),
        ({"tenant": None, "tenants": ["a", "b"]}, {"a", "b"}),
        ({"tenant": None, "stella:tenant": "c"}, {"c"}),
        ({"tenant": "a", "tenants": ["a", "b"]}, {"a"}),
        ({"tenant": None}, set()),
    ],
)
async def test_claims_that_name_tenants_must_agree(
    authenticator: Authenticator, idp: Idp, claims: dict[str, Any], tenants: set[str]
) -> None:
    identity = await authenticator.authenticate(idp.token(**claims), NOW)
    assert identity.tenants == tenants


async def test_scopes_come_as_text_or_list_and_foreign_ones_are_passed_over(
    place: Path, authenticator: Authenticator, idp: Idp
) -> None:
    token = idp.token(scope=None, scp=["orch:work", "orch:everything"], roles="Orch.Viewer x")
    assert (await authenticator.authenticate(token, NOW)).scopes == {"orch:work", "orch:read"}
    names = ClaimNames(scopes=("perms",), roles=(), tenants=("org",))
    other = await trusting(place, claims=names)
    identity = await other.authenticate(idp.token(perms="orch:audit", org="acme"), NOW)
    assert identity.scopes == {"orch:audit"}
    assert identity.tenants == {"acme"}


async def test_no_algorithm_but_that_of_the_key_is_tried(
    authenticator: Authenticator, idp: Idp
) -> None:
    claims = jwt.decode(idp.token(), options={"verify_signature": False})
    pem = (
        idp.keys["RS256"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signing = f"{_part({'alg': 'HS256', 'kid': 'RS256'})}.{_part(claims)}"
    mac = hmac.digest(pem, signing.encode(), hashlib.sha256)
    forged = {
        "HS256 with the public RSA key": f"{signing}.{_octets(mac)}",
        "none": jwt.encode(claims, "", algorithm="none", headers={"kid": "EdDSA"}),
        "ES256 under the kid of an RSA key": idp.token("ES256", key_id="RS256"),
        "RS256 under the kid of an Ed25519 key": idp.token("RS256", key_id="EdDSA"),
        "another key": jwt.encode(claims, new_key("EdDSA"), "EdDSA", headers={"kid": "EdDSA"}),
        "an unknown kid": idp.token(key_id="new"),
        "RS512": jwt.encode(claims, idp.keys["RS256"], "RS512", headers={"kid": "RS256"}),
        "more than 8 KiB": idp.token(padding="x" * 8_192),
    }
    for what, token in forged.items():
        with pytest.raises(TokenInvalidError) as refused:
            await authenticator.authenticate(token, NOW)
        assert token[-20:] not in str(refused.value), what


async def test_an_external_issuer_cannot_speak_for_the_engine_nor_the_engine_for_it(
    authenticator: Authenticator, idp: Idp
) -> None:
    with pytest.raises(TokenInvalidError, match="kid"):
        await authenticator.authenticate(idp.token(iss="jobengine", tenants=["demo"]), NOW)
    with pytest.raises(ValueError, match="own tokens"):
        IssuerRules(issuer="jobengine", audience="a")


async def test_a_token_without_a_kid_is_judged_by_the_only_key_of_its_algorithm(
    place: Path, idp: Idp
) -> None:
    authenticator = await trusting(place)
    await authenticator.authenticate(idp.token(key_id=None), NOW)
    two = json.loads(idp.jwks("EdDSA", "ES256"))["keys"]
    second = {**json.loads(Idp().jwks("EdDSA"))["keys"][0], "kid": "second"}
    place.write_text(json.dumps({"keys": [*two, second]}))  # noqa: ASYNC240 - a small file
    with pytest.raises(TokenInvalidError, match="kid"):
        await (await trusting(place)).authenticate(idp.token(key_id=None), NOW)


async def test_a_new_key_is_found_when_a_token_names_it_and_an_old_one_ends_at_once(
    place: Path, authenticator: Authenticator, idp: Idp
) -> None:
    old = idp.token("EdDSA")
    await authenticator.authenticate(old, NOW)
    place.write_bytes(idp.jwks("ES256"))  # noqa: ASYNC240 - a small file
    fresh = json.loads(idp.jwks("ES256"))
    fresh["keys"][0]["kid"] = "rotated"
    place.write_text(json.dumps(fresh))  # noqa: ASYNC240 - a small file
    await authenticator.authenticate(idp.token("ES256", key_id="rotated"), NOW)
    with pytest.raises(TokenInvalidError, match="does not publish"):
        await authenticator.authenticate(old, NOW)


def test_the_tenant_of_a_revocation_is_the_only_one_that_it_counts_for() -> None:
    from jobengine.domain.change import RevocationRow

    tokens = Tokens(Ed25519PrivateKey.generate())
    authenticator = Authenticator(tokens)
    identity = tokens.verify(tokens.issue("a", [], "me", 60, NOW), NOW)
    row = RevocationRow(tenant_id="a", token_id=identity.token_id, until_at=NOW + S, at=NOW)
    authenticator.revoke([row], Moment(100.0, NOW))
    authenticator.check_revoked(identity, "b")
    with pytest.raises(TokenInvalidError, match="revoked"):
        authenticator.check_revoked(identity, "a")
    authenticator.forget_revoked(Moment(100.5, NOW + 1_000 * S))
    with pytest.raises(TokenInvalidError, match="revoked"):
        authenticator.check_revoked(identity, "a")
    authenticator.forget_revoked(Moment(101.0, NOW + S))
    authenticator.check_revoked(identity, "a")


async def test_a_revoked_token_without_an_id_stays_so_however_its_signature_is_written(
    authenticator: Authenticator, idp: Idp
) -> None:
    token = idp.token("ES256", jti=None)
    token_id, _ = unverified_id(token)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    again = f"{signed}.{_octets(raw[:32] + other)}"
    for text in (token, again):
        identity = await authenticator.authenticate(text, NOW)
        assert identity.token_id == token_id
    with pytest.raises(TokenInvalidError, match="malformed"):
        await authenticator.authenticate(f"{token}==", NOW)


def _octets(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _part(value: object) -> str:
    return _octets(json.dumps(value).encode())


async def test_while_keys_are_fetched_whoever_waits_for_the_same_new_key_is_let_in(
    place: Path, idp: Idp
) -> None:
    place.write_bytes(idp.jwks("ES256"))  # noqa: ASYNC240 - a small file
    authenticator = await trusting(place)
    place.write_bytes(idp.jwks())  # noqa: ASYNC240 - a small file
    admitted = []

    async def ask(number: int) -> None:
        token = idp.token("RS256", jti=str(number))
        admitted.append((await authenticator.authenticate(token, NOW)).token_id)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, number)
    assert sorted(admitted) == list("01234")
