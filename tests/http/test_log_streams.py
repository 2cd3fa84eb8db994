"""Log lines on streams: stored ones and those that come, each once, in order, in both forms."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.http.streams.besides import Lines, StoredRow
from jobengine.http.streams.cursors import LineId
from jobengine.http.streams.form import Ending
from jobengine.messages.session import Grant
from jobengine.wire.streams import StreamEnd, StreamLog
from tests.http.conftest import Rest
from tests.http.running import begin, job, take
from tests.http.stream_socket import watching
from tests.http.test_streams import Reader, following, until_readers
from tests.http.worker import Worker, working


def lines(*texts: str) -> bytes:
    said = [{"at": "2026-01-01T00:00:00.000Z", "level": "info", "text": text} for text in texts]
    return json.dumps(said).encode()


async def logged(rest: Rest, worker: Worker, *rows: tuple[str, ...]) -> Grant:
    """A running job with these rows stored."""
    await rest.submit(correlationId="c-1")
    grant = await worker.take()
    for row in rows:
        await worker.log(grant, lines(*row))
    await until_stored(rest, grant, len(rows))
    return grant


async def until_stored(rest: Rest, grant: Grant, rows: int) -> None:
    with trio.fail_after(15):
        while len(await rest.engine.store.logs("demo", grant.job.job_id, 0, 100, 1 << 30)) < rows:
            await trio.lowlevel.checkpoint()


async def blocks(reader: Reader, count: int, event: str = "log") -> list[dict[str, str]]:
    """The next so many blocks of this event; others are dropped."""
    found: list[dict[str, str]] = []
    with trio.fail_after(15):
        while len(found) < count:
            block = await reader.block()
            assert block is not None, "the stream ended"
            if block.get("event") == event:
                found.append(block)
    return found


def texts(found: list[dict[str, str]]) -> list[str]:
    return [json.loads(block["data"])["text"] for block in found]


async def rest_of(reader: Reader) -> list[dict[str, str]]:
    """All that comes until the stream ends by itself."""
    found: list[dict[str, str]] = []
    with trio.fail_after(15):
        while (block := await reader.block()) is not None:
            found += [block] if block else []
    return found


async def test_a_log_is_sent_from_its_first_line_and_ends_with_its_job(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        grant = await logged(rest, worker, ("a", "b"))
        job_id = grant.job.job_id
        async with following(rest, "", f"/stream/logs/{job_id}") as reader:
            first = await blocks(reader, 2)
            await worker.log(grant, lines("c"))
            assert texts(await blocks(reader, 1)) == ["c"]
            await worker.log(grant, lines("d"))
            await worker.complete(grant)
            *last, end = await rest_of(reader)
    assert texts(first + last) == ["a", "b", "d"]
    assert (end["event"], json.loads(end["data"])) == ("end", {"message": "the job is final"})
    position = json.loads(first[0]["data"])["position"]
    assert [block["id"] for block in first] == [f"{position}.0", f"{position}.1"]
    assert json.loads(first[1]["data"]) == {
        "jobId": job_id,
        "attempt": 1,
        "at": "2026-01-01T00:00:00.000Z",
        "level": "info",
        "text": "b",
        "correlationId": "c-1",
        "tenantId": "demo",
        "projectId": "",
        "position": position,
        "line": 1,
    }
    await until_readers(rest, 0)


async def test_a_log_resumes_behind_any_line_in_both_forms(rest: Rest) -> None:
    rows = (("a", "b", "c"), ("d",), ("e", "f"))
    async with working(rest.engine) as worker:
        grant = await logged(rest, worker, *rows)
        await worker.complete(grant)
    path = f"/stream/logs/{grant.job.job_id}"
    async with following(rest, "", path) as reader:
        *found, _ = await rest_of(reader)
    assert texts(found) == list("abcdef")
    for taken, block in enumerate(found, 1):
        async with following(rest, "?after=0.0", path, **{"Last-Event-ID": block["id"]}) as reader:
            *behind, _ = await rest_of(reader)
        assert behind == found[taken:]
        query = f"{path}?after={block['id']}"
        async with watching(rest.port, rest.headers(), query) as ws:
            assert await ws.hello() == block["id"]
            said = [await ws.next() for _ in found[taken:]]
            end, code, _ = await ws.end()
        assert all(isinstance(one, StreamLog) for one in said)
        assert [(one.id, one.text) for one in said] == [
            (one["id"], json.loads(one["data"])["text"]) for one in behind
        ]
        assert (end, code) == (StreamEnd(message="the job is final"), 1000)


async def test_a_log_of_many_rows_is_read_in_pages(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        grant = await logged(rest, worker, *((str(number),) for number in range(100)))
        async with following(rest, "?follow=false", f"/stream/logs/{grant.job.job_id}") as reader:
            *found, end = await rest_of(reader)
    assert texts(found) == [str(number) for number in range(100)]
    assert json.loads(end["data"]) == {"message": "all stored lines have been sent"}


async def test_large_rows_of_a_log_are_all_sent_and_listed(rest: Rest) -> None:
    large = ["x" * 16_000] * 20
    async with working(rest.engine) as worker:
        rows = [(f"row {number}", *large) for number in range(5)]
        grant = await logged(rest, worker, *rows)
        job_id = grant.job.job_id
        async with following(rest, "?follow=false", f"/stream/logs/{job_id}") as reader:
            *found, _ = await rest_of(reader)
        assert texts(found) == [text for row in rows for text in row]
        listed = (await rest.client.get(f"/jobs/{job_id}/logs?pageSize=500")).json()
    assert [line["text"] for line in listed["items"]] == texts(found)
    assert listed["nextPageToken"] is None


class SlowVoice:
    """Of a peer that takes what it is sent when it is told to."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.said = list[list[str]]()
        self.taken = trio.Event()
        self._nursery = nursery

    def say(self, *said: tuple[str, Any, str | None]) -> None:
        self.said.append([line for _, line, _ in said])
        self.taken = trio.Event()

    async def drained(self) -> None:
        await self.taken.wait()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(work)

    def end(self, ending: Ending) -> None:
        pass


