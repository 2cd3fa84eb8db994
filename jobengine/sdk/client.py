"""`Client` and `AsyncClient`: the REST interface from blocking and from async code.

Both are drivers of the same `operations`; the async one works on Trio and asyncio. Every POST
carries an Idempotency-Key and is repeated with it on connection errors, 429 and 503.
"""

import functools
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import anyio
import httpx

from jobengine.sdk.feed import Event, Feed
from jobengine.sdk.operations import (
    BASE,
    Answer,
    Call,
    Operation,
    Operations,
    Pause,
    Unreachable,
    error_of,
    is_final,
    retry_after_s,
)
from jobengine.sdk.trust import trusted
from jobengine.wire.jobs import DeadLetterView, JobView

P = ParamSpec("P")
T = TypeVar("T")
DEFAULT_URL: Final = "http://127.0.0.1:7070"
QUIET_S_MAX: Final = 40.0
"""The engine comments every 15 s; a stream silent for longer than this is dead."""


class _Common:
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        tenant: str | None = None,
        project: str | None = None,
        timeout_s: float = 30.0,
        retries_max: int = 5,
        verify: ssl.SSLContext | str | Path | None = None,
    ) -> None:
        self._url = (url or os.environ.get("JOBENGINE_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("JOBENGINE_TOKEN")
        tenant = tenant or os.environ.get("JOBENGINE_TENANT")
        headers = {
            "Authorization": f"Bearer {token}" if token else None,
            "X-Stella-Tenant": tenant,
            "X-Stella-Project": project,
        }
        given = {name: value for name, value in headers.items() if value is not None}
        self._timeout_s = timeout_s
        self._tls = verify if isinstance(verify, ssl.SSLContext) else trusted(verify)
        self._operations = Operations(given, retries_max)

    def _stream_request(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> dict[str, Any]:
        read_s = max(0.05, min(QUIET_S_MAX, until - time.monotonic()))
        return {
            "method": "GET",
            "url": self._url + BASE + path,
            "params": dict(query),
            "headers": {**self._operations.headers, **feed.resume_headers()},
            "timeout": httpx.Timeout(self._timeout_s, read=read_s),
        }


def _blocking(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(operation)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._drive(operation(self._operations, *args, **kwargs))

    return call


def _awaiting(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    @functools.wraps(operation)
    async def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._drive(operation(self._operations, *args, **kwargs))

    return call


class Client(_Common):
    """Blocking client; safe to share between threads. Use as a context manager, or `close`.

    `url`, `token` and `tenant` default to JOBENGINE_URL, JOBENGINE_TOKEN and JOBENGINE_TENANT.
    `verify` is for https:// URLs: a CA file in PEM form or an SSL context; by default the file that
    JOBENGINE_CA_FILE names, else what the system trusts. Refusals raise ApiError, a server out of
    reach httpx.TransportError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.Client(timeout=self._timeout_s, verify=self._tls or True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    submit = _blocking(Operations.submit)
    submit_many = _blocking(Operations.submit_many)
    get = _blocking(Operations.get)
    history = _blocking(Operations.history)
    jobs_page = _blocking(Operations.jobs_page)
    dead_letters_page = _blocking(Operations.dead_letters_page)
    cancel = _blocking(Operations.cancel)
    retry = _blocking(Operations.retry)
    replay = _blocking(Operations.replay)
    release = _blocking(Operations.release)
    dead_letter = _blocking(Operations.dead_letter)
    replay_dead_letter = _blocking(Operations.replay_dead_letter)
    retry_dead_letter = _blocking(Operations.retry_dead_letter)
    discard_dead_letter = _blocking(Operations.discard_dead_letter)

    def list(self, **filters: Any) -> Iterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = self.jobs_page(**filters)
            yield from page.items
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    def dead_letters(self) -> Iterator[DeadLetterView]:
        """All dead letters, fetched page by page."""
        token: str | None = None
        while True:
            page = self.dead_letters_page(page_token=token)
            yield from page.items
            if (token := page.next_page_token) is None:
                return

    def wait(self, job_id: str, timeout_s: float = 60.0) -> JobView:
        """The job once nothing more will happen to it by itself; raises TimeoutError."""
        until = time.monotonic() + timeout_s
        job = self.get(job_id)
        if is_final(job):
            return job
        for _ in self._watch(f"/stream/jobs/{job_id}", {}, Feed(), until):
            job = self.get(job_id)
            if is_final(job):
                return job
        raise TimeoutError(f"job {job_id} is {job.state} after {timeout_s} s")

    def events(self, *, after: int | None = None, **filters: str) -> Iterator[Event]:
        """The tenant's events from behind `after` (or from now), resumed across connections.

        Filters: types, jobType, runId, sourceId. Ends only by an error or by closing it.
        """
        feed = Feed(None if after is None else str(after))
        for event in self._watch("/stream/events", filters, feed, float("inf")):
            if event is not None:
                yield event

    def _watch(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> Iterator[Event | None]:
        """Events of a stream, and None when it opened or was only kept awake."""
        while time.monotonic() < until:
            wait_s: float | None = None
            try:
                with self._open(path, query, feed, until) as (response, wait_s):
                    if response is not None:
                        yield None
                        for line in response.iter_lines():
                            if line.startswith(":"):
                                yield None
                            elif (event := feed.line(line)) is not None:
                                yield event
            except httpx.TransportError:
                pass
            pause_s = feed.wait_s(random.random()) if wait_s is None else wait_s
            time.sleep(max(0.0, min(pause_s, until - time.monotonic())))

    @contextmanager
    def _open(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> Iterator[tuple[httpx.Response | None, float | None]]:
        request = self._stream_request(path, query, feed, until)
        with self._http.stream(**request) as response:
            if response.status_code < 400:
                yield response, None
            else:
                response.read()
                yield None, _busy_for_s(response)

    def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = operation.send(None)
                else:
                    step = operation.send(self._call(step))
        except StopIteration as end:
            result: T = end.value
            return result

    def _call(self, call: Call) -> Answer | Unreachable:
        try:
            response = self._http.request(**_request(self._url, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return Answer(response.status_code, _lower(response.headers), response.content)


class AsyncClient(_Common):
    """`Client` for Trio and asyncio. Cancelling a call leaves open whether the engine did it;
    repeat it with the same `idempotency_key` to find out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = httpx.AsyncClient(timeout=self._timeout_s, verify=self._tls or True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    submit = _awaiting(Operations.submit)
    submit_many = _awaiting(Operations.submit_many)
    get = _awaiting(Operations.get)
    history = _awaiting(Operations.history)
    jobs_page = _awaiting(Operations.jobs_page)
    dead_letters_page = _awaiting(Operations.dead_letters_page)
    cancel = _awaiting(Operations.cancel)
    retry = _awaiting(Operations.retry)
    replay = _awaiting(Operations.replay)
    release = _awaiting(Operations.release)
    dead_letter = _awaiting(Operations.dead_letter)
    replay_dead_letter = _awaiting(Operations.replay_dead_letter)
    retry_dead_letter = _awaiting(Operations.retry_dead_letter)
    discard_dead_letter = _awaiting(Operations.discard_dead_letter)

    async def list(self, **filters: Any) -> AsyncIterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = await self.jobs_page(**filters)
            for job in page.items:
                yield job
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    async def dead_letters(self) -> AsyncIterator[DeadLetterView]:
        """All dead letters, fetched page by page."""
        token: str | None = None
        while True:
            page = await self.dead_letters_page(page_token=token)
            for letter in page.items:
                yield letter
            if (token := page.next_page_token) is None:
                return

    async def wait(self, job_id: str, timeout_s: float = 60.0) -> JobView:
        """The job once nothing more will happen to it by itself; raises TimeoutError."""
        until = time.monotonic() + timeout_s
        job = await self.get(job_id)
        if is_final(job):
            return job
        async with aclosing(self._watch(f"/stream/jobs/{job_id}", {}, Feed(), until)) as stream:
            async for _ in stream:
                job = await self.get(job_id)
                if is_final(job):
                    return job
        raise TimeoutError(f"job {job_id} is {job.state} after {timeout_s} s")

    async def events(self, *, after: int | None = None, **filters: str) -> AsyncIterator[Event]:
        """The tenant's events from behind `after` (or from now), resumed across connections.

        Filters: types, jobType, runId, sourceId. Ends only by an error or by closing it; leave
        it early within `contextlib.aclosing`.
        """
        feed = Feed(None if after is None else str(after))
        watch = self._watch("/stream/events", filters, feed, float("inf"))
        async with aclosing(watch) as stream:
            async for event in stream:
                if event is not None:
                    yield event

    async def _watch(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> AsyncGenerator[Event | None, None]:
        """Events of a stream, and None when it opened or was only kept awake."""
        while time.monotonic() < until:
            wait_s: float | None = None
            try:
                async with self._open(path, query, feed, until) as (response, wait_s):
                    if response is not None:
                        yield None
                        async for line in response.aiter_lines():
                            if line.startswith(":"):
                                yield None
                            elif (event := feed.line(line)) is not None:
                                yield event
            except httpx.TransportError:
                pass
            pause_s = feed.wait_s(random.random()) if wait_s is None else wait_s
            await anyio.sleep(max(0.0, min(pause_s, until - time.monotonic())))

    @asynccontextmanager
    async def _open(
        self, path: str, query: Mapping[str, str], feed: Feed, until: float
    ) -> AsyncIterator[tuple[httpx.Response | None, float | None]]:
        request = self._stream_request(path, query, feed, until)
        async with self._http.stream(**request) as response:
            if response.status_code < 400:
                yield response, None
            else:
                await response.aread()
                yield None, _busy_for_s(response)

    async def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                    step = operation.send(None)
                else:
                    step = operation.send(await self._call(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, call: Call) -> Answer | Unreachable:
        try:
            response = await self._http.request(**_request(self._url, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return Answer(response.status_code, _lower(response.headers), response.content)


def _request(url: str, call: Call) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": url + call.path,
        "params": dict(call.query),
        "headers": dict(call.headers),
        "content": call.body,
    }


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _busy_for_s(response: httpx.Response) -> float | None:
    """How long a stream's 429 or 503 asks to wait; any other refusal is raised."""
    answer = Answer(response.status_code, _lower(response.headers), response.content)
    if answer.http_status not in (429, 503):
        raise error_of(answer)
    return retry_after_s(answer.headers, datetime.now(UTC))
