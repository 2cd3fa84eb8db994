"""Any bytes in, the same bytes out, to their tenant alone, in bounded memory."""

import base64
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from jobengine.domain.errors import RefusedError
from jobengine.http.transfers import Transfers
from jobengine.settings import Settings
from jobengine.store.artifacts import CHUNK_BYTES
from tests.http.conftest import Rest
from tests.http.opened import BASE, Opened, opened

SETTINGS = Settings(shards=2, artifact_bytes_max=4 << 20, tenant_artifact_bytes_max=6 << 20)
BYTES = random.Random(7).randbytes(2 * CHUNK_BYTES + 1_000)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def field_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture
async def node() -> AsyncIterator[Opened]:
    async with opened(SETTINGS) as node:
        yield node


async def put(node: Opened, data: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await node.client.post("/artifacts", content=data, headers=named)


async def get(node: Opened, data: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await node.client.get(f"/artifacts/{digest_of(data)}", headers=named)


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    return error


@asynccontextmanager
async def begun(
    node: Opened, framing: str, tenant: str = "demo"
) -> AsyncIterator[trio.SocketStream]:
    """A connection on which the head of an upload was sent; cut at the end of the block."""
    url = httpx.URL(node.doors.http_url)
    async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
        given = {"Host": "x", **node.headers(tenant)}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        start = f"POST {BASE}/artifacts HTTP/1.1\r\n{head}{framing}\r\n\r\n"
        await stream.send_all(start.encode())
        yield stream


async def left_bytes(node: Opened, tenant: str = "demo") -> int:
    return await node.engine.store.artifact_bytes(tenant)


async def test_bytes_come_back_as_they_were_stored(node: Opened) -> None:
    made = await put(node, BYTES, Content_Type="application/x.custom; v=1")
    assert made.status_code == 201, made.text
    uri = f"{BASE}/artifacts/{digest_of(BYTES)}"
    assert made.json() == {
        "digest": digest_of(BYTES),
        "sizeBytes": len(BYTES),
        "mime": "application/x.custom; v=1",
        "uri": uri,
    }
    assert made.headers["Location"] == uri
    read = await node.client.get(node.doors.http_url + uri)
    assert (read.status_code, read.content) == (200, BYTES)
    assert read.headers["Content-Type"] == "application/x.custom; v=1"
    assert read.headers["Content-Length"] == str(len(BYTES))
    assert read.headers["ETag"] == f'"{digest_of(BYTES)}"'
    assert read.headers["Repr-Digest"] == field_of(BYTES)
    assert read.headers["Accept-Ranges"] == "bytes"
    assert read.headers["Content-Disposition"].startswith("attachment")
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert read.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    "data", [b"", b"x", BYTES[:CHUNK_BYTES], BYTES[: CHUNK_BYTES + 1]], ids=len
)
async def test_any_length_is_stored_whole(node: Opened, data: bytes) -> None:
    assert (await put(node, data)).json()["sizeBytes"] == len(data)
    read = await get(node, data)
    assert (read.content, read.headers["Content-Length"]) == (data, str(len(data)))


async def test_head_says_what_get_would_and_sends_nothing(node: Opened) -> None:
    await put(node, BYTES)
    path = f"/artifacts/{digest_of(BYTES)}"
    head, read = await node.client.head(path), await node.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Repr-Digest", "Accept-Ranges"):
        assert head.headers[name] == read.headers[name]
    refused_head = await node.client.head(f"/artifacts/sha256:{'0' * 64}")
    assert refused_head.status_code == 404


async def test_the_same_bytes_again_are_found_and_the_first_mime_stays(node: Opened) -> None:
    first = await put(node, BYTES, Content_Type="text/plain")
    again = await put(node, BYTES, Content_Type="text/html")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert await left_bytes(node) == len(BYTES)


async def test_a_digest_is_found_with_and_without_its_prefix(node: Opened) -> None:
    await put(node, b"abc")
    for name in (digest_of(b"abc"), digest_of(b"abc").removeprefix("sha256:")):
        assert (await node.client.get(f"/artifacts/{name}")).content == b"abc"
    for odd in ("sha512:00", "abc", digest_of(b"abc").upper(), "sha256:", "a%0A"):
        refused(await node.client.get(f"/artifacts/{odd}"), 404, "NOT_FOUND")


async def test_another_tenant_finds_nothing(node: Opened) -> None:
    await put(node, BYTES)
    other = node.headers("other")
    refused(await get(node, BYTES, **other), 404, "NOT_FOUND")
    assert (await put(node, BYTES, **other)).status_code == 201


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
async def test_a_digest_that_was_said_is_checked(node: Opened, name: str) -> None:
    answer = await put(node, BYTES, **{name: field_of(b"other")})
    error = refused(answer, 422, "DIGEST_MISMATCH")
    assert digest_of(BYTES) in error["message"]
    assert digest_of(b"other") in error["message"]
    assert await left_bytes(node) == 0
    good = f"sha-512=:AAAA:, {field_of(BYTES)}"
    assert (await put(node, BYTES, **{name: good})).status_code == 201


@pytest.mark.parametrize(
    "field", ["", "sha-512=:AAAA:", "sha-256=:AAAA:", "sha-256=abc", "sha-256=:!:"]
)
async def test_a_digest_field_that_cannot_be_checked_is_refused(node: Opened, field: str) -> None:
    error = refused(await put(node, BYTES, Content_Digest=field), 400, "INVALID_FIELD")
    assert error["details"] == [{"path": "Content-Digest"}]
    assert await left_bytes(node) == 0


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        (f"bytes={CHUNK_BYTES - 5}-{CHUNK_BYTES + 4}", CHUNK_BYTES - 5, CHUNK_BYTES + 5),
        (f"bytes={2 * CHUNK_BYTES}-", 2 * CHUNK_BYTES, len(BYTES)),
        ("bytes=-7", len(BYTES) - 7, len(BYTES)),
        ("bytes=-99999999", 0, len(BYTES)),
        ("bytes=5-99999999", 5, len(BYTES)),
        ("Bytes=1-2", 1, 3),
    ],
)
async def test_one_range_is_answered_with_206(
    node: Opened, asked: str, first: int, end: int
) -> None:
    await put(node, BYTES)
    part = await get(node, BYTES, Range=asked)
    assert (part.status_code, part.content) == (206, BYTES[first:end])
    assert part.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(BYTES)}"
    assert part.headers["Content-Length"] == str(end - first)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2"]
)
async def test_what_is_no_single_range_is_answered_whole(node: Opened, asked: str) -> None:
    await put(node, BYTES)
    whole = await get(node, BYTES, Range=asked)
    assert (whole.status_code, whole.content) == (200, BYTES)


