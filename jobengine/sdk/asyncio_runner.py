"""Async handlers in an asyncio loop, a task each.

Deliberately not here: see `runners`, whose invariants hold here as well.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Any

from jobengine.sdk.commands import Stopped
from jobengine.sdk.context import JobContext
from jobengine.sdk.runners import Post, thread_stack
from jobengine.sdk.session import Posted

__all__ = ["AsyncioRunner"]


class AsyncioRunner:
    """Async handlers as tasks of the asyncio loop that runs `serve`."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._closing: asyncio.Event
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False

    def attach(self) -> None:
        """Use the running loop of this thread."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._closing = asyncio.Event()

    async def serve(self) -> None:
        """Stay until `close`, then cancel what still runs and wait for it."""
        await self._closing.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """End `serve`; from any thread."""
        if self._loop is not None:
            _call_soon(self._loop, self._closing.set)

    def start(self, jobs: Sequence[JobContext]) -> None:
        assert self._loop is not None
        _call_soon(self._loop, self._spawn, jobs)

    def _spawn(self, jobs: Sequence[JobContext]) -> None:
        assert self._loop is not None
        if self._is_over:
            return
        for job in jobs:
            task = self._loop.create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, job: JobContext) -> None:
        job.where = asyncio.current_task()
        outcome: Posted
        try:
            job.check()
            outcome = job.outcome_of(await job.handler(job))
        except asyncio.CancelledError as error:
            if self._is_over:
                raise
            stopped = job.stop_reason is not None
            outcome = Stopped(job.lease.lease_id) if stopped else job.outcome_of_error(error)
        except Exception as error:  # noqa: BLE001 - I2 of `runners`
            outcome = job.outcome_of_error(error)
        except BaseException:
            # It leaves the loop, which then cancels the other handlers.
            self._is_over = True
            raise
        self._post(outcome)

    def interrupt(self, job: JobContext) -> None:
        assert self._loop is not None
        _call_soon(self._loop, _cancel, job)

    def stack_of(self, job: JobContext) -> str:
        task = job.where
        if task is None:
            return ""
        coroutine = task.get_coro()
        if getattr(coroutine, "cr_running", False):
            return thread_stack(self._thread_id)
        return "".join(
            f'  File "{f.f_code.co_filename}", line {f.f_lineno}, in {f.f_code.co_name}\n'
            for f in _awaiting(coroutine)
        )


def _cancel(job: JobContext) -> None:
    """In the loop's thread: a handler that has not begun looks for its reason when it does."""
    if job.where is not None:
        job.where.cancel()


def _call_soon(
    loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object
) -> None:
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _awaiting(coroutine: Awaitable[Any] | None) -> list[FrameType]:
    frames = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            break
        frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    return frames
