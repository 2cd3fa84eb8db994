"""`AsyncClient`: the REST interface from Trio and asyncio; see `client`."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Self, overload

import anyio
import httpx

from jobengine.sdk.artifacts import PIECE_BYTES, Download, Progress, Source, Upload
from jobengine.sdk.awaiting_streams import AwaitingStreams
from jobengine.sdk.exchange import named
from jobengine.sdk.feed import WITHOUT_LOGS, Feed, tells_state
from jobengine.sdk.job_operations import JobUnfinishedError, is_final
from jobengine.sdk.requests import busy_for_s, lower, passing
from jobengine.sdk.run_operations import run_is_final
from jobengine.sdk.runs import AsyncRun, AsyncRunHandle
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import DeadLetterView, JobView
from jobengine.wire.operating import RedriveView, WorkerView
from jobengine.wire.run_views import RunLedgerRecord, RunView

__all__ = ["AsyncClient"]


class AsyncClient(AwaitingStreams):
    """`Client` for Trio and asyncio. Cancelling a call leaves open whether the engine did it;
    repeat it with the same `idempotency_key` to find out.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    async def list(self, **filters: Any) -> AsyncIterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = await self.jobs_page(**filters)
            for job in page.items:
                yield job
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    def run(self, run_token: str, **head: Any) -> AsyncRun:
        """A run to be written node by node; `head` is RunDraft's: `inputs`, `dag_id`, …

        `async with client.run("nightly-7") as run: run.job("fetch", "osv.fetch")` submits it at
        the end.
        """
        return AsyncRun(self, run_token, **head)

    def run_handle(self, run_id: str) -> AsyncRunHandle:
        """A run that is there already; asks nothing."""
        return AsyncRunHandle(self, run_id)

    async def runs(self, **filters: Any) -> AsyncIterator[RunView]:
        """All runs that match (filters of `runs_page`), newest first, fetched page by page."""
        while True:
            page = await self.runs_page(**filters)
            for run in page.items:
                yield run
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    async def export_runs(
        self, started_from: str, started_before: str, *, page_size: int | None = None
    ) -> AsyncIterator[RunLedgerRecord]:
        """The records of ended runs, by start and id, fetched page by page; instants are RFC
        3339."""
        token: str | None = None
        while True:
            page = await self.run_records_page(
                started_from, started_before, page_size=page_size, page_token=token
            )
            for record in page.items:
                yield record
            if (token := page.next_page_token) is None:
                return

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

    async def dead_letters(self, **filters: Any) -> AsyncIterator[DeadLetterView]:
        """All dead letters that match (filters of `dead_letters_page`), fetched page by page."""
        while True:
            page = await self.dead_letters_page(**filters)
            for letter in page.items:
                yield letter
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

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

        A broken connection is taken up where it ended. Raises ArtifactDamagedError when the bytes
        do not have the digest; a path is then as it was, while an open file has them.
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
        """`Client.wait`."""
        until = time.monotonic() + timeout_s
        job = await self.get(job_id)
        if is_final(job):
            return job
        path = f"/stream{named('jobs', job_id)}"
        async with aclosing(self._watch(path, WITHOUT_LOGS, Feed(), until)) as stream:
            async for event in stream:
                if tells_state(event):
                    with passing():
                        job = await self.get(job_id)
                    if is_final(job):
                        return job
        raise JobUnfinishedError(job, timeout_s)

    async def wait_run(self, run_id: str, timeout_s: float = 60.0) -> RunView:
        """`Client.wait_run`."""
        until = time.monotonic() + timeout_s
        run = await self.run_state(run_id)
        if run_is_final(run):
            return run
        path = f"/stream{named('runs', run_id)}"
        async with aclosing(self._watch(path, WITHOUT_LOGS, Feed(), until)) as stream:
            async for event in stream:
                if event is None or event.type.startswith("run."):
                    with passing():
                        run = await self.run_state(run_id)
                    if run_is_final(run):
                        return run
        raise TimeoutError(f"run {run_id} is {run.state} after {timeout_s} s")
