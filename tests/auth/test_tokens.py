from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.auth.keys import KeyRing, RetiredKey, key_id_of
from jobengine.auth.scopes import ROLES, Scope, scopes_of
from jobengine.auth.tokens import TokenInvalidError, Tokens

NOW = 1_767_225_600_000_000
S = 1_000_000


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def tokens(key: Ed25519PrivateKey) -> Tokens:
    return Tokens(key)


def signed(key: Ed25519PrivateKey, **changes: Any) -> str:
    claims = {
        "iss": "jobengine",
        "sub": "me",
        "tenants": ["demo"],
        "scope": "orch:read",
        "exp": NOW // S + 60,
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, "EdDSA", headers={"kid": key_id_of(key.public_key())})


def test_a_token_says_whom_it_speaks_for(tokens: Tokens) -> None:
    token = tokens.issue("demo", ["Orch.Operator", "orch:submit"], "me", 60, NOW)
    identity = tokens.verify(token, NOW)
    assert identity.subject == "me"
    assert identity.tenants == {"demo"}
    assert identity.scopes == {"orch:read", "orch:operate", "orch:submit"}
    assert identity.expires_at == NOW + 60 * S
    assert identity.token_id


def test_two_tokens_have_two_ids(tokens: Tokens) -> None:
    made = {tokens.issue("demo", [], "me", 60, NOW) for _ in range(2)}
    assert len({tokens.verify(token, NOW).token_id for token in made}) == 2


def test_a_token_ends_at_its_second_whether_it_was_seen_before_or_not(tokens: Tokens) -> None:
    seen = tokens.issue("demo", [], "me", 60, NOW)
    unseen = tokens.issue("demo", [], "me", 60, NOW)
    tokens.verify(seen, NOW + 60 * S - 1)
    for token in (seen, unseen):
        with pytest.raises(TokenInvalidError, match="expired at 2026-01-01T00:01:00"):
            tokens.verify(token, NOW + 60 * S)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"iss": None},
        {"sub": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": -1},
        {"exp": True},
        {"exp": 1 << 80},
        {"nbf": NOW // S + 5},
        {"nbf": "now"},
        {"scope": 7},
        {"scope": "orch:everything"},
        {"roles": ["Orch.God"]},
        {"tenants": [1]},
    ],
)
def test_claims_of_another_form_prove_nothing(
    key: Ed25519PrivateKey, tokens: Tokens, changes: dict[str, Any]
) -> None:
    tokens.verify(signed(key), NOW)
    with pytest.raises(TokenInvalidError):
        tokens.verify(signed(key, **changes), NOW)


def test_roles_in_a_token_stand_for_their_scopes(key: Ed25519PrivateKey, tokens: Tokens) -> None:
    identity = tokens.verify(signed(key, scope=None, roles=["Orch.Admin"]), NOW)
    assert identity.scopes == set(Scope)


def test_another_key_or_algorithm_proves_nothing(key: Ed25519PrivateKey, tokens: Tokens) -> None:
    claims = jwt.decode(signed(key), options={"verify_signature": False})
    public = key.public_key().public_bytes_raw()
    forged = [
        signed(Ed25519PrivateKey.generate()),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, public, algorithm="HS256"),
        signed(key)[:-4] + "AAAA",
        "a.b.c",
        "",
        "\udc80",
        "x" * 10_000,
    ]
    for token in forged:
        with pytest.raises(TokenInvalidError) as refused:
            tokens.verify(token, NOW)
        assert not token or token[-12:] not in str(refused.value)


def test_a_verified_token_is_remembered_but_only_so_many(key: Ed25519PrivateKey) -> None:
    tokens = Tokens(key, remembered_max=2)
    made = [tokens.issue("demo", [], f"s{n}", 60, NOW) for n in range(3)]
    first = tokens.verify(made[0], NOW)
    assert tokens.verify(made[0], NOW) is first
    tokens.verify(made[1], NOW)
    tokens.verify(made[2], NOW)
    assert tokens.verify(made[0], NOW) is not first


@pytest.mark.parametrize(
    ("tenant", "scopes", "subject", "ttl_s"),
    [("", [], "me", 1), ("demo", [], "", 1), ("demo", ["x"], "me", 1), ("demo", [], "me", 0)],
)
def test_a_token_that_would_make_no_sense_is_not_issued(
    tokens: Tokens, tenant: str, scopes: list[str], subject: str, ttl_s: int
) -> None:
    with pytest.raises(ValueError, match=r"."):
        tokens.issue(tenant, scopes, subject, ttl_s, NOW)


def test_roles_hold_known_scopes() -> None:
    assert scopes_of(ROLES) == set(Scope)


@pytest.mark.parametrize("key_id", [None, "0" * 16, "../key"])
def test_a_token_that_names_no_key_of_ours_proves_nothing(
    key: Ed25519PrivateKey, tokens: Tokens, key_id: str | None
) -> None:
    claims = jwt.decode(signed(key), options={"verify_signature": False})
    token = jwt.encode(claims, key, "EdDSA", headers={} if key_id is None else {"kid": key_id})
    with pytest.raises(TokenInvalidError, match="kid"):
        tokens.verify(token, NOW)


def test_a_token_of_a_retired_key_counts_until_its_day_also_when_it_was_seen_before(
    key: Ed25519PrivateKey,
) -> None:
    old = Tokens(key)
    token = old.issue("demo", ["orch:read"], "me", 3600, NOW)
    until_at = NOW + 60 * S
    tokens = Tokens(KeyRing(Ed25519PrivateKey.generate(), [RetiredKey(key.public_key(), until_at)]))
    tokens.verify(token, until_at - 1)
    with pytest.raises(TokenInvalidError, match="retired at 2026-01-01T00:01:00"):
        tokens.verify(token, until_at)
    assert len(tokens.jwks(until_at - 1)["keys"]) == 2
    assert len(tokens.jwks(until_at)["keys"]) == 1
    with pytest.raises(TokenInvalidError):
        old.verify(tokens.issue("demo", [], "me", 60, NOW), NOW)


def test_a_token_seen_before_counts_no_more_when_its_key_is_gone(
    key: Ed25519PrivateKey, tokens: Tokens
) -> None:
    token = signed(key)
    tokens.verify(token, NOW)
    tokens.take(KeyRing(Ed25519PrivateKey.generate()))
    with pytest.raises(TokenInvalidError):
        tokens.verify(token, NOW)


def test_a_critical_header_is_not_passed_over(key: Ed25519PrivateKey, tokens: Tokens) -> None:
    claims = jwt.decode(signed(key), options={"verify_signature": False})
    headers = {"kid": key_id_of(key.public_key()), "crit": ["b64"], "b64": True}
    with pytest.raises(TokenInvalidError):
        tokens.verify(jwt.encode(claims, key, "EdDSA", headers=headers), NOW)
