"""Registered documents: versions that never change, and are disabled and enabled."""

import hashlib
from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, RegistryRow
from jobengine.domain.entry import NO_DATA
from jobengine.store.errors import StatementRefusedError
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe

BODY = b'{"jobs":[{"key":"\xc3\xa4"}]}'


def document(
    name: str = "nightly", version: int = 1, body: bytes = BODY, **fields: Any
) -> RegistryRow:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "kind": "dag",
        "digest": hashlib.sha256(body).hexdigest(),
        "body": msgspec.Raw(body),
        "created_at": NOW,
        "created_by": "ops",
    }
    return RegistryRow(name=name, version=version, **given | fields)


def disabled(name: str, version: int, at: int | None, tenant_id: str = TENANT) -> RegistryRow:
    return RegistryRow(tenant_id=tenant_id, kind="dag", name=name, version=version, disabled_at=at)


def places(rows: Any) -> list[tuple[str, int]]:
    return [(row.name, row.version) for row in rows]


def value(row: RegistryRow | None) -> tuple[Any, ...]:
    assert row is not None
    return (*msgspec.structs.astuple(msgspec.structs.replace(row, body=NO_DATA)), bytes(row.body))


async def test_a_version_is_read_back_whole_and_the_newest_is_the_one_not_named(
    store: Store, scribe: Scribe
) -> None:
    newer = document(version=10, body=b'{"v":10}', created_by="ci", created_at=NOW + 1)
    await scribe.aside(registry=[document(version=2), newer, document(version=9)])
    assert value(await store.registered(TENANT, "dag", "nightly", 2)) == value(document(version=2))
    assert value(await store.registered(TENANT, "dag", "nightly", None)) == value(newer)
    assert await store.registered(TENANT, "dag", "nightly", 3) is None
    assert await store.registered(TENANT, "dag", "weekly", None) is None
    assert await store.registered(TENANT, "pack", "nightly", None) is None
    assert await store.registered("globex", "dag", "nightly", None) is None


async def test_the_oldest_version_of_a_digest_is_found(store: Store, scribe: Scribe) -> None:
    await scribe.aside(
        registry=[
            document("a", 2, created_at=NOW - 1),
            document("b", 1),
            document("a", 3, created_at=NOW - 1),
            document("0", 1, kind="pack", created_at=NOW - 9),
            document("0", 1, b"{}", created_at=NOW - 9),
        ]
    )
    digest = hashlib.sha256(BODY).hexdigest()
    found = await store.registered_digest(TENANT, "dag", digest)
    assert value(found) == value(document("a", 2, created_at=NOW - 1))
    assert await store.registered_digest(TENANT, "dag", "0" * 64) is None
    assert await store.registered_digest("globex", "dag", digest) is None


async def test_a_version_is_disabled_and_enabled_and_keeps_the_rest(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(registry=[document(version=1), document(version=2)])
    await scribe.aside(registry=[disabled("nightly", 1, NOW + 5), disabled("nobody's", 1, NOW)])
    found = await store.registered(TENANT, "dag", "nightly", 1)
    assert value(found) == value(document(version=1, disabled_at=NOW + 5))
    other = await store.registered(TENANT, "dag", "nightly", 2)
    assert value(other) == value(document(version=2))
    await scribe.aside(registry=[disabled("nightly", 1, None)])
    found = await store.registered(TENANT, "dag", "nightly", 1)
    assert value(found) == value(document(version=1, disabled_at=NOW + 5))
    await scribe.aside(registry=[disabled("nightly", 1, 0)])
    found = await store.registered(TENANT, "dag", "nightly", 1)
    assert value(found) == value(document(version=1))
    assert await store.registered(TENANT, "dag", "nobody's", 1) is None


async def test_of_the_changes_of_one_version_in_one_commit_the_last_counts(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(registry=[document("a"), disabled("a", 1, NOW + 1)])
    await scribe.aside(registry=[document("b", disabled_at=NOW), disabled("b", 1, 0)])
    await scribe.write(
        *(
            ChangeSet(tenant_id=tenant_id, registry=rows)
            for tenant_id, rows in {
                TENANT: [disabled("a", 1, NOW + 2), disabled("a", 1, 0), disabled("b", 1, NOW)],
                "globex": [disabled("a", 1, NOW + 9, "globex")],
            }.items()
        )
    )
    rows = await store.registry_list(TENANT, "dag", None, None, 9)
    assert [(row.name, row.disabled_at) for row in rows] == [("a", None), ("b", NOW)]


@pytest.mark.parametrize(
    ("wrong", "constraint"),
    [
        (document("a", body=b"{}"), "registry_pkey"),
        (document("b", 0), "registry_version_counts"),
        (document("b", digest="sha256:00"), "registry_digest_is_a_sha256"),
        (document("b", created_by=None), None),
        (document("b", body=b"", digest="0" * 64), None),
    ],
)
async def test_a_document_that_breaks_a_rule_is_refused_with_all_that_came_along(
    store: Store, scribe: Scribe, wrong: RegistryRow, constraint: str | None
) -> None:
    await scribe.aside(registry=[document("a")])
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(registry=[document("c"), wrong])
    assert raised.value.constraint_name == constraint
    assert places(await store.registry_list(TENANT, "dag", None, None, 9)) == [("a", 1)]


async def test_a_version_is_registered_once_in_a_commit(store: Store, scribe: Scribe) -> None:
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(registry=[document("a"), document("a", body=b"{}")])
    assert raised.value.constraint_name == "registry_pkey"


async def test_documents_are_listed_by_name_and_version_without_their_bodies(
    store: Store, scribe: Scribe
) -> None:
    named = [("b", 2), ("B", 1), ("a-1", 1), ("b", 10), ("é", 1), ("b", 1), ("c", 1)]
    await scribe.aside(
        registry=[document(name, version, disabled_at=NOW) for name, version in named]
    )
    await scribe.aside(registry=[document("z", kind="pack")])
    await scribe.aside("globex", registry=[document("y", tenant_id="globex")])
    for name, expected in (
        (None, sorted(named)),
        ("b", [("b", 1), ("b", 2), ("b", 10)]),
        ("none", []),
    ):
        found: list[tuple[str, int]] = []
        while page := await store.registry_list(
            TENANT, "dag", name, found[-1] if found else None, 2
        ):
            assert len(page) <= 2
            assert all(row.body is NO_DATA or not bytes(row.body) for row in page)
            assert all(row.disabled_at == NOW for row in page)
            found += places(page)
        assert found == expected
    assert places(await store.registry_list(TENANT, "dag", "b", ("a-1", 7), 2)) == [
        ("b", 1),
        ("b", 2),
    ]
    assert await store.registry_list(TENANT, "dag", "b", ("c", 1), 2) == []