async def test_a_row_is_put_out_when_the_one_before_has_left() -> None:
    asked = []

    async def read(position: int, rows_max: int) -> tuple[list[StoredRow], bool]:
        asked.append(position)
        rows = [StoredRow(at, [f"{at}"]) for at in range(1, 6) if at > position][:2]
        return rows, len(rows) == 2

    async with trio.open_nursery() as nursery:
        voice = SlowVoice(nursery)
        Lines("log", read, LineId(1, -1)).begin(voice)
        for count in range(1, 6):
            await wait_all_tasks_blocked()
            assert voice.said == [[f"{at}"] for at in range(1, count + 1)]
            voice.taken.set()
        await wait_all_tasks_blocked()
        assert asked == [0, 2, 4]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("end", ["cancel", "fail"])
async def test_a_log_ends_however_its_job_does(rest: Rest, end: str) -> None:
    async with working(rest.engine) as worker:
        await rest.submit(maxRetries=0)
        grant = await worker.take()
        async with following(rest, "", f"/stream/logs/{grant.job.job_id}") as reader:
            if end == "fail":
                await worker.fail(grant)
            else:
                waits = await rest.submit(hold=True)
                path = f"/stream/logs/{waits['jobId']}"
                async with following(rest, "", path) as other:
                    await rest.operate(f"/jobs/{waits['jobId']}:cancel")
                    assert [block["event"] for block in await rest_of(other)] == ["end"]
                await worker.complete(grant)
            assert [block["event"] for block in await rest_of(reader)] == ["end"]


