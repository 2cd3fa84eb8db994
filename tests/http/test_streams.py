import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11
import pytest
import trio

from tests.http.conftest import BASE, Rest
from tests.http.test_jobs import states
from tests.http.worker import working


class Seen(NamedTuple):
    seq: int
    kind: str
    data: dict[str, Any]


class Reader:
    """Reads the blocks of one open stream, over a connection of its own."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._text = b""
        self.last_id = ""

    async def begin(self, path: str, headers: dict[str, str]) -> h11.Response:
        request = h11.Request(
            method="GET", target=path, headers=[("Host", "localhost"), *headers.items()]
        )
        await self._stream.send_all(
            (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        )
        response = await self._event()
        assert isinstance(response, h11.Response)
        return response

    async def block(self) -> dict[str, str] | None:
        """The fields of the next block (none of a comment), or None at the end. As a browser does,
        it keeps an id that comes without data and shows nothing of it."""
        while (block := await self._next_block()) is not None:
            fields = self._fields(block)
            self._keep(fields)
            if "data" in fields:
                return fields
            if block.startswith(b":"):
                return {}
        return None

    @staticmethod
    def _fields(block: bytes) -> dict[str, str]:
        lines = block.decode().split("\n")
        pairs = (line.partition(": ") for line in lines if not line.startswith(":"))
        return {name: value for name, _, value in pairs}

    def _keep(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)

    async def _next_block(self) -> bytes | None:
        while b"\n\n" not in self._text:
            event = await self._event()
            if not isinstance(event, h11.Data):
                return None
            self._text += event.data
        block, _, self._text = self._text.partition(b"\n\n")
        return bytes(block)

    async def moved(self) -> None:
        """Wait for the next block, whatever it is."""
        block = await self._next_block()
        assert block is not None, "the stream ended"
        self._keep(self._fields(block))

    async def take(self, count: int) -> list[Seen]:
        seen: list[Seen] = []
        with trio.fail_after(15):
            while len(seen) < count:
                fields = await self.block()
                assert fields is not None, "the stream ended"
                if "id" in fields:
                    data = json.loads(fields["data"])
                    seen.append(Seen(int(fields["id"]), fields["event"], data))
        return seen

    async def end(self) -> None:
        """Wait until the server has ended the stream."""
        with trio.fail_after(15):
            while await self.block() is not None:
                pass

    async def _event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._stream.receive_some())


@asynccontextmanager
async def following(
    rest: Rest, query: str = "", path: str = "/stream/events", **headers: str
) -> AsyncIterator[Reader]:
    """A stream that is open: what is committed from now on will be seen."""
    async with await trio.open_tcp_stream("127.0.0.1", rest.port) as stream:
        reader = Reader(stream)
        answer = await reader.begin(f"{BASE}{path}{query}", {**rest.headers(), **headers})
        assert answer.status_code == 200
        assert (b"content-type", b"text/event-stream") in list(answer.headers)
        assert await reader.block() == {}
        yield reader


async def until_readers(rest: Rest, count: int) -> None:
    with trio.fail_after(15):
        while rest.engine.broadcaster.census().readers != count:
            await trio.lowlevel.checkpoint()


async def test_without_a_cursor_a_stream_begins_now(rest: Rest) -> None:
    await rest.submit()
    async with following(rest) as reader:
        job = await rest.submit()
        created, scheduled = await reader.take(2)
    assert (created.seq, created.kind) == (3, "job.created")
    assert (scheduled.seq, scheduled.kind) == (4, "job.scheduled")
    assert created.data["job"]["id"] == job["jobId"]
    assert created.data["seq"] == 3


async def test_a_reader_that_was_let_through_nothing_comes_back_to_where_it_was(
    rest: Rest,
) -> None:
    await rest.submit()
    async with following(rest, "?types=job.completed") as reader:
        assert reader.last_id == "2"
    async with working(rest.engine) as worker:
        await worker.complete(await worker.take())
        headers = {"Last-Event-ID": reader.last_id}
        async with following(rest, "?types=job.completed", **headers) as reader:
            [completed] = await reader.take(1)
    assert (completed.seq, completed.kind) == (4, "job.completed")


async def test_what_a_filter_keeps_back_moves_the_id_on(rest: Rest) -> None:
    for _ in range(20):
        await rest.submit()
    async with following(rest, "?types=job.completed&after=0") as reader:
        assert reader.last_id == "0"
        with trio.fail_after(15):
            while reader.last_id != "40":
                await reader.moved()


async def test_a_stream_resumes_from_the_ledger_and_goes_live_without_gap_or_repeat(
    rest: Rest,
) -> None:
    for _ in range(50):
        await rest.submit()
    async with following(rest, "?after=0") as reader:
        await reader.take(30)
    async with following(rest, "?after=0", **{"Last-Event-ID": "30"}) as reader:
        past = await reader.take(70)
        await rest.client.post("/jobs:bulk", json=[{"jobType": "a"}] * 500)
        live = await reader.take(1000)
    assert [seen.seq for seen in past + live] == list(range(31, 1101))


async def test_two_readers_see_the_same_bytes(rest: Rest) -> None:
    async with following(rest) as one, following(rest, "?after=0") as two:
        await rest.submit()
        assert await one.take(2) == await two.take(2)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("types=job.completed", ["job.completed"]),
        ("types=job.created,job.completed&jobType=b", ["job.created", "job.completed"]),
        ("types=job.c*&jobType=b", ["job.created", "job.completed"]),
        ("types=job.started&types=job.completed", ["job.started", "job.completed"]),
        ("sourceId=nvd&types=job.started", ["job.started"]),
    ],
)
async def test_a_filter_lets_through_what_meets_it(
    rest: Rest, query: str, kinds: list[str]
) -> None:
    async with working(rest.engine) as worker:
        await rest.submit(jobType="a", hold=True)
        job = await rest.submit(jobType="b", sourceId="nvd")
        await worker.complete(await worker.take())
        await states(rest, job["jobId"], "completed")
    async with following(rest, f"?after=0&{query}") as reader:
        seen = await reader.take(len(kinds))
        assert [one.kind for one in seen] == kinds
        assert {one.data["job"]["id"] for one in seen} == {job["jobId"]}


async def test_the_stream_of_a_job_shows_that_job_only(rest: Rest) -> None:
    job = await rest.submit(hold=True)
    await rest.submit()
    async with following(rest, "?after=0", f"/stream/jobs/{job['jobId']}") as reader:
        await rest.operate(f"/jobs/{job['jobId']}:cancel")
        seen = await reader.take(2)
    assert [one.kind for one in seen] == ["job.created", "job.cancelled"]
    assert {one.data["job"]["id"] for one in seen} == {job["jobId"]}
    unknown = await rest.client.get("/stream/jobs/01a2006c-db40-721c-81a1-17ce0c696aff")
    assert unknown.status_code == 404


async def test_a_stream_shows_one_tenant_only(rest: Rest) -> None:
    async with following(rest, "?after=0") as reader:
        await rest.client.post(
            "/jobs", json={"jobType": "theirs"}, headers=rest.headers(tenant="other")
        )
        await rest.submit(jobType="ours")
        seen = await reader.take(2)
    assert {one.data["tenantId"] for one in seen} == {"demo"}
    assert {one.data["job"]["type"] for one in seen} == {"ours"}


async def test_a_quiet_stream_is_kept_awake_by_comments(rest: Rest) -> None:
    async with following(rest) as reader:
        with trio.fail_after(15):
            for _ in range(2):
                assert await reader.block() is not None


async def test_a_stream_ends_when_its_token_does(rest: Rest) -> None:
    token = rest.token(ttl_s=61, age_s=60)
    async with following(rest, Authorization=f"Bearer {token}") as reader:
        await reader.end()


async def test_a_stream_ends_when_the_engine_stops(rest: Rest) -> None:
    async with following(rest) as reader:
        rest.front.stopping.set()
        with trio.fail_after(15):
            await reader.end()


async def test_a_reader_that_has_gone_is_forgotten(rest: Rest) -> None:
    async with following(rest), following(rest, "?after=0"):
        await until_readers(rest, 2)
    await until_readers(rest, 0)


async def test_a_reader_that_stops_reading_holds_up_no_other(rest: Rest) -> None:
    async with following(rest, "?after=0"):
        body = [{"jobType": "a", "labels": {"x": "y" * 256}}] * 2_000
        await rest.client.post("/jobs:bulk", json=body)
        async with following(rest, "?after=0") as other:
            seen = await other.take(4_000)
            assert [one.seq for one in seen] == list(range(1, 4_001))


@pytest.mark.parametrize(
    ("query", "headers", "path"),
    [
        ("?after=-1", {}, "after"),
        ("?after=x", {}, "after"),
        ("?after=", {}, "after"),
        ("?after=1.0", {}, "after"),
        ("?after=" + "9" * 400, {}, "after"),
        ("?after=١", {}, "after"),
        ("?after=1", {}, "after"),
        ("?after=urn:orch:event:demo:1", {}, "after"),
        ("?after=urn:orch:event:demo:-1", {}, "after"),
        ("?after=urn:orch:event:other:0", {}, "after"),
        ("", {"Last-Event-ID": "urn:x"}, "Last-Event-ID"),
        ("?after=0", {"Last-Event-ID": "1"}, "Last-Event-ID"),
        ("?tipes=job.created", {}, "tipes"),
        ("?types=job.completed,job.complete", {}, "types"),
        ("?types=jobs.*", {}, "types"),
        ("?types=*.completed", {}, "types"),
    ],
)
async def test_a_cursor_or_filter_that_is_none_is_refused(
    shared: Rest, query: str, headers: dict[str, str], path: str
) -> None:
    answer = await shared.client.get(f"/stream/events{query}", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == [{"path": path}]


async def test_a_cursor_from_the_future_is_told_the_newest_and_an_event_id_is_one(
    rest: Rest,
) -> None:
    await rest.submit()
    answer = await rest.client.get("/stream/events?after=3")
    assert "newest event, 2;" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "INVALID_FIELD"
    async with following(rest, "?after=urn:orch:event:demo:1") as reader:
        assert [one.seq for one in await reader.take(1)] == [2]
    async with following(rest, "?after=x", **{"Last-Event-ID": "1"}) as reader:
        assert [one.seq for one in await reader.take(1)] == [2]


async def test_the_head_of_a_stream_says_that_it_ends_with_its_connection(rest: Rest) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rest.port) as stream:
        reader = Reader(stream)
        answer = await reader.begin(f"{BASE}/stream/events", rest.headers())
    headers = dict(answer.headers)
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"connection"] == b"close"
    assert headers[b"x-accel-buffering"] == b"no"
    assert {b"date", b"x-jobengine-version", b"x-ratelimit-remaining"} <= set(headers)
    assert not {b"transfer-encoding", b"content-length"} & set(headers)


async def test_who_sends_on_behind_a_stream_is_cut(rest: Rest) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rest.port) as stream:
        reader = Reader(stream)
        await reader.begin(f"{BASE}/stream/events", rest.headers())
        with trio.fail_after(15), contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * 4_096)
    await until_readers(rest, 0)


async def test_a_head_request_for_a_stream_ends(rest: Rest) -> None:
    answer = await rest.client.head("/stream/events")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
