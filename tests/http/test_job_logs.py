"""Log lines of a job over the real doors: what is refused, cleaned, bounded, and how to read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
from trio_websocket import WebSocketConnection

from jobengine.settings import Settings
from tests.http.opened import Opened, hear, opened, say

AT = "2026-11-22T10:00:00.000Z"


@attrs.define
class Attempt:
    node: Opened
    worker: WebSocketConnection
    job_id: str
    lease: dict[str, Any]
    said: int = 0

    async def log(self, *lines: dict[str, Any]) -> dict[str, Any]:
        """How the worker is answered."""
        self.said += 1
        await say(self.worker, {"op": "log", "ref": self.said, "lines": list(lines), **self.lease})
        while True:
            frame = msgspec.json.decode(await self.worker.get_message())
            for message in frame if isinstance(frame, list) else [frame]:
                if message.get("ref") == self.said:
                    answer: dict[str, Any] = message
                    return answer

    async def read(self, query: str = "") -> dict[str, Any]:
        answer = await self.node.client.get(f"/jobs/{self.job_id}/logs{query}")
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def texts(self, query: str = "") -> list[str]:
        return [line["text"] for line in (await self.read(query))["items"]]


@asynccontextmanager
async def attempt(settings: Settings | None = None) -> AsyncIterator[Attempt]:
    async with opened(settings) as node, node.worker() as worker:
        await say(worker, {"op": "hello", "workerId": "w", "queues": ["q"], "capacity": 1})
        await hear(worker, "welcome")
        await say(worker, {"op": "credit", "slots": 1})
        await node.client.post("/jobs", json={"jobType": "scan", "queue": "q"})
        lease = await hear(worker, "lease")
        named = {"leaseId": lease["leaseId"], "token": lease["token"]}
        yield Attempt(node, worker, lease["jobId"], named)


def line(text: str, level: str = "info", at: str = AT) -> dict[str, Any]:
    return {"at": at, "level": level, "text": text}


@pytest.mark.parametrize(
    "bad",
    [
        [line("x", "fatal")],
        [line("x", "INFO")],
        [line("x", at="yesterday, about teatime")],
        [line("x", at="2026-11-22T10:00:00")],
        [line("x", at="2026-11-22T10:00:00.000Z\n")],
        [line("x" * 16_385)],
        [line("x")] * 1_001,
        [],
        [{"at": AT, "level": "info"}],
        [{**line("x"), "colour": "red"}],
    ],
    ids=["level", "case", "no-time", "no-zone", "newline", "long", "many", "none", "bare", "more"],
)
async def test_lines_that_are_none_are_refused_and_nothing_is_stored(
    bad: list[dict[str, Any]],
) -> None:
    async with attempt() as working:
        answer = await working.log(*bad)
        assert (answer["op"], answer["code"]) == ("error", "INVALID_FIELD")
        assert await working.texts() == []


async def test_odd_characters_cost_no_line_and_secrets_are_taken_out() -> None:
    async with attempt() as working:
        said = [
            "nul \0 here",
            "\x1b[31mred\x1b[0m",
            "tab\there",
            "Ω 🎉",
            "password=hunter2-x for db",
        ]
        assert (await working.log(*map(line, said)))["op"] == "ack"
        *texts, secret = await working.texts()
        assert texts == ["nul \ufffd here", *said[1:4]]
        assert "hunter2" not in secret
        assert "redacted:sha256:" in secret


async def test_an_attempt_that_logs_without_end_fills_no_disk_and_still_completes() -> None:
    async with attempt(Settings(job_log_bytes_max=4_096)) as working:
        for _ in range(30):
            assert (await working.log(line("x" * 500)))["op"] == "ack"
        texts = await working.texts()
        assert len(texts) == 8
        assert texts[-1].startswith("log truncated: 4096 bytes")
        await say(working.worker, {"op": "complete", "ref": "c", "result": None, **working.lease})
        await hear(working.worker, "ack")


async def test_lines_can_be_had_by_level_and_from_the_end() -> None:
    async with attempt() as working:
        levels = ["debug", "info", "warning", "error"]
        for number in range(10):
            lines = [line(f"{number}{level[0]}", level) for level in levels]
            await working.log(*lines)
        everything = [f"{number}{level[0]}" for number in range(10) for level in levels]
        assert await working.texts("?pageSize=500") == everything
        grave = [text for text in everything if text[1] in "we"]
        assert await working.texts("?level=warning") == grave
        assert await working.texts("?tail=5") == everything[-5:]
        assert await working.texts("?tail=3&level=error") == ["7e", "8e", "9e"]
        assert await working.texts("?tail=500") == everything
        assert (await working.read("?tail=5"))["nextPageToken"] is None


@pytest.mark.parametrize("size", [1, 3, 7, 20])
async def test_pages_of_a_level_neither_shift_nor_repeat_while_lines_are_added(size: int) -> None:
    async with attempt() as working:
        seen: list[str] = []
        query, said = f"?level=error&pageSize={size}", 0
        token = ""
        while True:
            if said < 40:
                level = "error" if said % 3 else "debug"
                await working.log(line(str(said), level), line(f"{said}+", "error"))
                said += 1
            page = await working.read(query + (f"&pageToken={token}" if token else ""))
            assert len(page["items"]) <= size
            seen += [one["text"] for one in page["items"]]
            if page["nextPageToken"] is None:
                break
            token = page["nextPageToken"]
        assert seen == sorted(set(seen), key=seen.index)
        assert seen == (await working.texts("?level=error&pageSize=500"))[: len(seen)]


@pytest.mark.parametrize("query", ["level=fatal", "tail=0", "tail=501", "tail=x", "since=1"])
async def test_what_no_log_can_be_asked_for_is_refused(query: str) -> None:
    async with attempt() as working:
        answer = await working.node.client.get(f"/jobs/{working.job_id}/logs?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["details"][0]["path"] == query.partition("=")[0]


async def test_the_end_of_a_log_has_no_pages() -> None:
    async with attempt() as working:
        await working.log(line("a"), line("b"))
        token = (await working.read("?pageSize=1"))["nextPageToken"]
        answer = await working.node.client.get(
            f"/jobs/{working.job_id}/logs?tail=1&pageToken={token}"
        )
        assert answer.status_code == 400
