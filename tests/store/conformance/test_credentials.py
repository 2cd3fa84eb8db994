"""API keys and revocations: what a commit makes of them, and in which order they are told."""

from typing import Any

from jobengine.domain.change import ApiKeyRow, RevocationRow
from jobengine.domain.instant import DAY
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe


def key(prefix: str, **fields: Any) -> ApiKeyRow:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "prefix": prefix,
        "digest": "ab" * 32,
        "label": f"label {prefix}",
        "scopes": ["orch:read", "orch:submit"],
        "created_at": NOW,
        "created_by": "me",
    }
    return ApiKeyRow(**(given | fields))


def revoking(prefix: str, at: int) -> ApiKeyRow:
    return ApiKeyRow(tenant_id=TENANT, prefix=prefix, revoked_at=at)


async def test_a_key_is_read_as_it_was_made(store: Store, scribe: Scribe) -> None:
    made = key("a", expires_at=NOW + 5)
    await scribe.aside(api_keys=[made])
    assert await store.api_key(TENANT, "a") == made
    assert await store.api_key("other", "a") is None
    assert await store.api_key(TENANT, "b") is None


async def test_keys_of_a_tenant_are_listed_newest_first_in_pages(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(api_keys=[key("b"), key("a"), key("c", created_at=NOW - 1)])
    await scribe.aside(tenant_id="other", api_keys=[key("d", tenant_id="other")])
    first = await store.api_keys(TENANT, None, 2)
    assert [row.prefix for row in first] == ["b", "a"]
    rest = await store.api_keys(TENANT, (first[-1].created_at, "a"), 2)
    assert [row.prefix for row in rest] == ["c"]


async def test_the_first_revocation_of_a_key_stands_however_often_it_is_repeated(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(api_keys=[key("a")])
    await scribe.aside(api_keys=[revoking("a", NOW + 1)])
    await scribe.aside(api_keys=[revoking("a", NOW + 2), revoking("a", NOW + 3)])
    assert await store.api_key(TENANT, "a") == key("a", revoked_at=NOW + 1)


async def test_every_change_is_told_once_after_those_before_it(
    store: Store, scribe: Scribe
) -> None:
    token = RevocationRow(tenant_id="other", token_id="t", until_at=NOW + 9, at=NOW)
    await scribe.aside(api_keys=[key("a")])
    await scribe.aside(tenant_id="other", revocations=[token])
    told = await store.credentials(0, 10)
    assert [row for _, row in told] == [key("a"), token]
    last = told[-1][0]
    assert await store.credentials(last, 10) == []
    assert [row for _, row in await store.credentials(0, 1)] == [key("a")]
    await scribe.aside(api_keys=[revoking("a", NOW + 1)])
    ((position, row),) = await store.credentials(last, 10)
    assert position > last
    assert row == key("a", revoked_at=NOW + 1)


async def test_a_token_revoked_again_is_kept_until_the_later_of_both(
    store: Store, scribe: Scribe
) -> None:
    def token(until_at: int | None) -> RevocationRow:
        return RevocationRow(tenant_id=TENANT, token_id="t", until_at=until_at, at=NOW)

    await scribe.aside(revocations=[token(NOW + 5)])
    await scribe.aside(revocations=[token(NOW + 3)])
    await scribe.aside(revocations=[token(NOW + 9)])
    assert [row for _, row in await store.credentials(0, 9)] == [token(NOW + 9)]
    await scribe.aside(revocations=[token(None)])
    await scribe.aside(revocations=[token(NOW + 9)])
    assert [row for _, row in await store.credentials(0, 9)] == [token(None)]


async def test_revocations_of_expired_tokens_are_forgotten(store: Store, scribe: Scribe) -> None:
    rows = [
        RevocationRow(tenant_id=TENANT, token_id=name, until_at=until_at, at=NOW)
        for name, until_at in (("over", NOW), ("alive", NOW + 1), ("unknown", None))
    ]
    await scribe.aside(revocations=rows)
    await store.drop_over(NOW)
    assert [row for _, row in await store.credentials(0, 9)] == rows[1:]


async def test_the_day_of_use_is_noted_and_never_goes_back(store: Store, scribe: Scribe) -> None:
    await scribe.aside(api_keys=[key("a"), key("b")])
    position = (await store.credentials(0, 9))[-1][0]
    await store.note_key_uses({(TENANT, "a"): 20 * DAY, (TENANT, "nobody's"): DAY})
    await store.note_key_uses({(TENANT, "a"): 19 * DAY})
    assert await store.api_key(TENANT, "a") == key("a", last_used_day_at=20 * DAY)
    assert await store.api_key(TENANT, "b") == key("b")
    assert await store.credentials(position, 9) == []
