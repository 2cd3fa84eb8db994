"""`AsyncClient`: the REST interface from Trio and asyncio; see `client`."""

import functools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Concatenate, ParamSpec, Self, TypeVar, overload

import anyio
import httpx

from jobengine.sdk.artifacts import PIECE_BYTES, Download, Progress, Source, Upload
from jobengine.sdk.exchange import Answer, Call, Operation, Pause, Unreachable
from jobengine.sdk.feed import Event, Feed
from jobengine.sdk.job_operations import is_final
from jobengine.sdk.operations import Operations
from jobengine.sdk.requests import Requests, busy_for_s, lower
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import DeadLetterView, JobView
from jobengine.wire.operating import RedriveView, WorkerView

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaiting(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    @functools.wraps(operation)
    async def call(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._drive(operation(self._operations, *args, **kwargs))

    return call


class AsyncClient(Requests):
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
    artifact = _awaiting(Operations.artifact)
    prioritize = _awaiting(Operations.prioritize)
    dead_letter_stats = _awaiting(Operations.dead_letter_stats)
    dead_letter_summary = _awaiting(Operations.dead_letter_summary)
    redrive = _awaiting(Operations.redrive)
    redrives_page = _awaiting(Operations.redrives_page)
    redrive_state = _awaiting(Operations.redrive_state)
    pause_redrive = _awaiting(Operations.pause_redrive)
    resume_redrive = _awaiting(Operations.resume_redrive)
    stop_redrive = _awaiting(Operations.stop_redrive)
    workers_page = _awaiting(Operations.workers_page)
    worker = _awaiting(Operations.worker)
    drain_worker = _awaiting(Operations.drain_worker)
    create_source = _awaiting(Operations.create_source)
    sources_page = _awaiting(Operations.sources_page)
    source = _awaiting(Operations.source)
    update_source = _awaiting(Operations.update_source)
    delete_source = _awaiting(Operations.delete_source)
    pause_source = _awaiting(Operations.pause_source)
    resume_source = _awaiting(Operations.resume_source)
    throttle_source = _awaiting(Operations.throttle_source)
    source_bucket = _awaiting(Operations.source_bucket)
    set_source_bucket = _awaiting(Operations.set_source_bucket)
    create_quota = _awaiting(Operations.create_quota)
    quotas_page = _awaiting(Operations.quotas_page)
    quota_summary_page = _awaiting(Operations.quota_summary_page)
    quota = _awaiting(Operations.quota)
    update_quota = _awaiting(Operations.update_quota)
    delete_quota = _awaiting(Operations.delete_quota)
    pause_quota = _awaiting(Operations.pause_quota)
    resume_quota = _awaiting(Operations.resume_quota)
    pauses_page = _awaiting(Operations.pauses_page)
    pause_tenant = _awaiting(Operations.pause_tenant)
    resume_tenant = _awaiting(Operations.resume_tenant)
    pause_queue = _awaiting(Operations.pause_queue)
    resume_queue = _awaiting(Operations.resume_queue)
    explain = _awaiting(Operations.explain)
    explain_queue = _awaiting(Operations.explain_queue)

    async def list(self, **filters: Any) -> AsyncIterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = await self.jobs_page(**filters)
            for job in page.items:
                yield job
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    async def redrives(self) -> AsyncIterator[RedriveView]:
        """All redrives, newest first, fetched page by page."""
        token: str | None = None
        while True:
            page = await self.redrives_page(page_token=token)
            for redrive in page.items:
                yield redrive
            if (token := page.next_page_token) is None:
                return

    async def workers(self) -> AsyncIterator[WorkerView]:
        """All workers that are attached, by id, fetched page by page."""
        token: str | None = None
        while True:
            page = await self.workers_page(page_token=token)
            for worker in page.items:
                yield worker
            if (token := page.next_page_token) is None:
                return

    async def dead_letters(self) -> AsyncIterator[DeadLetterView]:
        """All dead letters, fetched page by page."""
        token: str | None = None
        while True:
            page = await self.dead_letters_page(page_token=token)
            for letter in page.items:
                yield letter
            if (token := page.next_page_token) is None:
                return

    async def upload_artifact(
        self, source: Source, *, mime: str | None = None, progress: Progress | None = None
    ) -> StoredArtifact:
        """Store bytes, a file named by its path, or what is left of an open one.

        `mime` is guessed from a path's suffix by default; `progress` gets bytes sent and bytes in
        all. Raises OSError for the source. The same bytes again are kept once.
        """
        with await anyio.to_thread.run_sync(Upload, source, mime, progress) as upload:
            return await self._drive(self._operations.upload_artifact(upload))

    @overload
    async def download_artifact(
        self, digest: str, to: str | Path | BinaryIO, *, progress: Progress | None = None
    ) -> StoredArtifact: ...

    @overload
    async def download_artifact(
        self, digest: str, to: None = None, *, progress: Progress | None = None
    ) -> bytes: ...

    async def download_artifact(
        self,
        digest: str,
        to: str | Path | BinaryIO | None = None,
        *,
        progress: Progress | None = None,
    ) -> StoredArtifact | bytes:
        """Fetch an artifact into a file, in pieces; without `to`, into memory.

        A broken connection is taken up where it ended. Raises ArtifactDamaged when the bytes do not
        have the digest; a path is then as it was, while an open file has them.
        """
        with Download(digest, to, progress) as download:
            for wait_s in self._operations.waits():
                try:
                    async with self._http.stream(**self._download_request(download)) as response:
                        if response.status_code >= 400:
                            await response.aread()
                            wait_s = busy_for_s(response) or wait_s or 0.0
                        else:
                            download.begin(response.status_code, lower(response.headers))
                            async for piece in response.aiter_raw(PIECE_BYTES):
                                await anyio.to_thread.run_sync(download.take, piece)
                            stored = await anyio.to_thread.run_sync(download.finish)
                            return download.data if to is None else stored
                except httpx.TransportError:
                    if wait_s is None:
                        raise
                await anyio.sleep(wait_s)
            raise AssertionError("the last attempt returns or raises")

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
                        async with _lines(response) as lines:
                            async for line in lines:
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
                yield None, busy_for_s(response)

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
            response = await self._http.send(self._request(self._http, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return Answer(response.status_code, lower(response.headers), response.content)


@asynccontextmanager
async def _lines(response: httpx.Response) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream that may be left before its end.

    httpx reads through generators within generators and closes none of them, which Trio warns of;
    so the connection is cut, and they run to their end.
    """
    lines = response.aiter_lines()
    try:
        yield lines
    finally:
        with anyio.CancelScope(shield=True), suppress(httpx.TransportError):
            await response.extensions["network_stream"].aclose()
            async for _ in lines:
                pass
