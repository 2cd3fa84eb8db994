"""`Client`: the REST interface from blocking code. `async_client` has the same for async code.

Both are drivers of the same `operations`. Every POST carries an Idempotency-Key, but for that of
bytes, and is repeated on connection errors, 429 and 503.
"""

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Concatenate, ParamSpec, Self, TypeVar, overload

import httpx

from jobengine.sdk.artifacts import Download, Progress, Source, Upload
from jobengine.sdk.exchange import Answer, Call, Operation, Pause, Unreachable
from jobengine.sdk.feed import Event, Feed
from jobengine.sdk.job_operations import is_final
from jobengine.sdk.operations import Operations
from jobengine.sdk.requests import Requests, busy_for_s, lower
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import DeadLetterView, JobView
from jobengine.wire.operating import RedriveView, WorkerView

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(operation)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._drive(operation(self._operations, *args, **kwargs))

    return call


class Client(Requests):
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
    artifact = _blocking(Operations.artifact)
    prioritize = _blocking(Operations.prioritize)
    dead_letter_stats = _blocking(Operations.dead_letter_stats)
    dead_letter_summary = _blocking(Operations.dead_letter_summary)
    redrive = _blocking(Operations.redrive)
    redrives_page = _blocking(Operations.redrives_page)
    redrive_state = _blocking(Operations.redrive_state)
    pause_redrive = _blocking(Operations.pause_redrive)
    resume_redrive = _blocking(Operations.resume_redrive)
    stop_redrive = _blocking(Operations.stop_redrive)
    workers_page = _blocking(Operations.workers_page)
    worker = _blocking(Operations.worker)
    drain_worker = _blocking(Operations.drain_worker)
    create_source = _blocking(Operations.create_source)
    sources_page = _blocking(Operations.sources_page)
    source = _blocking(Operations.source)
    update_source = _blocking(Operations.update_source)
    delete_source = _blocking(Operations.delete_source)
    pause_source = _blocking(Operations.pause_source)
    resume_source = _blocking(Operations.resume_source)
    throttle_source = _blocking(Operations.throttle_source)
    source_bucket = _blocking(Operations.source_bucket)
    set_source_bucket = _blocking(Operations.set_source_bucket)
    create_quota = _blocking(Operations.create_quota)
    quotas_page = _blocking(Operations.quotas_page)
    quota_summary_page = _blocking(Operations.quota_summary_page)
    quota = _blocking(Operations.quota)
    update_quota = _blocking(Operations.update_quota)
    delete_quota = _blocking(Operations.delete_quota)
    pause_quota = _blocking(Operations.pause_quota)
    resume_quota = _blocking(Operations.resume_quota)
    pauses_page = _blocking(Operations.pauses_page)
    pause_tenant = _blocking(Operations.pause_tenant)
    resume_tenant = _blocking(Operations.resume_tenant)
    pause_queue = _blocking(Operations.pause_queue)
    resume_queue = _blocking(Operations.resume_queue)
    explain = _blocking(Operations.explain)
    explain_queue = _blocking(Operations.explain_queue)

    def list(self, **filters: Any) -> Iterator[JobView]:
        """All jobs that match (filters of `jobs_page`), fetched page by page."""
        while True:
            page = self.jobs_page(**filters)
            yield from page.items
            if page.next_page_token is None:
                return
            filters["page_token"] = page.next_page_token

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

    def dead_letters(self) -> Iterator[DeadLetterView]:
        """All dead letters, fetched page by page."""
        token: str | None = None
        while True:
            page = self.dead_letters_page(page_token=token)
            yield from page.items
            if (token := page.next_page_token) is None:
                return

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

        A broken connection is taken up where it ended. Raises ArtifactDamaged when the bytes do not
        have the digest; a path is then as it was, while an open file has them.
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
                yield None, busy_for_s(response)

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
            response = self._http.send(self._request(self._http, call))
        except httpx.TransportError as error:
            return Unreachable(error)
        return Answer(response.status_code, lower(response.headers), response.content)
