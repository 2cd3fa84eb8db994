"""Async handlers in a Trio loop, with as little between two of them as can be.

Long-lived tasks take jobs from one deque. A task that takes a job and leaves others behind wakes
one more task, so handlers that wait run side by side, and a burst of handlers that never wait is
run by one task without a switch.

Invariants
    I1  A handler runs within a cancel scope that nobody else's handler is in at the time. A scope
        serves one handler after the other until it is cancelled.
    I2  Only the scope of a handler that runs is cancelled, never that of one that has ended.

Deliberately not here: see `runners`, whose invariants hold here as well.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

import attrs
import trio

from jobengine.sdk.commands import Stopped
from jobengine.sdk.context import JobContext
from jobengine.sdk.runners import Post, thread_stack
from jobengine.sdk.session import Posted

__all__ = ["TrioRunner"]

BURST_MAX: Final = 64


@attrs.define(eq=False)
class _Station:
    """A task that runs handlers, and the one that it runs now."""

    task: trio.lowlevel.Task
    surroundings: Context
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    job: JobContext | None = None
    is_interrupted: bool = False

    def restore_context(self) -> bool:
        """Undo what a handler set in its context variables; whether there was something, which
        is undone when the task is resumed next."""
        try:
            if self.task.context == self.surroundings:
                return False
        except Exception:  # noqa: BLE001, S110 - values are the users', and so is how they compare
            pass
        self.task.context = self.surroundings.copy()
        return True


class TrioRunner:
    """Async handlers in the Trio loop that runs `serve`, at most `tasks_max` at a time."""

    def __init__(self, tasks_max: int, post: Post) -> None:
        self._tasks_max = tasks_max
        self._post = post
        self._jobs: deque[JobContext] = deque()
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
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                # A nursery that nothing is left in takes nobody in a turn before its block ends.
                self._nursery = None

    def start(self, jobs: Sequence[JobContext]) -> None:
        self._jobs.extend(jobs)
        self._soon(self._wake)

    def interrupt(self, job: JobContext) -> None:
        self._soon(_cancel, job)

    def close(self) -> None:
        """End `serve`; from any thread."""
        nursery = self._nursery
        if nursery is not None:
            self._soon(nursery.cancel_scope.cancel)

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        """In the loop's thread, once or more often, unless the loop has ended."""
        assert self._token is not None
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call, *arguments, idempotent=True)

    def stack_of(self, job: JobContext) -> str:
        station = job.where
        if station is None or station.job is not job:
            return ""
        if getattr(station.task.coro, "cr_running", False):
            return thread_stack(self._thread_id)
        frames = [f'  File "{f.f_code.co_filename}", line {n}, in {f.f_code.co_name}\n'
                  for f, n in station.task.iter_await_frames()]  # fmt: skip
        return "".join(frames)

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
        station = _Station(task, task.context.copy())
        while True:
            outcome: Posted | None = None
            try:
                with trio.CancelScope() as station.scope:
                    await self._run_jobs(station)
            except Exception as error:  # noqa: BLE001 - a handler's, with its cancellation taken out
                assert station.job is not None
                outcome = station.job.outcome_of_error(error)
            else:
                if station.job is not None:
                    outcome = Stopped(station.job.lease.lease_id)
            station.job = None
            station.is_interrupted = False
            if outcome is not None:
                self._post(outcome)

    async def _run_jobs(self, station: _Station) -> None:
        """Run handlers until one was interrupted; leaves `station.job` when its outcome is open."""
        jobs, post = self._jobs, self._post
        done = 0
        while True:
            self._waking = False
            while jobs:
                job = jobs.popleft()
                if jobs and not self._waking:
                    self._wake()
                job.where, station.job = station, job
                outcome: Posted
                try:
                    if job.stop_reason is not None:
                        job.check()
                    outcome = job.outcome_of(await job.handler(job))
                except Exception as error:  # noqa: BLE001 - I2 of `runners`
                    outcome = job.outcome_of_error(error)
                station.job = None
                post(outcome)
                if station.is_interrupted:
                    return
                done += 1
                if station.restore_context() or done % BURST_MAX == 0:
                    await trio.lowlevel.checkpoint()
            await self._wait(station.task)

    async def _wait(self, task: trio.lowlevel.Task) -> None:
        """Until there are jobs."""

        def leave(_: Any) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self._idle.append(task)
        await trio.lowlevel.wait_task_rescheduled(leave)


def _cancel(job: JobContext) -> None:
    """In the loop's thread: a handler that has begun and has not ended is within an await."""
    station = job.where
    if station is not None and station.job is job:
        station.is_interrupted = True
        station.scope.cancel()