async def test_a_job_that_is_tried_again_goes_on_in_the_same_log(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        await rest.submit(maxRetries=1, backoff={"kind": "fixed", "baseSeconds": 0.01})
        grant = await worker.take()
        async with following(rest, "", f"/stream/logs/{grant.job.job_id}") as reader:
            await worker.log(grant, lines("one"))
            await worker.fail(grant, retryable=True)
            again = await worker.take()
            await worker.log(again, lines("two"))
            await worker.complete(again)
            *found, _ = await rest_of(reader)
    assert [(json.loads(block["data"])["attempt"]) for block in found] == [1, 2]
    assert texts(found) == ["one", "two"]


async def test_a_jobs_stream_sends_lines_beside_events_and_skips_those_that_were_had(
    rest: Rest,
) -> None:
    async with working(rest.engine) as worker:
        grant = await logged(rest, worker, ("a",), ("b",))
        path = f"/stream/jobs/{grant.job.job_id}"
        async with following(rest, "?after=0", path) as reader:
            found = await blocks(reader, 2)
            await worker.log(grant, lines("c"))
            found += await blocks(reader, 1)
            await worker.complete(grant)
            await blocks(reader, 1, "job.completed")
        assert texts(found) == ["a", "b", "c"]
        assert not any("id" in block for block in found)
        position = json.loads(found[0]["data"])["position"]
        async with watching(rest.port, rest.headers(), f"{path}?logsAfter={position}") as ws:
            said = await ws.lines(2)
        assert [(one.text, one.id) for one in said] == [("b", None), ("c", None)]


async def test_a_runs_stream_sends_the_lines_of_its_jobs_and_of_no_others(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        other = await logged(rest, worker, ("theirs",))
        run_id = await begin(rest, job("a"), job("b"), correlationId="c-2", projectId="p")
        grants = await take(worker, "a", "b")
        async with following(rest, "", f"/stream/runs/{run_id}") as reader:
            for key in ("a", "b", "a"):
                await worker.log(other, lines("theirs"))
                await worker.log(grants[key], lines(key))
                (block,) = await blocks(reader, 1)
                said: dict[str, Any] = json.loads(block["data"])
                assert (said["text"], said["runId"]) == (key, run_id)
                assert said["jobId"] == grants[key].job.job_id
                assert (said["projectId"], said["correlationId"]) == ("p", "c-2")


async def test_without_logs_streams_send_events_alone(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, job("a"))
        grant = (await take(worker, "a"))["a"]
        await worker.log(grant, lines("stored"))
        await until_stored(rest, grant, 1)
        of_job, of_run = f"/stream/jobs/{grant.job.job_id}", f"/stream/runs/{run_id}"
        async with (
            following(rest, "?logs=false", of_job) as one,
            following(rest, "?logs=false", of_run) as other,
            following(rest, "", of_run) as whole,
        ):
            await worker.log(grant, lines("live"))
            assert texts(await blocks(whole, 2)) == ["stored", "live"]
            await worker.complete(grant)
            for reader in (one, other):
                names = []
                while "job.completed" not in names:
                    block = await reader.block()
                    assert block is not None
                    names.append(block.get("event"))
                assert "log" not in names


@pytest.mark.parametrize("cursor", ["1", "x", "-1.0", "1.x", "1.0.0", "", "1." + "9" * 30])
async def test_what_is_no_id_of_a_line_is_refused(rest: Rest, cursor: str) -> None:
    made = await rest.submit()
    answer = await rest.client.get(f"/stream/logs/{made['jobId']}", params={"after": cursor})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == [{"path": "after"}]


async def test_an_id_that_no_line_of_the_job_can_have_is_refused(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        grant = await logged(rest, worker, ("a", "b"))
        path = f"/stream/logs/{grant.job.job_id}"
        ((position, _),) = await rest.engine.store.logs("demo", grant.job.job_id, 0, 10)
        for cursor in (f"{position}.2", f"{position + 1}.0", f"{10**18 - 1}.0"):
            answer = await rest.client.get(path, headers={"Last-Event-ID": cursor})
            assert answer.status_code == 400
            assert answer.json()["error"]["details"] == [{"path": "Last-Event-ID"}]


async def test_what_a_log_stream_does_not_take_is_refused(rest: Rest) -> None:
    made = await rest.submit()
    for query, path in (("follow=perhaps", "follow"), ("logsAfter=1", "logsAfter")):
        answer = await rest.client.get(f"/stream/logs/{made['jobId']}?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["details"] == [{"path": path}]
