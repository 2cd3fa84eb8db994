"""The bytes of artifacts: found by digest once complete, counted, shared by none, swept."""

import hashlib
import random

import pytest
import trio

from jobengine.domain.change import ArtifactRow
from jobengine.domain.instant import DAY, HOUR
from jobengine.store.artifacts import CHUNK_BYTES, ArtifactContent, UploadGoneError
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe, job_id, new_row

PLENTY = 1 << 40


def content_id(number: int) -> str:
    return job_id(number)


def digest_of(*chunks: bytes) -> str:
    return "sha256:" + hashlib.sha256(b"".join(chunks)).hexdigest()


async def upload(
    store: Store, number: int, *chunks: bytes, tenant_id: str = TENANT, at: int = NOW
) -> tuple[ArtifactContent, bool]:
    await store.begin_artifact(tenant_id, content_id(number), "text/plain", at)
    for place, chunk in enumerate(chunks):
        assert await store.put_artifact_chunk(
            tenant_id, content_id(number), place, chunk, PLENTY, at
        )
    return await store.finish_artifact(tenant_id, content_id(number), digest_of(*chunks), at)


async def test_bytes_come_back_chunk_by_chunk_under_their_digest(store: Store) -> None:
    chunks = [random.Random(1).randbytes(CHUNK_BYTES), b"\0\xff'\\", b""][:2]
    made, is_new = await upload(store, 1, *chunks)
    assert is_new
    assert made == ArtifactContent(
        content_id=content_id(1),
        digest=digest_of(*chunks),
        mime="text/plain",
        size_bytes=CHUNK_BYTES + 4,
        stored_at=NOW,
    )
    assert await store.artifact_content(TENANT, made.digest) == made
    read = [await store.artifact_chunk(TENANT, made.content_id, n) for n in range(3)]
    assert read == [*chunks, None]


async def test_no_bytes_at_all_are_an_artifact_too(store: Store) -> None:
    made, _ = await upload(store, 1)
    assert (made.size_bytes, await store.artifact_bytes(TENANT)) == (0, 0)
    assert await store.artifact_chunk(TENANT, made.content_id, 0) is None


async def test_an_unfinished_upload_is_not_found_but_counted(store: Store) -> None:
    await store.begin_artifact(TENANT, content_id(1), "text/plain", NOW)
    assert await store.put_artifact_chunk(TENANT, content_id(1), 0, b"abc", PLENTY, NOW)
    assert await store.artifact_content(TENANT, digest_of(b"abc")) is None
    assert await store.artifact_bytes(TENANT) == 3


async def test_the_same_bytes_again_are_kept_once_and_as_they_were(store: Store) -> None:
    first, _ = await upload(store, 1, b"abc", b"d")
    again, is_new = await upload(store, 2, b"abcd", at=NOW + 5)
    assert (again, is_new) == (first, False)
    assert await store.artifact_bytes(TENANT) == 4
    assert await store.artifact_chunk(TENANT, content_id(2), 0) is None


