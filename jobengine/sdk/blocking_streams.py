"""Live streams for blocking code. `awaiting_streams` has the same for async code.

A stream goes on across lost connections and restarts of the engine, behind the last event that came
(`feed`, I1). It ends by an error that coming back cannot mend, such as an expired token (`ApiError`
401), or when its iterator is closed.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import httpx

from jobengine.sdk.blocking import BlockingOperations
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

__all__ = ["BlockingStreams"]


class BlockingStreams(BlockingOperations):
    """Follows streams, each over a connection of its own."""

    def events(
        self,
        *,
        types: str | Iterable[str] = (),
        job_type: str | None = None,
        run_id: str | None = None,
        source_id: str | None = None,
        after: int | None = None,
    ) -> Iterator[Event]:
        """The tenant's events from behind the seq `after`, or from now; filters must all hold.

        `types` are names of events or `job.*`. Where `after` is past retention, an event of the
        type `gap` comes first (`Event.gap`). Does not end by itself.
        """
        query = events_query(types, job_type, run_id, source_id)
        return self._events("/stream/events", query, after)

    def job_events(self, job_id: str, *, after: int | None = None) -> Iterator[Event]:
        """The events of one job, as `events`; they go on after its end, for it may be retried. Its
        log lines are not among them (`job_logs`)."""
        return self._events(f"/stream{named('jobs', job_id)}", WITHOUT_LOGS, after)

    def run_events(self, run_id: str, *, after: int | None = None) -> Iterator[Event]:
        """The events of a run and of its jobs, as `events`. Its `first_signal` comes between them,
        without an id, at the beginning and whenever it has changed."""
        return self._events(f"/stream{named('runs', run_id)}", WITHOUT_LOGS, after)

    def watch_run(self, run_id: str) -> Iterator[Event | None]:
        """Events of a run from now on, resumed across connections and restarts of the engine.

        None says that the stream has opened, or was quiet for a while: what is read of the run
        after the first None lacks nothing that no event will tell. Does not end by itself.
        """
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
    ) -> Iterator[JobLogLine]:
        """The log lines of a job in the order reported; with `follow`, also those that come, until
        the job has ended. `after` is the `id` of a line that was followed, to go on behind. Of
        stored lines `level` gives those that are as grave at least, `tail` the last so many.
        """
        check_log_choice(follow, after, level, tail)
        if follow:
            return self._follow_logs(job_id, after)
        return self._stored_logs(
            partial(self.job_logs_page, job_id, level=level, tail=tail, page_size=500)
        )

    def _stored_logs(self, page_of: Callable[..., Page[JobLogLine]]) -> Iterator[JobLogLine]:
        page = page_of()
        while True:
            yield from page.items
            if page.next_page_token is None:
                return
            page = page_of(page_token=page.next_page_token)

    def _follow_logs(self, job_id: str, after: str | None) -> Iterator[JobLogLine]:
        for event in self._watch(f"/stream{named('logs', job_id)}", {}, Feed(after), float("inf")):
            if event is not None and event.type == "log":
                yield log_line(event)
            elif event is not None and is_last_line(event):
                return

    def _events(self, path: str, query: Mapping[str, str], after: int | None) -> Iterator[Event]:
        feed = Feed(None if after is None else str(after))
        for event in self._watch(path, query, feed, float("inf")):
            if event is not None and event.type != "end":
                yield event

    def _watch(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> Iterator[Event | None]:
        """Events of a stream, and None when it opened or was only kept awake."""
        while time.monotonic() < until:
            wait_s: float | None = None
            read_s = read_s_of(until)
            try:
                with self._open(path, query, feed, read_s) as (response, wait_s):
                    if response is not None:
                        yield None
                        for line in _lines(response):
                            if line.startswith(":"):
                                yield None
                            elif (event := feed.line(line)) is not None:
                                yield event
                            if is_overlong(read_s, until):
                                break
            except httpx.TransportError:
                pass
            pause_s = feed.wait_s(random.random()) if wait_s is None else wait_s
            time.sleep(max(0.0, min(pause_s, until - time.monotonic())))

    @contextmanager
    def _open(
        self, path: str, query: Mapping[str, str], feed: Feed, read_s: float
    ) -> Iterator[tuple[httpx.Response | None, float | None]]:
        request = self._stream_request(path, query, feed, read_s)
        with self._http.stream(**request) as response:
            if response.status_code < 400:
                yield response, None
            else:
                response.read()
                yield None, busy_for_s(response)


def _lines(response: httpx.Response) -> Iterator[str]:
    lines = Lines()
    for chunk in response.iter_bytes():
        yield from lines.take(chunk)
