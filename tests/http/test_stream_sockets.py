"""Streams over a WebSocket: the same as server-sent events, and what no client may do to one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
import trio

from jobengine.domain.event_batch import Batch
from jobengine.http.streams.socket_form import encode_events
from jobengine.http.tls import TlsFiles
from jobengine.settings import Settings
from jobengine.wire.streams import STREAM_SUBPROTOCOL, StreamFirstSignal
from tests.http.certificates import Authority
from tests.http.conftest import BASE, Rest
from tests.http.opened import opened
from tests.http.running import begin, job
from tests.http.stream_socket import Watching, as_subprotocols, handshake, watching
from tests.http.test_bearer_ends import End, bearer_of, expire, revoke
from tests.http.test_streams import Reader, following, until_readers
from tests.http.test_worker_socket import frame

PING = b"\x89\x00"


@asynccontextmanager
async def greeted(
    rest: Rest, path: str = "/stream/events", **headers: str
) -> AsyncIterator[Watching]:
    async with watching(rest.port, {**rest.headers(), **headers}, path) as watch:
        await watch.hello()
        yield watch


async def bulk(rest: Rest, count: int) -> None:
    answer = await rest.client.post("/jobs:bulk", json=[{"jobType": "a"}] * count)
    assert answer.status_code == 200, answer.text


# ---- what is sent


async def test_both_forms_show_the_same_events_with_the_same_bytes(rest: Rest) -> None:
    await bulk(rest, 20)
    async with following(rest, "?after=0") as reader, greeted(rest, "/stream/events?after=0") as ws:
        await rest.submit()
        events = await ws.take(42)
        with trio.fail_after(15):
            blocks = [await reader.block() for _ in range(42)]
        assert [event["seq"] for event in events] == list(range(1, 43))
        assert [int((block or {})["id"]) for block in blocks] == list(range(1, 43))
        assert (blocks[-1] or {})["data"] in ws.raw


async def test_a_socket_goes_on_behind_the_last_message_without_gap_or_repeat(rest: Rest) -> None:
    await bulk(rest, 700)
    async with greeted(rest, "/stream/events?after=0") as ws:
        seen = await ws.take(200)
    last = seen[-1]["seq"]
    async with watching(rest.port, rest.headers(), f"/stream/events?after={last}") as ws:
        assert await ws.hello() == last
        await bulk(rest, 300)
        seen += await ws.take(2_000 - last)
    assert [event["seq"] for event in seen] == list(range(1, 2_001))


async def test_a_header_goes_before_the_query_and_an_event_id_is_a_cursor(rest: Rest) -> None:
    await bulk(rest, 2)
    cursor = {"Last-Event-ID": "urn:orch:event:demo:3"}
    async with greeted(rest, "/stream/events?after=0", **cursor) as ws:
        assert [event["seq"] for event in await ws.take(1)] == [4]


async def test_a_run_is_told_with_its_first_signal(rest: Rest) -> None:
    run_id = await begin(rest, job("a"))
    async with greeted(rest, f"/stream/runs/{run_id}?after=0") as ws:
        said = [await ws.next() for _ in range(2)]
    (signal,) = [one for one in said if isinstance(one, StreamFirstSignal)]
    assert (signal.run_id, signal.first_signal.type) == (run_id, "queued")


def test_where_nothing_matched_the_cursor_moves_all_the_same() -> None:
    batch = Batch(tenant_id="t", after_seq=4, through_seq=9, events=())
    assert msgspec.json.decode(encode_events(batch)[2:]) == {
        "type": "events",
        "after": 4,
        "through": 9,
        "events": [],
    }


def test_a_gap_is_told_before_what_follows_it() -> None:
    batch = Batch(tenant_id="t", after_seq=4, through_seq=9, events=(), gap=(5, 7))
    said = encode_events(batch)
    assert said[2 : 2 + said[1]] == b'{"type":"gap","from":5,"to":7}'
    assert b'"after":7,"through":9' in said


async def test_a_page_offers_its_bearer_and_tenant_and_hears_neither(rest: Rest) -> None:
    offers = as_subprotocols(rest.headers())
    async with watching(rest.port, {}, "/stream/events?after=0", offers=offers) as ws:
        assert ws.connection.subprotocol == STREAM_SUBPROTOCOL
        assert await ws.hello() == 0
        created = await rest.submit()
        assert (await ws.take(1))[0]["job"]["id"] == created["jobId"]
    said = await rest.raw(handshake("/stream/logs/x", {}, Sec_WebSocket_Protocol=", ".join(offers)))
    assert b"404" in said.partition(b"\r\n")[0]
    assert offers[1].encode() not in said


# ---- refusals


FORBIDDEN: dict[str, dict[str, str]] = {
    "no token": {"Authorization": ""},
    "a bad token": {"Authorization": "Bearer no"},
    "no tenant": {"X-Stella-Tenant": ""},
    "a foreign tenant": {"X-Stella-Tenant": "other"},
}


@pytest.mark.parametrize("instead", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_who_may_not_read_is_refused_alike_in_both_forms(
    rest: Rest, instead: dict[str, str]
) -> None:
    await refused_alike(rest, "/stream/events", instead)


@pytest.mark.parametrize(
    "path",
    [
        "/stream/events?after=x",
        "/stream/events?after=7",
        "/stream/events?tipes=a",
        "/stream/events?types=job.complete",
        "/stream/jobs/01a2006c-db40-721c-81a1-17ce0c696aff",
        "/stream/logs/01a2006c-db40-721c-81a1-17ce0c696aff?after=1",
        "/stream/pack-runs/x",
    ],
)
async def test_what_cannot_be_followed_is_refused_alike_in_both_forms(
    rest: Rest, path: str
) -> None:
    await refused_alike(rest, path, {})


async def refused_alike(rest: Rest, path: str, instead: dict[str, str]) -> None:
    given = {name: value for name, value in {**rest.headers(), **instead}.items() if value}
    async with httpx.AsyncClient(trust_env=False) as client:
        plain = await client.get(f"http://127.0.0.1:{rest.port}{BASE}{path}", headers=given)
    head, _, body = (await rest.raw(handshake(path, given))).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == plain.status_code >= 400
    expected = plain.json()["error"]
    error = msgspec.json.decode(body)["error"]
    assert {**error, "traceId": ""} == {**expected, "traceId": ""}
    lines = head.lower()
    assert b"connection: close" in lines
    assert b"x-jobengine-version" in lines
    assert (b"www-authenticate" in lines) == (plain.status_code == 401)


@pytest.mark.parametrize(
    ("instead", "path"),
    [
        ({"Sec_WebSocket_Protocol": ""}, "Sec-WebSocket-Protocol"),
        ({"Sec_WebSocket_Protocol": "chat"}, "Sec-WebSocket-Protocol"),
        ({"Sec_WebSocket_Key": "short"}, "Sec-WebSocket-Key"),
        (
            {"Sec_WebSocket_Protocol": f"{STREAM_SUBPROTOCOL}, jobengine.bearer.x"},
            "Sec-WebSocket-Protocol",
        ),
        (
            {
                "X_Stella_Tenant": "",
                "Sec_WebSocket_Protocol": f"{STREAM_SUBPROTOCOL}, jobengine.tenant.!",
            },
            "Sec-WebSocket-Protocol",
        ),
        (
            {
                "X_Stella_Tenant": "",
                "Sec_WebSocket_Protocol": (
                    f"{STREAM_SUBPROTOCOL}, jobengine.tenant.YQ, jobengine.tenant.Yg"
                ),
            },
            "Sec-WebSocket-Protocol",
        ),
    ],
)
async def test_a_handshake_that_contradicts_itself_is_refused(
    rest: Rest, instead: dict[str, str], path: str
) -> None:
    said = await rest.raw(handshake("/stream/events", rest.headers(), **instead))
    assert said.startswith(b"HTTP/1.1 400")
    error = msgspec.json.decode(said.partition(b"\r\n\r\n")[2])["error"]
    assert (error["code"], error["details"]) == ("INVALID_FIELD", [{"path": path}])


async def test_a_node_without_room_for_readers_says_when_to_come_again() -> None:
    async with opened(Settings(shards=2, stream_readers_max=1)) as node:
        port = httpx.URL(node.doors.http_url).port or 0
        async with watching(port, node.headers()) as ws:
            await ws.hello()
            answer = await node.client.get("/stream/events")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert answer.json()["error"]["code"] == "OVERLOADED"


# ---- the end


@pytest.mark.parametrize("end", [expire, revoke])
async def test_a_socket_ends_with_its_token_and_says_why(end: End) -> None:
    async with opened() as node:
        headers = node.headers()
        async with watching(httpx.URL(node.doors.http_url).port or 0, headers) as ws:
            await ws.hello()
            begins = await end(node, bearer_of(headers))
            said, code, reason = await ws.end()
    assert said is not None
    assert (said.code, code) == ("TOKEN_INVALID", 1008)
    assert said.message == reason
    assert reason.startswith(begins)


async def test_an_engine_that_stops_says_so_in_both_forms(rest: Rest) -> None:
    async with following(rest) as reader, greeted(rest) as ws:
        rest.front.stopping.set()
        said, code, _ = await ws.end()
        with trio.fail_after(15):
            block = await reader.block()
            assert await reader.block() is None
    assert said is not None
    assert (said.code, code) == ("ENGINE_STOPPING", 1001)
    assert block is not None
    assert block["event"] == "end"
    assert msgspec.json.decode(block["data"]) == {"code": said.code, "message": said.message}
    assert "id" not in block


async def test_a_socket_is_closed_as_its_client_asks_and_forgotten(rest: Rest) -> None:
    async with greeted(rest) as ws:
        await until_readers(rest, 1)
        with trio.fail_after(15):
            await ws.connection.aclose(3_000, "enough")
        assert ws.connection.closed is not None
        assert ws.connection.closed.code == 3_000
        await until_readers(rest, 0)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame(0x81, b"hello"), 1003),
        (frame(0x82, b"\0"), 1003),
        (frame(0x81, b"x" * 60_000), 1009),
        (b"\x81\x05hello", 1002),
        (frame(0x83, b""), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x81, b"\xff"), 1007),
    ],
)
async def test_a_client_that_says_more_than_control_frames_is_closed(
    rest: Rest, said: bytes, code: int
) -> None:
    async with raw_socket(rest) as stream:
        await stream.send_all(said)
        answer = await until_closed(stream)
    assert answer[:2] == bytes((0x88, len(answer) - 2))
    assert int.from_bytes(answer[2:4], "big") == code
    await until_readers(rest, 0)


async def test_a_ping_is_answered_and_a_flood_of_them_that_is_not_read_is_cut(rest: Rest) -> None:
    async with raw_socket(rest) as stream:
        await stream.send_all(frame(0x89, b"p"))
        said = b""
        with trio.fail_after(15):
            while not said:
                said = (await stream.receive_some()).replace(PING, b"")
        assert said == b"\x8a\x01p"
        with trio.fail_after(20):
            await flooded(stream)
    await until_readers(rest, 0)


async def flooded(stream: trio.SocketStream) -> None:
    """Ask for answers, and read none, until the connection is cut."""
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(frame(0x89, b"x" * 125) * 200)


@asynccontextmanager
async def raw_socket(rest: Rest) -> AsyncIterator[trio.SocketStream]:
    """A stream behind its handshake and `hello`."""
    async with await trio.open_tcp_stream("127.0.0.1", rest.port) as stream:
        await stream.send_all(handshake("/stream/events", rest.headers()))
        said = b""
        with trio.fail_after(15):
            while not said.endswith(b'{"type":"hello","after":0}'):
                said += await stream.receive_some()
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in said
        yield stream


async def until_closed(stream: trio.SocketStream) -> bytes:
    """All that is said, without pings."""
    said = b""
    with trio.fail_after(15):
        async for chunk in stream:
            said += chunk
    return said.replace(PING, b"")


# ---- readers that are slow or gone, lives that end


async def test_a_reader_that_never_reads_holds_up_no_other_and_catches_up_exactly(
    rest: Rest,
) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rest.port) as idle:
        reader = Reader(idle)
        await reader.begin(f"{BASE}/stream/events?after=0", rest.headers())
        async with greeted(rest, "/stream/events?after=0") as other:
            for _ in range(3):
                await rest.client.post("/jobs:bulk", json=LARGE * 1_500)
            assert len(await other.take(9_000)) == 9_000
        with trio.fail_after(15):
            while rest.engine.broadcaster.census().full == 0:
                await trio.lowlevel.checkpoint()
        with trio.fail_after(20):
            seen = await reader.take(9_000)
        assert [one.seq for one in seen] == list(range(1, 9_001))
        await rest.submit()
        assert [one.seq for one in await reader.take(2)] == [9_001, 9_002]


LARGE = [{"jobType": "a", "correlationId": "c" * 256}]


async def test_a_broadcaster_that_fails_is_not_noticed(rest: Rest) -> None:
    with structlog.testing.capture_logs() as logs:
        await events_across_failures(rest)
    assert [log["change"] for log in logs if log["event"] == "actor_failed"][::2] == ["failed"] * 3


async def events_across_failures(rest: Rest) -> None:
    async with following(rest, "?after=0") as reader, greeted(rest, "/stream/events?after=0") as ws:
        seqs: list[int] = []
        for _ in range(3):
            rest.engine.broadcaster.mailbox.deliver(object())  # type: ignore[arg-type]
            await bulk(rest, 100)
            seqs += [event["seq"] for event in await ws.take(200)]
        assert seqs == list(range(1, 601))
        assert [one.seq for one in await reader.take(600)] == seqs


async def test_streams_over_tls_say_the_same_and_end_as_tls_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign()
    files = TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=None)
    trusted = authority.trusted()
    async with opened(tls=files, verify=trusted) as node:
        headers = node.headers()
        port = httpx.URL(node.doors.http_url).port or 0
        path = "/stream/events?after=0"
        async with (
            node.client.stream("GET", path, headers=headers) as stream,
            watching(port, headers, path, tls=trusted) as ws,
        ):
            assert await ws.hello() == 0
            await node.client.post("/jobs:bulk", json=LARGE * 2_000)
            seqs = [event["seq"] for event in await ws.take(4_000)]
            lines = stream.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == [": following", "id: 0", ""]
            ids: list[int] = []
            while len(ids) < 4_000:
                name, _, value = (await anext(lines)).partition(": ")
                ids += [int(value)] if name == "id" else []
            await revoke(node, bearer_of(headers))
            rest = [line async for line in lines]
            said, code, _ = await ws.end()
    assert seqs == ids == list(range(1, 4_001))
    assert "event: end" in rest
    assert said is not None
    assert code == 1008


async def test_the_end_of_a_stream_over_tls_is_told_from_a_cut(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign()
    files = TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=None)
    trusted = authority.trusted()
    async with opened(tls=files, verify=trusted) as node:
        headers = node.headers()
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **headers}.items())
        tcp = await trio.open_tcp_stream("127.0.0.1", httpx.URL(node.doors.http_url).port or 0)
        # Unlike most clients of HTTPS it does not take a connection that is cut for an end.
        async with trio.SSLStream(tcp, trusted, server_hostname="127.0.0.1") as stream:
            await stream.send_all(f"GET {BASE}/stream/events HTTP/1.1\r\n{lines}\r\n".encode())
            said = b""
            with trio.fail_after(15):
                while b": following" not in said or not said.endswith(b"\n\n"):
                    said += await stream.receive_some()
                await revoke(node, bearer_of(headers))
                while data := await stream.receive_some():
                    said += data
            assert b"event: end" in said