@pytest.mark.parametrize("asked", ["bytes=527288-", "bytes=99999999-", "bytes=-0"])
async def test_a_range_behind_the_end_cannot_be_had(node: Opened, asked: str) -> None:
    await put(node, BYTES[:100])
    answer = await get(node, BYTES[:100], Range=asked)
    refused(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["Content-Range"] == "bytes */100"


async def test_conditions_compare_the_digest(node: Opened) -> None:
    await put(node, BYTES)
    tag = f'"{digest_of(BYTES)}"'
    for said in (tag, f'"x", W/{tag}', "*"):
        fresh = await get(node, BYTES, If_None_Match=said)
        assert (fresh.status_code, fresh.content, fresh.headers["ETag"]) == (304, b"", tag)
    assert (await get(node, BYTES, If_None_Match='"x"')).status_code == 200
    assert (await get(node, BYTES, Range="bytes=0-1", If_Range=tag)).status_code == 206
    assert (await get(node, BYTES, Range="bytes=0-1", If_Range='"x"')).status_code == 200


async def test_what_is_larger_than_the_limit_is_refused_and_leaves_nothing(node: Opened) -> None:
    chunk = b"80000\r\n" + bytes(0x80000) + b"\r\n"
    for framing, body in (
        (f"Content-Length: {(4 << 20) + 1}", b""),
        ("Transfer-Encoding: chunked", chunk * 9),
    ):
        async with begun(node, framing) as stream:
            await stream.send_all(body)
            said = b""
            with trio.fail_after(30):
                while b'"PAYLOAD_TOO_LARGE"' not in said:
                    part = await stream.receive_some()
                    assert part, said
                    said += part
        assert said.startswith(b"HTTP/1.1 413")
        assert b"artifact_bytes_max" in said
        assert await left_bytes(node) == 0


async def test_a_tenant_has_a_limit_and_others_are_not_touched_by_it(node: Opened) -> None:
    assert (await put(node, bytes(4 << 20))).status_code == 201
    error = refused(await put(node, b"x" * (3 << 20)), 409, "ARTIFACT_QUOTA_EXCEEDED")
    assert "tenant_artifact_bytes_max" in error["message"]
    assert await left_bytes(node) == 4 << 20
    other = node.headers("other")
    assert (await put(node, b"x" * (3 << 20), **other)).status_code == 201


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_an_upload_that_is_cut_leaves_nothing(node: Opened, framing: str) -> None:
    data = b"x" * 400_000
    async with begun(node, framing) as stream:
        await stream.send_all(b"61a80\r\n" + data + b"\r\n" if "chunked" in framing else data)
        with trio.fail_after(15):
            while await left_bytes(node) < CHUNK_BYTES:
                await trio.lowlevel.checkpoint()
    with trio.fail_after(15):
        while await left_bytes(node) > 0:
            await trio.lowlevel.checkpoint()


async def test_memory_is_that_of_a_few_chunks_whatever_the_size() -> None:
    """The store keeps the bytes in this process, so what it has is taken off."""
    size = 24 << 20
    async with opened(Settings(shards=2)) as node:

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(size >> 16):
                yield bytes([number % 251]) * (1 << 16)

        await put(node, b"warm")
        tracemalloc.start()
        try:
            made = await node.client.post("/artifacts", content=pieces())
            assert made.status_code == 201
            kept, peak = tracemalloc.get_traced_memory()
            assert peak - kept < 16 * CHUNK_BYTES
            tracemalloc.reset_peak()
            received = 0
            path = f"/artifacts/{made.json()['digest']}"
            async with node.client.stream("GET", path) as answer:
                async for piece in answer.aiter_raw():
                    received += len(piece)
            kept, peak = tracemalloc.get_traced_memory()
            assert received == size
            assert peak - kept < 16 * CHUNK_BYTES
        finally:
            tracemalloc.stop()


async def test_damaged_bytes_are_never_sent_to_their_end(node: Opened) -> None:
    await put(node, BYTES)
    content = await node.engine.store.artifact_content("demo", digest_of(BYTES))
    assert content is not None
    memory: Any = node.engine.store
    chunks = memory._contents["demo", content.content_id].chunks
    chunks[0] = bytes(len(chunks[0]))
    with pytest.raises(httpx.RemoteProtocolError):
        await get(node, BYTES)
    del chunks[2]
    with pytest.raises(httpx.RemoteProtocolError):
        await get(node, BYTES)


async def test_storing_is_an_entry_of_the_ledger_once(node: Opened) -> None:
    async def kinds() -> list[str]:
        from jobengine.domain.entry import decode_entries

        blocks = await node.engine.store.blocks("demo", 0, 100, 1 << 20)
        return [entry.kind for block in blocks for entry in decode_entries(block.body)]

    await put(node, BYTES)
    await put(node, BYTES)
    await put(node, BYTES, Content_Digest=field_of(b""))
    assert await kinds() == ["artifact.stored"]


async def test_a_key_stands_for_the_bytes_it_came_with_first(node: Opened) -> None:
    first = await put(node, BYTES, Idempotency_Key="k")
    again = await put(node, BYTES, Idempotency_Key="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    refused(await put(node, b"other", Idempotency_Key="k"), 422, "IDEMPOTENCY_MISMATCH")
    refused(await get(node, b"other"), 404, "NOT_FOUND")
    assert await left_bytes(node) == len(BYTES)


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"Content_Type": "nonsense"}, "Content-Type"),
        ({"Content_Type": "text/" + "x" * 300}, "Content-Type"),
        ({"Content_Encoding": "gzip"}, "Content-Encoding"),
    ],
)
async def test_media_types_are_well_formed_and_codings_are_not_taken(
    node: Opened, headers: dict[str, str], path: str
) -> None:
    error = refused(await put(node, b"x", **headers), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert error["details"] == [{"path": path}]


async def test_scopes_of_producers_and_workers_are_enough(node: Opened) -> None:
    from jobengine.auth.tokens import Tokens

    def bearer(scope: str) -> dict[str, str]:
        now_at = node.engine.clock.moment().at
        return {
            "Authorization": f"Bearer {Tokens(node.key).issue('demo', [scope], 's', 60, now_at)}"
        }

    for scope, stores, reads in (
        ("orch:submit", 201, 403),
        ("orch:work", 201, 200),
        ("orch:read", 403, 200),
        ("orch:operate", 403, 403),
    ):
        assert (await put(node, scope.encode(), **bearer(scope))).status_code == stores
        assert (await put(node, b"x")).status_code in (200, 201)
        assert (await get(node, b"x", **bearer(scope))).status_code == reads


async def test_transfers_beyond_a_tenants_share_and_beyond_the_nodes_are_told_to_come_again() -> (
    None
):
    async with opened(Settings(shards=2)) as node, AsyncExitStack() as uploads:

        async def hold_half(tenant: str) -> None:
            for _ in range(32):
                upload = begun(node, "Content-Length: 300000", tenant)
                stream = await uploads.enter_async_context(upload)
                await stream.send_all(bytes(CHUNK_BYTES))
            with trio.fail_after(30):
                while await left_bytes(node, tenant) < 32 * CHUNK_BYTES:
                    await trio.lowlevel.checkpoint()

        other = node.headers("other")
        assert (await put(node, b"kept")).status_code == 201
        await hold_half("demo")
        for busy in (await put(node, b"x"), await get(node, b"kept")):
            assert "the tenant's share is taken" in refused(busy, 503, "OVERLOADED")["message"]
            assert busy.headers["Retry-After"]
        assert (await put(node, b"x", **other)).status_code == 201
        assert (await get(node, b"x", **other)).content == b"x"
        await hold_half("another")
        full = refused(await put(node, b"y", **other), 503, "OVERLOADED")
        assert "too many artifacts" in full["message"]
        await uploads.aclose()
        with trio.fail_after(30):
            while await left_bytes(node) > len(b"kept"):
                await trio.lowlevel.checkpoint()
        assert (await put(node, b"x")).status_code == 201


def test_a_tenant_without_transfers_is_forgotten() -> None:
    transfers = Transfers(2)
    with transfers.one_of("a"), pytest.raises(RefusedError), transfers.one_of("a"):
        raise AssertionError
    with transfers.one_of("a"), transfers.one_of("b"):
        assert set(transfers._room._by_owner) == {"a", "b"}
    assert not transfers._room._by_owner


async def test_bytes_that_stop_coming_are_given_up(rest: Rest) -> None:
    answer = await rest.raw(
        f"POST {BASE}/artifacts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        f"Authorization: Bearer {rest.token()}\r\nX-Stella-Tenant: demo\r\n\r\nab".encode()
    )
    assert answer.startswith(b"HTTP/1.1 408"), answer[:300]
    assert await rest.engine.store.artifact_bytes("demo") == 0
