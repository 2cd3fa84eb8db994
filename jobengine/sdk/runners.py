"""Where handlers run: threads, a Trio loop, an asyncio loop. One small interface for all three.

A runner takes batches of jobs (`start`, from the network thread), runs each handler and posts its
outcome. Batches cross with one wake-up each, and a handler that never waits costs no task.

Invariants
    I1  Every started job posts exactly one outcome, `Stopped` included, unless the loop that
        runs it was cancelled.
    I2  An exception of a handler ends its job only; KeyboardInterrupt and SystemExit in an async
        handler end the worker.

Deliberately not here: how many jobs may run (the session grants slots) and what outcomes mean.
"""

import asyncio
import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Any, Final, NamedTuple, Protocol

import trio

from jobengine.sdk.commands import Stopped
from jobengine.sdk.context import JobContext
from jobengine.sdk.session import Posted

Post = Callable[[Posted], None]
BURST_MAX: Final = 64


class Job(NamedTuple):
    """One attempt and the handler that runs it."""

    context: JobContext
    handler: Callable[[JobContext], Any]


class Runner(Protocol):
    """Runs handlers. Every method may be called from any thread."""

    def start(self, jobs: Sequence[Job]) -> None: ...

    def close(self) -> None: ...

    def stack_of(self, context: JobContext) -> str:
        """Where the handler is, as text; empty when that cannot be seen."""
        ...


class ThreadRunner:
    """Plain functions in daemon threads, made when needed, at most `threads_max`."""

    def __init__(self, threads_max: int, post: Post) -> None:
        self._threads_max = threads_max
        self._post = post
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._count = threading.Lock()

    def start(self, jobs: Sequence[Job]) -> None:
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

    def close(self) -> None:
        """Let idle threads end; busy ones end after their handler."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = _run_plain(job)
            with self._count:
                self._busy -= 1
            self._post(outcome)

    def stack_of(self, context: JobContext) -> str:
        return _thread_stack(context.where)


def _run_plain(job: Job) -> Posted:
    context, handler = job
    context.where = threading.get_ident()
    try:
        context.check()
        return context.outcome_of(handler(context))
    except BaseException as error:  # noqa: BLE001 - I1: whatever a handler raises is its outcome
        return context.outcome_of_error(error)


class TrioRunner:
    """Async handlers in the Trio loop that runs `serve`.

    Long-lived tasks take jobs from one deque. A task that takes a job and leaves others behind
    wakes one more task, so handlers that wait run side by side, and a burst of handlers that
    never wait is run by one task without a switch.
    """

    def __init__(self, tasks_max: int, post: Post) -> None:
        self._tasks_max = tasks_max
        self._post = post
        self._jobs: deque[Job] = deque()
        self._idle: deque[trio.lowlevel.Task] = deque()
        self._tasks = 0
        self._waking = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread_id = 0
        self._nursery: trio.Nursery | None = None

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run handlers until cancelled; handlers still running are cancelled with it."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread_id = threading.get_ident()
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def start(self, jobs: Sequence[Job]) -> None:
        assert self._token is not None
        self._jobs.extend(jobs)
        self._token.run_sync_soon(self._wake, idempotent=True)

    def close(self) -> None:
        """End `serve`; from any thread."""
        nursery = self._nursery
        if self._token is not None and nursery is not None:
            self._token.run_sync_soon(nursery.cancel_scope.cancel)

    def _wake(self) -> None:
        if self._waking or not self._jobs or self._nursery is None:
            return
        if self._idle:
            self._waking = True
            trio.lowlevel.reschedule(self._idle.popleft())
        elif self._tasks < self._tasks_max:
            self._waking = True
            self._tasks += 1
            self._nursery.start_soon(self._work, name="jobengine handler")

    async def _work(self) -> None:
        task = trio.lowlevel.current_task()
        done = 0

        def leave(_: Any) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            self._waking = False
            while self._jobs:
                job = self._jobs.popleft()
                if self._jobs:
                    self._wake()
                await self._run(job, task)
                done += 1
                if done % BURST_MAX == 0:
                    await trio.lowlevel.checkpoint()
            self._idle.append(task)
            await trio.lowlevel.wait_task_rescheduled(leave)

    async def _run(self, job: Job, task: trio.lowlevel.Task) -> None:
        context, handler = job
        outcome: Posted
        try:
            with trio.CancelScope() as scope:
                context.where = task
                context.interrupt = lambda: self._interrupt(scope)
                context.check()
                result = await handler(context)
            if scope.cancelled_caught:
                outcome = Stopped(context.lease.lease_id)
            else:
                outcome = context.outcome_of(result)
        except Exception as error:  # noqa: BLE001 - I2
            outcome = context.outcome_of_error(error)
        self._post(outcome)

    def _interrupt(self, scope: trio.CancelScope) -> None:
        assert self._token is not None
        self._token.run_sync_soon(scope.cancel)

    def stack_of(self, context: JobContext) -> str:
        task = context.where
        if task is None:
            return ""
        if getattr(task.coro, "cr_running", False):
            return _thread_stack(self._thread_id)
        frames = [f'  File "{f.f_code.co_filename}", line {n}, in {f.f_code.co_name}\n'
                  for f, n in task.iter_await_frames()]  # fmt: skip
        return "".join(frames)


class AsyncioRunner:
    """Async handlers as tasks of the asyncio loop that runs `serve`."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._closing: asyncio.Event
        self._tasks: set[asyncio.Task[None]] = set()

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

    def start(self, jobs: Sequence[Job]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._spawn, jobs)

    def _spawn(self, jobs: Sequence[Job]) -> None:
        assert self._loop is not None
        for job in jobs:
            task = self._loop.create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, job: Job) -> None:
        context, handler = job
        task = asyncio.current_task()
        assert task is not None
        assert self._loop is not None
        loop = self._loop
        context.where = task
        context.interrupt = lambda: _call_soon(loop, task.cancel)
        outcome: Posted
        try:
            context.check()
            outcome = context.outcome_of(await handler(context))
        except asyncio.CancelledError as error:
            stopped = context.stop_reason is not None
            lease_id = context.lease.lease_id
            outcome = Stopped(lease_id) if stopped else context.outcome_of_error(error)
        except Exception as error:  # noqa: BLE001 - I2
            outcome = context.outcome_of_error(error)
        self._post(outcome)

    def stack_of(self, context: JobContext) -> str:
        task = context.where
        if task is None:
            return ""
        coroutine = task.get_coro()
        if getattr(coroutine, "cr_running", False):
            return _thread_stack(self._thread_id)
        return "".join(
            f'  File "{f.f_code.co_filename}", line {f.f_lineno}, in {f.f_code.co_name}\n'
            for f in _awaiting(coroutine)
        )


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


def _awaiting(coroutine: Awaitable[Any] | None) -> list[FrameType]:
    frames = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            break
        frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    return frames


def _thread_stack(thread_id: int | None) -> str:
    frame = sys._current_frames().get(thread_id or 0)  # noqa: SLF001 - the only way to see one
    return "" if frame is None else "".join(traceback.format_stack(frame))
