"""The clients against a real HTTP server in a thread."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from jobengine.sdk import (
    ApiError,
    AsyncClient,
    Client,
    JobUnfinishedError,
    UnsendableError,
    job_request,
)
from jobengine.sdk.exchange import retry_after_s
from jobengine.sdk.feed import Feed

BASE = "/api/v1/jobengine"


def job(**changes: object) -> dict[str, Any]:
    return {
        "jobId": "j1", "tenantId": "acme", "jobType": "noop", "queue": "noop",
        "payloadDigest": "00", "priority": 5, "maxRetries": 3, "backoff": {}, "leaseSeconds": 30,
        "cost": 1, "labels": {}, "correlationId": "c", "networkIntent": "local", "attempt": 0,
        "failures": 0, "crashes": 0, "state": "scheduled",
        "createdAt": "2026-11-21T12:00:00.000Z", "addedInALaterVersion": True, **changes,
    }  # fmt: skip


class Door:
    """Answers scripted by path; what was asked is kept. `None` cuts the connection."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], Any] | None]] = {}
        self.streams: list[list[str]] = []
        self.refuse_streams: int | None = None
        self.drip_for_s = 0.0

    def on(self, path: str, *answers: tuple[int, dict[str, str], Any] | None) -> None:
        self.answers.setdefault(BASE + path, []).extend(answers)

    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for _, _, headers, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    door: Door
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PATCH(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.door.asked.append((self.command, self.path, headers, body))
        path = self.path.split("?")[0]
        if "/stream/" in path:
            return self.stream()
        answer = self.door.answers[path].pop(0)
        if answer is None:
            self.close_connection = True
            return None
        http_status, extra, value = answer
        payload = json.dumps(value).encode()
        self.send_response(http_status)
        for name, text in {"Content-Length": str(len(payload)), **extra}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(payload)
        return None

    def stream(self) -> None:
        if self.door.refuse_streams is not None:
            self.send_error(self.door.refuse_streams)
            return
        lines = self.door.streams.pop(0) if self.door.streams else []
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write("".join(f"{line}\n" for line in lines).encode())
        until = time.monotonic() + self.door.drip_for_s
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                self.wfile.write(b": still here\n")
                time.sleep(0.02)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def url(door: Door) -> Iterator[str]:
    handler = type("Bound", (Handler,), {"door": door})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, token="secret", tenant="acme") as client:
        yield client


def test_submit_sends_the_request_with_its_headers(door: Door, client: Client) -> None:
    door.on("/jobs", (201, {}, job()))
    created = client.submit("noop", {"n": 1}, priority=9, labels={"a": "b"})
    assert (created.job_id, created.state) == ("j1", "scheduled")
    [(method, path, headers, body)] = door.asked
    assert (method, path) == ("POST", BASE + "/jobs")
    assert headers["authorization"] == "Bearer secret"
    assert headers["x-stella-tenant"] == "acme"
    assert headers["idempotency-key"]
    expected = {"jobType": "noop", "payload": {"n": 1}, "priority": 9, "labels": {"a": "b"}}
    assert json.loads(body) == expected


def test_a_cut_connection_and_a_busy_engine_are_retried_with_the_same_key(
    door: Door, client: Client
) -> None:
    busy = (503, {"Retry-After": "0"}, {"error": {"code": "BUSY", "message": "later"}})
    door.on("/jobs", None, busy, (201, {}, job()))
    assert client.submit("noop").job_id == "j1"
    assert len(door.asked) == 3
    assert len(set(door.keys())) == 1


def test_a_refusal_is_raised_with_all_it_says(door: Door, client: Client) -> None:
    error = {
        "code": "ILLEGAL_TRANSITION",
        "message": "completed is final",
        "traceId": "t1",
        "details": [{"state": "completed"}],
    }
    door.on("/jobs/j1:cancel", (409, {}, {"error": error}))
    with pytest.raises(ApiError) as refused:
        client.cancel("j1", reason="mistake", ticket="OPS-1")
    assert (refused.value.code, refused.value.state) == ("ILLEGAL_TRANSITION", "completed")
    assert refused.value.trace_id == "t1"
    [(_, _, headers, _)] = door.asked
    assert headers["x-stella-operator-reason"] == "mistake"
    assert headers["x-stella-operator-ticket"] == "OPS-1"


