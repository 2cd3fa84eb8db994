"""Where handlers run: one small interface, and threads for plain functions.

A runner takes batches of jobs (`start`, from the network thread), runs each handler and posts its
outcome. Batches cross with one wake-up each, and a handler that never waits costs no task.

Invariants
    I1  Every started job posts exactly one outcome, `Stopped` included, unless the loop that
        runs it was cancelled or has ended.
    I2  An exception of a handler ends its job only; KeyboardInterrupt and SystemExit in an async
        handler end the worker.
    I3  What a handler sets in its context variables no other handler sees.

Deliberately not here: how many jobs may run (the session grants slots), what outcomes mean, the
loops of async handlers (`trio_runner`, `asyncio_runner`).
"""

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Protocol

from jobengine.sdk.context import JobContext
from jobengine.sdk.session import Posted

__all__ = ["Post", "Runner", "ThreadRunner", "thread_stack"]

Post = Callable[[Posted], None]


class Runner(Protocol):
    """Runs handlers. Every method may be called from any thread."""

    def start(self, jobs: Sequence[JobContext]) -> None: ...

    def interrupt(self, job: JobContext) -> None:
        """The job has a `stop_reason` now: wake its handler, if it has begun and has not ended."""

    def close(self) -> None: ...

    def stack_of(self, job: JobContext) -> str:
        """Where the handler is, as text; empty when that cannot be seen."""
        ...


class ThreadRunner:
    """Plain functions in daemon threads, made when needed, at most `threads_max`."""

    def __init__(self, threads_max: int, post: Post) -> None:
        self._threads_max = threads_max
        self._post = post
        self._jobs: queue.SimpleQueue[JobContext | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._count = threading.Lock()

    def start(self, jobs: Sequence[JobContext]) -> None:
        with self._count:
            self._busy += len(jobs)
            missing = min(self._busy, self._threads_max) - len(self._threads)
        for job in jobs:
            self._jobs.put(job)
        for _ in range(missing):
            name = f"jobengine-handler-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def interrupt(self, job: JobContext) -> None:
        """A thread cannot be woken: its handler looks at `cancelled` or calls `check`."""

    def close(self) -> None:
        """Let idle threads end; busy ones end after their handler."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = Context().run(_run_plain, job)
            with self._count:
                self._busy -= 1
            self._post(outcome)

    def stack_of(self, job: JobContext) -> str:
        return thread_stack(job.where)


def _run_plain(job: JobContext) -> Posted:
    job.where = threading.get_ident()
    try:
        job.check()
        return job.outcome_of(job.handler(job))
    except BaseException as error:  # noqa: BLE001 - I1: whatever a handler raises is its outcome
        return job.outcome_of_error(error)


def thread_stack(thread_id: int | None) -> str:
    """Where a thread is, as text; empty when it has ended."""
    frame = sys._current_frames().get(thread_id or 0)  # noqa: SLF001 - the only way to see one
    return "" if frame is None else "".join(traceback.format_stack(frame))
