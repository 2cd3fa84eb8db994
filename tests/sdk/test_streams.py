"""Streams as a client follows them, against a real HTTP server in a thread."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio
import pytest

from jobengine.sdk import ApiError, AsyncClient, Client, JobLogLine
from jobengine.sdk.feed import Lines
from tests.sdk.test_client import BASE, Door, client, door, url

__all__ = ["client", "door", "url"]

T = TypeVar("T")
LINES = [
    ["id: 4.0", "event: log", 'data: {"jobId":"j1","attempt":1,"at":"t","level":"info","text":"a"}',
     "", "id: 4.1", "event: log"],
    ["id: 4.1", "event: log", 'data: {"jobId":"j1","attempt":1,"at":"t","level":"info","text":"b"}',
     "", "event: end", 'data: {"message":"the job has ended"}', ""],
]  # fmt: skip


def event(seq: int, kind: str = "job.created") -> list[str]:
    return [f"id: {seq}", f"event: {kind}", f'data: {{"seq": {seq}}}', ""]


async def take(stream: AsyncGenerator[T, None], count: int) -> list[T]:
    found: list[T] = []
    async with aclosing(stream) as items:
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


def on(runner: str, url: str, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncClient(url, token="secret", tenant="acme") as client:
            return await ask(client)

    return anyio.run(main, backend=runner)


def test_filters_are_sent_by_their_names_on_the_wire(door: Door, client: Client) -> None:
    door.streams = [event(7)]
    stream = client.events(
        types=["job.*", "run.failed"], job_type="scan", run_id="r", source_id="s", after=3
    )
    assert next(stream).data == {"seq": 7}
    [(_, path, headers, _)] = door.asked
    assert path == (
        f"{BASE}/stream/events?types=job.%2A%2Crun.failed&jobType=scan&runId=r&sourceId=s"
    )
    assert headers["last-event-id"] == "3"


def test_a_gap_is_an_event_that_says_what_is_gone_and_is_gone_on_behind(
    door: Door, client: Client
) -> None:
    gap = ["id: 9", "event: gap", 'data: {"from": 4, "to": 9}', ""]
    door.streams = [gap, event(10)]
    stream = client.job_events("j1", after=3)
    first, second = next(stream), next(stream)
    assert (first.gap, second.gap) == ((4, 9), None)
    assert second.id == "10"
    assert [headers["last-event-id"] for _, _, headers, _ in door.asked] == ["3", "9"]


def test_an_id_without_an_event_is_where_a_lost_connection_is_taken_up(
    door: Door, client: Client
) -> None:
    door.streams = [[": following", "id: 41", ""], event(42)]
    assert next(client.events()).id == "42"
    first, second = (headers for _, _, headers, _ in door.asked)
    assert "last-event-id" not in first
    assert second["last-event-id"] == "41"


def test_a_log_is_followed_across_connections_until_the_job_has_ended(
    door: Door, client: Client
) -> None:
    door.streams = [list(lines) for lines in LINES]
    lines = list(client.job_logs("j1", follow=True))
    assert [(line.id, line.text) for line in lines] == [("4.0", "a"), ("4.1", "b")]
    assert [headers.get("last-event-id") for _, _, headers, _ in door.asked] == [None, "4.0"]


def test_a_log_that_ends_with_its_token_has_not_ended(door: Door, client: Client) -> None:
    expired = ["event: end", 'data: {"code":"TOKEN_INVALID","message":"expired"}', ""]
    door.streams = [LINES[0][:4] + expired, LINES[1]]
    assert [line.text for line in client.job_logs("j1", follow=True)] == ["a", "b"]


def test_stored_lines_come_page_by_page(door: Door, client: Client) -> None:
    line = {"attempt": 1, "at": "t", "level": "info", "text": "a"}
    door.on(
        "/jobs/j1/logs",
        (200, {}, {"items": [line], "nextPageToken": "n"}),
        (200, {}, {"items": [{**line, "text": "b"}], "nextPageToken": None}),
    )
    found = list(client.job_logs("j1"))
    assert found[0] == JobLogLine(job_id="j1", attempt=1, at="t", level="info", text="a")
    assert found[1].text == "b"
    assert "pageToken=n" in door.asked[1][1]


def test_the_events_of_a_job_and_of_a_run_are_asked_for_without_log_lines(
    door: Door, client: Client
) -> None:
    door.streams = [event(1), event(2), event(3)]
    for stream in (client.job_events("j1"), client.run_events("r1"), client.watch_run("r1")):
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    paths = [path for _, path, _, _ in door.asked]
    assert paths == [f"{BASE}/stream/{of}?logs=false" for of in ("jobs/j1", "runs/r1", "runs/r1")]


@pytest.mark.parametrize("runner", ["trio", "asyncio"])
def test_the_async_client_follows_alike(door: Door, url: str, runner: str) -> None:
    door.streams = [event(1), event(2, "run.started")]

    async def events(client: AsyncClient) -> list[str | None]:
        return [one.id for one in await take(client.run_events("r1", after=0), 2)]

    assert on(runner, url, events) == ["1", "2"]
    assert {path for _, path, _, _ in door.asked} == {f"{BASE}/stream/runs/r1?logs=false"}
    door.streams = [list(lines) for lines in LINES]

    async def logs(client: AsyncClient) -> list[str]:
        return [line.text async for line in client.job_logs("j1", follow=True)]

    assert on(runner, url, logs) == ["a", "b"]


def test_what_coming_back_cannot_mend_is_raised(door: Door, client: Client) -> None:
    door.refuse_streams = 404
    with pytest.raises(ApiError) as raised:
        next(client.job_events("nobody"))
    assert raised.value.http_status == 404


def test_only_a_line_feed_ends_a_line() -> None:
    lines = Lines()
    text = "data: one\u2028two\x85three\x0bfour"
    assert lines.take(text.encode()[:12]) == []
    assert lines.take(text.encode()[12:] + b"\r\nid: 1\n: he") == [text, "id: 1"]
    assert lines.take(b"re\n") == [": here"]
