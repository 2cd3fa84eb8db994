"""`Client`: the REST interface from blocking code. `async_client` has the same for async code.

Both drive the same `operations`, each as a call of its own (`blocking`, `awaiting`), and follow the
same streams (`blocking_streams`, `awaiting_streams`); here stand lists, artifacts and waiting.
Every POST carries an Idempotency-Key, but for that of bytes, and is repeated on connection errors,
429 and 503.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self, overload

import httpx

from jobengine.sdk.artifacts import Download, Progress, Source, Upload
from jobengine.sdk.blocking_streams import BlockingStreams
from jobengine.sdk.exchange import named
from jobengine.sdk.feed import WITHOUT_LOGS, Feed, tells_state
from jobengine.sdk.job_operations import JobUnfinishedError, is_final
from jobengine.sdk.requests import busy_for_s, lower, passing
from jobengine.sdk.run_operations import run_is_final
from jobengine.sdk.runs import Run, RunHandle
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import DeadLetterView, JobView
from jobengine.wire.operating import RedriveView, WorkerView
from jobengine.wire.run_views import RunLedgerRecord, RunView

__all__ = ["Client"]


class Client(BlockingStreams):
    """Blocking client; safe to share between threads. Use as a context manager, or `close`.

    `url`, `token` and `tenant` default to JOBENGINE_URL, JOBENGINE_TOKEN and JOBENGINE_TENANT.
    `verify` is for https:// URLs: a CA file in PEM form or an SSL context; by default the file that
    JOBENGINE_CA_FILE names, else what the system trusts. Refusals raise ApiError, a server out of
    reach httpx.TransportError.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def list(self, **filters: Any) -> Iterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = self.jobs_page(**filters)
            yield from page.items
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    def run(self, run_token: str, **head: Any) -> Run:
        """A run to be written node by node; `head` is RunDraft's: `inputs`, `dag_id`, …

        `with client.run("nightly-7") as run: run.job("fetch", "osv.fetch")` submits it at the end.
        """
        return Run(self, run_token, **head)

    def run_handle(self, run_id: str) -> RunHandle:
        """A run that is there already; asks nothing."""
        return RunHandle(self, run_id)

    def runs(self, **filters: Any) -> Iterator[RunView]:
        """All runs that match (filters of `runs_page`), newest first, fetched page by page."""
        while True:
            page = self.runs_page(**filters)
            yield from page.items
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    def export_runs(
        self, started_from: str, started_before: str, *, page_size: int | None = None
    ) -> Iterator[RunLedgerRecord]:
        """The records of ended runs, by start and id, fetched page by page; instants are RFC
        3339."""
        token: str | None = None
        while True:
            page = self.run_records_page(
                started_from, started_before, page_size=page_size, page_token=token
            )
            yield from page.items
            if (token := page.next_page_token) is None:
                return

    def redrives(self) -> Iterator[RedriveView]:
        """All redrives, newest first, fetched page by page."""
        token: str | None = None
        while True:
            page = self.redrives_page(page_token=token)
            yield from page.items
            if (token := page.next_page_token) is None:
                return

    def workers(self) -> Iterator[WorkerView]:
        """All workers that are attached, by id, fetched page by page."""
        token: str | None = None
        while True:
            page = self.workers_page(page_token=token)
            yield from page.items
            if (token := page.next_page_token) is None:
                return

    def dead_letters(self, **filters: Any) -> Iterator[DeadLetterView]:
        """All dead letters that match (filters of `dead_letters_page`), fetched page by page."""
        while True:
            page = self.dead_letters_page(**filters)
            yield from page.items
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

    def upload_artifact(
        self, source: Source, *, mime: str | None = None, progress: Progress | None = None
    ) -> StoredArtifact:
        """Store bytes, a file named by its path, or what is left of an open one.

        `mime` is guessed from a path's suffix by default; `progress` gets bytes sent and bytes in
        all. Raises OSError for the source. The same bytes again are kept once.
        """
        with Upload(source, mime, progress) as upload:
            return self._drive(self._operations.upload_artifact(upload))

    @overload
    def download_artifact(
        self, digest: str, to: str | Path | BinaryIO, *, progress: Progress | None = None
    ) -> StoredArtifact: ...

    @overload
    def download_artifact(
        self, digest: str, to: None = None, *, progress: Progress | None = None
    ) -> bytes: ...

    def download_artifact(
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
                    with self._http.stream(**self._download_request(download)) as response:
                        if response.status_code >= 400:
                            response.read()
                            wait_s = busy_for_s(response) or wait_s or 0.0
                        else:
                            download.begin(response.status_code, lower(response.headers))
                            for piece in response.iter_raw():
                                download.take(piece)
                            stored = download.finish()
                            return download.data if to is None else stored
                except httpx.TransportError:
                    if wait_s is None:
                        raise
                time.sleep(wait_s)
            raise AssertionError("the last attempt returns or raises")

    def wait(self, job_id: str, timeout_s: float = 60.0) -> JobView:
        """The job once nothing more will happen to it by itself; raises JobUnfinishedError, a
        TimeoutError. An engine that goes away meanwhile is waited for; one that is not there at
        the beginning raises as `get` does."""
        until = time.monotonic() + timeout_s
        job = self.get(job_id)
        if is_final(job):
            return job
        for event in self._watch(f"/stream{named('jobs', job_id)}", WITHOUT_LOGS, Feed(), until):
            if tells_state(event):
                with passing():
                    job = self.get(job_id)
                if is_final(job):
                    return job
        raise JobUnfinishedError(job, timeout_s)

    def wait_run(self, run_id: str, timeout_s: float = 60.0) -> RunView:
        """The run once it has ended, however it did; raises TimeoutError. The engine is waited for
        as by `wait`."""
        until = time.monotonic() + timeout_s
        run = self.run_state(run_id)
        if run_is_final(run):
            return run
        for event in self._watch(f"/stream{named('runs', run_id)}", WITHOUT_LOGS, Feed(), until):
            if event is None or event.type.startswith("run."):
                with passing():
                    run = self.run_state(run_id)
                if run_is_final(run):
                    return run
        raise TimeoutError(f"run {run_id} is {run.state} after {timeout_s} s")