def test_an_answer_that_is_no_envelope_is_still_an_api_error(door: Door, client: Client) -> None:
    door.on("/jobs/j1", (502, {}, "bad gateway"))
    with pytest.raises(ApiError, match="bad gateway"):
        client.get("j1")


def test_bulk_goes_in_chunks_and_answers_in_the_order_given(door: Door, client: Client) -> None:
    def part(count: int) -> tuple[int, dict[str, str], Any]:
        items = [{"index": n, "outcome": "created", "jobId": f"j{n}"} for n in range(count)]
        return 200, {}, {"items": items, "created": count, "existing": 0, "rejected": 0}

    door.on("/jobs:bulk", part(2), part(1))
    answer = client.submit_many((job_request("noop", {"n": n}) for n in range(3)), chunk=2)
    assert [item.index for item in answer.items] == [0, 1, 2]
    assert answer.created == 3
    first, second = door.asked
    assert first[2]["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["payload"]["n"] for line in first[3].splitlines()] == [0, 1]
    assert first[2]["idempotency-key"] != second[2]["idempotency-key"]


def test_lists_are_read_to_their_last_page(door: Door, client: Client) -> None:
    door.on(
        "/jobs",
        (200, {}, {"items": [job(jobId="a")], "nextPageToken": "t"}),
        (200, {}, {"items": [job(jobId="b")], "nextPageToken": None}),
    )
    assert [view.job_id for view in client.list(state="failed")] == ["a", "b"]
    assert "pageToken=t" in door.asked[1][1]
    assert "state=failed" in door.asked[1][1]


def test_history_starts_from_nothing(door: Door, client: Client) -> None:
    item = {
        "seq": 1, "from": None, "to": "pending", "at": "2026-11-21T12:00:00.000Z",
        "attempt": 0, "actor": "demo",
    }  # fmt: skip
    door.on("/jobs/j1/history", (200, {}, {"items": [item], "nextPageToken": None}))
    [first] = client.history("j1")
    assert (first.from_, first.to) == (None, "pending")


def test_wait_returns_once_the_job_is_final(door: Door, client: Client) -> None:
    door.on(
        "/jobs/j1",
        (200, {}, job()),
        (200, {}, job(state="scheduled", failures=1)),
        (200, {}, job(state="completed")),
    )
    door.streams = [["id: 1", "event: job.failed", "data: {}", ""]]
    assert client.wait("j1", timeout_s=10).state == "completed"


def test_wait_gives_up_after_its_time(door: Door, client: Client) -> None:
    door.on("/jobs/j1", *[(200, {}, job())] * 50)
    with pytest.raises(TimeoutError, match="scheduled"):
        client.wait("j1", timeout_s=0.1)


@pytest.mark.parametrize("runner", ["blocking", "trio", "asyncio"])
def test_wait_ends_in_time_though_the_stream_is_kept_awake(
    door: Door, url: str, runner: str
) -> None:
    door.on("/jobs/j1", *[(200, {}, job())] * 500)
    door.drip_for_s = 5.0
    began = time.monotonic()
    with pytest.raises(JobUnfinishedError, match="scheduled") as unfinished:
        _waited(url, runner, 0.1)
    assert unfinished.value.job.job_id == "j1"
    assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("runner", ["blocking", "trio", "asyncio"])
def test_wait_asks_for_the_job_where_its_state_may_be_another(
    door: Door, url: str, runner: str
) -> None:
    door.on("/jobs/j1", *[(200, {}, job())] * 3, (200, {}, job(state="completed")))
    kinds = ("job.progressed", "job.artifact_named", "job.failed", "job.progressed")
    door.streams = [[line for kind in kinds for line in (f"event: {kind}", "data: {}", "")]]
    assert _waited(url, runner, 10).state == "completed"
    read, followed = f"{BASE}/jobs/j1", f"{BASE}/stream/jobs/j1?logs=false"
    assert [path for _, path, _, _ in door.asked] == [read, followed, read, read, followed, read]


@pytest.mark.parametrize("runner", ["blocking", "trio", "asyncio"])
def test_wait_outlives_an_engine_that_goes_away(door: Door, url: str, runner: str) -> None:
    busy = (503, {"Retry-After": "0"}, {"error": {"code": "BUSY", "message": "later"}})
    door.on("/jobs/j1", (200, {}, job()), None, busy, (200, {}, job(state="completed")))
    door.streams = [["id: 1", "event: job.started", "data: {}", ""], []]
    assert _waited(url, runner, 10).state == "completed"
    door.on("/jobs/j1", (200, {}, job()), (404, {}, {"error": {"code": "GONE", "message": "no"}}))
    with pytest.raises(ApiError, match="GONE"):
        _waited(url, runner, 10)


def _waited(url: str, runner: str, timeout_s: float) -> Any:
    """What the client of a kind answers that does not try again by itself."""
    if runner == "blocking":
        with Client(url, retries_max=0) as client:
            return client.wait("j1", timeout_s)

    async def main() -> Any:
        async with AsyncClient(url, retries_max=0) as client:
            return await client.wait("j1", timeout_s)

    return anyio.run(main, backend=runner)


def test_what_is_said_for_people_travels_as_utf_8(door: Door, client: Client) -> None:
    door.on("/jobs/j1:cancel", (200, {}, job()))
    client.cancel("j1", reason="für\tB ", ticket="Ü-1")
    [(_, _, headers, _)] = door.asked
    assert headers["x-stella-operator-reason"].encode("latin-1").decode() == "für\tB"
    assert headers["x-stella-operator-ticket"].encode("latin-1").decode() == "Ü-1"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("reason", "two\nlines"),
        ("ticket", "bell\a"),
        ("reason", "\udcff"),
        ("token", "sec\nret"),
        ("token", "secrét"),
        ("tenant", "ü"),
        ("idempotency_key", "a b"),
    ],
)
def test_what_cannot_be_sent_is_named_and_not_quoted(
    door: Door, url: str, parameter: str, value: str
) -> None:
    who = {name: value for name in ("token", "tenant") if name == parameter}
    said = {"reason": "r", "ticket": "t", parameter: value}
    with Client(url, **who) as client:
        ask: Callable[[], Any] = partial(
            client.cancel, "j1", reason=said["reason"], ticket=said["ticket"]
        )
        if parameter == "idempotency_key":
            ask = partial(client.submit, "noop", idempotency_key=value)
        with pytest.raises(UnsendableError) as unsendable:
            ask()
    assert unsendable.value.parameter == parameter
    assert value not in str(unsendable.value)
    assert door.asked == []


