import hashlib
import re

import pytest

from jobengine.auth.apikeys import ApiKeys, NewApiKey, new_api_key
from jobengine.auth.claims import TokenInvalidError
from jobengine.domain.change import ApiKeyRow
from jobengine.domain.instant import DAY

NOW = 20_000 * DAY + 5


def row(made: NewApiKey, **fields: object) -> ApiKeyRow:
    given = {"tenant_id": "demo", "prefix": made.prefix, "digest": made.digest, "created_at": NOW}
    return ApiKeyRow(**(given | {"scopes": ["orch:read"]} | fields))  # type: ignore[arg-type]


def test_a_key_shows_its_prefix_and_keeps_only_a_digest() -> None:
    made = new_api_key()
    assert re.fullmatch(r"jek_[a-z2-7]{16}_[A-Za-z0-9_-]{43}", made.text)
    assert made.text.split("_")[1] == made.prefix
    assert made.digest == hashlib.sha256(made.text.encode()).hexdigest()
    assert made.text not in repr(made)
    assert new_api_key().prefix != made.prefix


def test_a_key_speaks_for_its_tenant_with_its_scopes() -> None:
    keys, made = ApiKeys(), new_api_key()
    keys.take([row(made, expires_at=NOW + 9)])
    identity = keys.verify(made.text, NOW)
    assert identity.subject == f"apikey:{made.prefix}"
    assert identity.tenants == {"demo"}
    assert identity.scopes == {"orch:read"}
    assert identity.expires_at == NOW + 9
    with pytest.raises(TokenInvalidError, match="expired at"):
        keys.verify(made.text, NOW + 9)


def test_a_wrong_secret_an_unknown_prefix_and_another_form_prove_nothing() -> None:
    keys, made = ApiKeys(), new_api_key()
    keys.take([row(made)])
    wrong = made.text[:-1] + ("A" if made.text[-1] != "A" else "B")
    for text in (wrong, new_api_key().text, "jek_", made.text + "x", made.text.upper(), "jek_é"):
        with pytest.raises(TokenInvalidError) as refused:
            keys.verify(text, NOW)
        assert text[-20:] not in str(refused.value) or len(text) < 9


def test_a_revoked_key_counts_no_more_and_says_since_when() -> None:
    keys, made = ApiKeys(), new_api_key()
    keys.take([row(made)])
    identity = keys.verify(made.text, NOW)
    assert not keys.is_revoked("demo", identity)
    keys.take([row(made, revoked_at=NOW)])
    assert keys.is_revoked("demo", identity)
    with pytest.raises(TokenInvalidError, match="revoked at"):
        keys.verify(made.text, NOW)


def test_the_first_use_of_a_day_is_told_once() -> None:
    keys, made = ApiKeys(), new_api_key()
    keys.take([row(made)])
    for at in (NOW, NOW + 1):
        keys.verify(made.text, at)
    assert keys.take_used() == {("demo", made.prefix): 20_000 * DAY}
    keys.verify(made.text, NOW + 2)
    assert keys.take_used() == {}
    keys.verify(made.text, NOW + DAY)
    assert keys.take_used() == {("demo", made.prefix): 20_001 * DAY}
