"""Live streams for Trio and asyncio. `blocking_streams` has the same for blocking code, and says
what each call gives. Leave one early within `contextlib.aclosing`.
"""

import random
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import anyio
import httpx

from jobengine.sdk.awaiting import AwaitingOperations
from jobengine.sdk.exchange import named
from jobengine.sdk.feed import (
    WITHOUT_LOGS,
    Event,
    Feed,
    JobLogLine,
    Lines,
    check_log_choice,
    events_query,
    is_last_line,
    log_line,
)
from jobengine.sdk.requests import busy_for_s, is_overlong, read_s_of
from jobengine.wire.jobs import Page
from jobengine.wire.worker_messages import LogLevel

__all__ = ["AwaitingStreams"]


class AwaitingStreams(AwaitingOperations):
    """Follows streams, each over a connection of its own."""

    def events(
        self,
        *,
        types: str | Iterable[str] = (),
        job_type: str | None = None,
        run_id: str | None = None,
        source_id: str | None = None,
        after: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """`Client.events`."""
        query = events_query(types, job_type, run_id, source_id)
        return self._events("/stream/events", query, after)

    def job_events(self, job_id: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """`Client.job_events`."""
        return self._events(f"/stream{named('jobs', job_id)}", WITHOUT_LOGS, after)

    def run_events(self, run_id: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """`Client.run_events`."""
        return self._events(f"/stream{named('runs', run_id)}", WITHOUT_LOGS, after)

    def watch_run(self, run_id: str) -> AsyncGenerator[Event | None, None]:
        """`Client.watch_run`."""
        path = f"/stream{named('runs', run_id)}"
        return self._watch(path, WITHOUT_LOGS, Feed(), float("inf"))

    def job_logs(
        self,
        job_id: str,
        *,
        follow: bool = False,
        after: str | None = None,
        level: LogLevel | None = None,
        tail: int | None = None,
    ) -> AsyncGenerator[JobLogLine, None]:
        """`Client.job_logs`."""
        check_log_choice(follow, after, level, tail)
        if follow:
            return self._follow_logs(job_id, after)
        return self._stored_logs(
            partial(self.job_logs_page, job_id, level=level, tail=tail, page_size=500)
        )

    async def _stored_logs(
        self, page_of: Callable[..., Awaitable[Page[JobLogLine]]]
    ) -> AsyncGenerator[JobLogLine, None]:
        page = await page_of()
        while True:
            for line in page.items:
                yield line
            if page.next_page_token is None:
                return
            page = await page_of(page_token=page.next_page_token)

    async def _follow_logs(
        self, job_id: str, after: str | None
    ) -> AsyncGenerator[JobLogLine, None]:
        watch = self._watch(f"/stream{named('logs', job_id)}", {}, Feed(after), float("inf"))
        async with aclosing(watch) as stream:
            async for event in stream:
                if event is not None and event.type == "log":
                    yield log_line(event)
                elif event is not None and is_last_line(event):
                    return

    async def _events(
        self, path: str, query: Mapping[str, str], after: int | None
    ) -> AsyncGenerator[Event, None]:
        feed = Feed(None if after is None else str(after))
        async with aclosing(self._watch(path, query, feed, float("inf"))) as stream:
            async for event in stream:
                if event is not None and event.type != "end":
                    yield event

    async def _watch(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> AsyncGenerator[Event | None, None]:
        """Events of a stream, and None when it opened or was only kept awake."""
        while time.monotonic() < until:
            wait_s: float | None = None
            read_s = read_s_of(until)
            try:
                async with self._open(path, query, feed, read_s) as (response, wait_s):
                    if response is not None:
                        yield None
                        async with _chunks(response) as chunks:
                            lines = Lines()
                            async for chunk in chunks:
                                for line in lines.take(chunk):
                                    if line.startswith(":"):
                                        yield None
                                    elif (event := feed.line(line)) is not None:
                                        yield event
                                if is_overlong(read_s, until):
                                    break
            except httpx.TransportError:
                pass
            pause_s = feed.wait_s(random.random()) if wait_s is None else wait_s
            await anyio.sleep(max(0.0, min(pause_s, until - time.monotonic())))

    @asynccontextmanager
    async def _open(
        self, path: str, query: Mapping[str, str], feed: Feed, read_s: float
    ) -> AsyncIterator[tuple[httpx.Response | None, float | None]]:
        request = self._stream_request(path, query, feed, read_s)
        async with self._http.stream(**request) as response:
            if response.status_code < 400:
                yield response, None
            else:
                await response.aread()
                yield None, busy_for_s(response)


@asynccontextmanager
async def _chunks(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a stream that may be left before its end.

    httpx reads through generators within generators and closes none of them, which Trio warns of;
    so the connection is cut, and they run to their end.
    """
    chunks = response.aiter_bytes()
    try:
        yield chunks
    finally:
        with anyio.CancelScope(shield=True), suppress(httpx.TransportError):
            await response.extensions["network_stream"].aclose()
            async for _ in chunks:
                pass