async def test_uploads_of_the_same_bytes_at_once_leave_one(store: Store) -> None:
    found: list[tuple[ArtifactContent, bool]] = []

    async def one(number: int) -> None:
        found.append(await upload(store, number, b"abc"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert sum(is_new for _, is_new in found) == 1
    assert len({made.content_id for made, _ in found}) == 1
    assert await store.artifact_bytes(TENANT) == 3


async def test_another_tenant_finds_nothing_and_pays_for_himself(store: Store) -> None:
    mine, _ = await upload(store, 1, b"abc")
    assert await store.artifact_content("other", mine.digest) is None
    assert await store.artifact_chunk("other", mine.content_id, 0) is None
    assert await store.artifact_bytes("other") == 0
    theirs, is_new = await upload(store, 2, b"abc", tenant_id="other")
    assert is_new
    assert theirs.content_id != mine.content_id
    await store.discard_artifact("other", mine.content_id)
    assert await store.artifact_content(TENANT, mine.digest) == mine


async def test_a_chunk_beyond_the_tenants_limit_is_not_taken(store: Store) -> None:
    await store.begin_artifact(TENANT, content_id(1), "text/plain", NOW)
    assert not await store.put_artifact_chunk(TENANT, content_id(1), 0, b"abcd", 3, NOW)
    assert await store.put_artifact_chunk(TENANT, content_id(1), 0, b"abc", 3, NOW)
    assert not await store.put_artifact_chunk(TENANT, content_id(1), 1, b"d", 3, NOW)
    made, _ = await store.finish_artifact(TENANT, content_id(1), digest_of(b"abc"), NOW)
    assert made.size_bytes == await store.artifact_bytes(TENANT) == 3


async def test_uploads_at_once_stay_below_the_limit_together(store: Store) -> None:
    taken: list[bool] = []

    async def one(number: int) -> None:
        await store.begin_artifact(TENANT, content_id(number), "text/plain", NOW)
        chunk = b"x" * 10
        taken.append(await store.put_artifact_chunk(TENANT, content_id(number), 0, chunk, 35, NOW))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)
    assert sum(taken) == 3
    assert await store.artifact_bytes(TENANT) == 30


async def test_a_discarded_upload_leaves_nothing(store: Store) -> None:
    await store.begin_artifact(TENANT, content_id(1), "text/plain", NOW)
    await store.put_artifact_chunk(TENANT, content_id(1), 0, b"abc", PLENTY, NOW)
    await store.discard_artifact(TENANT, content_id(1))
    assert await store.artifact_chunk(TENANT, content_id(1), 0) is None
    assert await store.artifact_bytes(TENANT) == 0
    with pytest.raises(UploadGoneError):
        await store.put_artifact_chunk(TENANT, content_id(1), 1, b"d", PLENTY, NOW)
    with pytest.raises(UploadGoneError):
        await store.finish_artifact(TENANT, content_id(1), digest_of(b"abc"), NOW)
    assert await store.artifact_bytes(TENANT) == 0


async def test_what_is_finished_takes_no_more_and_is_not_discarded(store: Store) -> None:
    made, _ = await upload(store, 1, b"abc")
    with pytest.raises(UploadGoneError):
        await store.put_artifact_chunk(TENANT, content_id(1), 1, b"d", PLENTY, NOW)
    with pytest.raises(UploadGoneError):
        await store.finish_artifact(TENANT, content_id(1), made.digest, NOW)
    await store.discard_artifact(TENANT, content_id(1))
    assert await store.artifact_content(TENANT, made.digest) == made


async def test_a_sweep_takes_what_nobody_names_and_uploads_nobody_finishes(
    store: Store, scribe: Scribe
) -> None:
    named, _ = await upload(store, 1, b"named", at=NOW - 2 * DAY)
    unnamed, _ = await upload(store, 2, b"unnamed", at=NOW - 2 * DAY)
    recent, _ = await upload(store, 3, b"recent", at=NOW - HOUR)
    touched, _ = await upload(store, 4, b"touched", at=NOW - 2 * DAY)
    await upload(store, 5, b"touched", at=NOW)
    foreign, _ = await upload(store, 6, b"named", tenant_id="other", at=NOW - 2 * DAY)
    for number, at in ((7, NOW - 2 * HOUR), (8, NOW)):
        await store.begin_artifact(TENANT, content_id(number), "text/plain", at)
        await store.put_artifact_chunk(TENANT, content_id(number), 0, b"half", PLENTY, at)
    await scribe.rows(new_row(100))
    row = ArtifactRow(
        tenant_id=TENANT, job_id=job_id(100), attempt=1, name="a", digest=named.digest, at=NOW
    )
    await scribe.aside(artifacts=[row])

    swept = await store.sweep_artifacts(None, NOW - DAY, NOW - HOUR, 100)

    assert (swept.removed, swept.after) == (3, None)
    for kept in (named, recent, touched):
        assert await store.artifact_content(TENANT, kept.digest) == kept
    assert await store.artifact_content(TENANT, unnamed.digest) is None
    assert await store.artifact_chunk(TENANT, unnamed.content_id, 0) is None
    assert await store.artifact_content("other", foreign.digest) is None
    assert await store.artifact_chunk(TENANT, content_id(7), 0) is None
    assert await store.artifact_chunk(TENANT, content_id(8), 0) == b"half"
    assert await store.artifact_bytes(TENANT) == len(b"named" + b"recent" + b"touched" + b"half")
    assert await store.artifact_bytes("other") == 0


async def test_a_sweep_looks_at_so_many_and_says_where_to_go_on(store: Store) -> None:
    for number in range(5):
        await upload(store, number, b"%d" % number, at=NOW - 2 * DAY - number % 2)
    first = await store.sweep_artifacts(None, NOW - DAY, NOW - HOUR, 2)
    assert first.removed == 2
    assert first.after == (NOW - 2 * DAY - 1, TENANT, content_id(3))
    second = await store.sweep_artifacts(first.after, NOW - DAY, NOW - HOUR, 2)
    third = await store.sweep_artifacts(second.after, NOW - DAY, NOW - HOUR, 2)
    assert (second.removed, third.removed, third.after) == (2, 1, None)
    assert await store.artifact_bytes(TENANT) == 0