def test_an_id_that_cannot_be_one_is_unknown(door: Door, client: Client) -> None:
    with pytest.raises(ApiError, match="no dead letter") as refused:
        client.discard_dead_letter("j1:4", reason="r", ticket="t")
    assert (refused.value.http_status, refused.value.code) == (404, "NOT_FOUND")
    with pytest.raises(ApiError, match="no job"):
        client.get("../runs/r1?x")
    assert door.asked == []


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(lost: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        job_request("noop", {"a": None, "b": [{"c": lost}]})
    kept = job_request("noop", {"a": None, "b": 1.5, "c": job_request("x", {"d": None})})
    assert b"null" in bytes(kept.payload)


def test_a_request_that_cannot_be_right_is_a_validation_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="concurrencyKey"):
        job_request("noop", concurrency_limit=3)


def test_events_resume_behind_the_last_one_seen(door: Door, client: Client) -> None:
    door.streams = [
        [": hello", "id: 7", "event: job.created", 'data: {"seq": 7}', "", "id: 8", "data: half"],
        ["id: 8", "event: job.scheduled", 'data: {"seq":', "data: 8}", ""],
    ]
    stream = client.events(after=6, types="job.created")
    events = [next(stream), next(stream)]
    stream.close()  # type: ignore[attr-defined]
    assert [(event.id, event.type, event.data["seq"]) for event in events] == [
        ("7", "job.created", 7),
        ("8", "job.scheduled", 8),
    ]
    assert [headers["last-event-id"] for _, _, headers, _ in door.asked] == ["6", "7"]


@pytest.mark.parametrize("runner", ["trio", "asyncio"])
def test_the_async_client_does_the_same_on_both_loops(door: Door, url: str, runner: str) -> None:
    door.on("/jobs", None, (201, {}, job()))
    door.on("/jobs/j1", (200, {}, job()), (200, {}, job(state="cancelled")))
    door.on("/deadletter", (200, {}, {"items": [], "nextPageToken": None}))

    async def main() -> None:
        async with AsyncClient(url, token="secret", tenant="acme") as client:
            assert (await client.submit("noop")).job_id == "j1"
            assert (await client.wait("j1", timeout_s=10)).state == "cancelled"
            assert [letter async for letter in client.dead_letters()] == []

    anyio.run(main, backend=runner)
    posts = [headers["idempotency-key"] for method, _, headers, _ in door.asked if method == "POST"]
    assert len(posts) == 2
    assert len(set(posts)) == 1


def test_what_operators_ask_travels_with_reason_ticket_and_key(door: Door, url: str) -> None:
    redrive = {
        "redriveId": "r1", "tenantId": "acme", "state": "running", "filter": {"queue": "q"},
        "perSecond": 5.0, "matched": 2, "done": 0, "failed": 0, "left": 2, "createdBy": "ops",
        "createdAt": "2026-11-21T12:00:00.000Z", "changedAt": "2026-11-21T12:00:00.000Z",
    }  # fmt: skip
    worker = {
        "workerId": "a/b", "taskRunnerId": "r", "queues": ["q"], "jobTypes": [], "capacity": 1,
        "leases": 0, "credit": 0, "draining": True, "sessions": 1,
        "connectedAt": "2026-11-21T12:00:00.000Z", "lastHeartbeatAt": "2026-11-21T12:00:00.000Z",
    }  # fmt: skip
    signed: dict[str, Any] = {"reason": "why", "ticket": "T-1"}
    door.on("/jobs/j1:prioritize", (200, {}, job(priority=9)))
    door.on("/deadletter:redrive", None, (201, {}, redrive))
    page = {"items": [redrive], "nextPageToken": "t"}
    door.on("/deadletter/redrives", (200, {}, page), (200, {}, {**page, "nextPageToken": None}))
    door.on("/workers/a%2Fb:drain", (200, {}, worker))
    with Client(url, token="secret", tenant="acme") as client:
        assert client.prioritize("j1", 9, **signed).priority == 9
        begun = client.redrive(queue="q", per_second=5.0, **signed)
        assert (begun.redrive_id, begun.filter.queue, begun.left) == ("r1", "q", 2)
        assert [one.redrive_id for one in client.redrives()] == ["r1", "r1"]
        assert client.drain_worker("a/b", within_s=60, **signed).draining
    posts = [(headers, body) for method, _, headers, body in door.asked if method == "POST"]
    assert all(headers["x-stella-operator-ticket"] == "T-1" for headers, _ in posts)
    first, cut, again, last = posts
    assert cut[0]["idempotency-key"] == again[0]["idempotency-key"]
    assert [json.loads(body) for _, body in (first, again, last)] == [
        {"priority": 9},
        {"filter": {"queue": "q"}, "perSecond": 5.0},
        {"withinSeconds": 60},
    ]


def test_retry_after_reads_seconds_and_dates() -> None:
    now = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s({"retry-after": "7"}, now) == 7.0
    assert retry_after_s({"retry-after": "Sat, 21 Nov 2026 12:00:05 GMT"}, now) == 5.0
    for nonsense in ("soon", "Mon, 01 Jan 99999999999 00:00:00 GMT"):
        assert retry_after_s({"retry-after": nonsense}, now) is None
    assert retry_after_s({}, now) is None


def test_a_half_read_event_is_forgotten_at_a_reconnect() -> None:
    feed = Feed()
    assert feed.line("id: 1") is None
    assert feed.line("data: 1") is None
    assert "Last-Event-ID" not in feed.resume_headers()
    assert feed.line("") is None


def test_a_server_out_of_reach_raises_after_the_retries() -> None:
    with Client("http://127.0.0.1:9", retries_max=0) as client, pytest.raises(httpx.ConnectError):
        client.get("j1")
