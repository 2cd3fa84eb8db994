"""Handlers on a Trio loop share tasks and scopes, and nothing else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

import trio
import trio.testing

from jobengine.sdk.commands import Stopped
from jobengine.sdk.context import JobContext
from jobengine.sdk.session import Posted
from jobengine.sdk.trio_runner import TrioRunner
from jobengine.wire.worker_messages import Complete, Fail
from tests.sdk.model import lease

Handle = Callable[[JobContext], Awaitable[object]]
seen: ContextVar[object] = ContextVar("seen")


class Bench:
    """One runner and what it posted, by lease."""

    def __init__(self, tasks_max: int) -> None:
        self.posted: dict[str, Posted] = {}
        self.runner = TrioRunner(tasks_max, self._post)

    def _post(self, message: Posted) -> None:
        assert isinstance(message, Complete | Fail | Stopped)
        assert message.lease_id not in self.posted, "a job has one outcome"
        self.posted[message.lease_id] = message

    def jobs(self, **handlers: Handle) -> list[JobContext]:
        return [JobContext(lease(name), self._post, run) for name, run in handlers.items()]

    async def run(self, *jobs: JobContext) -> None:
        self.runner.start(jobs)
        await trio.testing.wait_all_tasks_blocked()

    async def stop(self, job: JobContext) -> None:
        job.stop("cancelled")
        self.runner.interrupt(job)
        await trio.testing.wait_all_tasks_blocked()

    def kinds(self) -> dict[str, type]:
        return {name: type(outcome) for name, outcome in self.posted.items()}


@asynccontextmanager
async def open_bench(tasks_max: int = 1) -> AsyncIterator[Bench]:
    bench = Bench(tasks_max)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.runner.serve)
        yield bench
        bench.runner.close()


async def at_once(_: JobContext) -> None:
    return


async def forever(_: JobContext) -> None:
    await trio.sleep_forever()


async def fails(_: JobContext) -> None:
    raise LookupError("mine")


async def test_a_cancel_reaches_its_handler_alone_and_the_task_goes_on_with_the_next() -> None:
    async with open_bench() as bench:
        stuck, other = bench.jobs(stuck=forever, other=at_once)
        await bench.run(stuck, other)
        assert bench.posted == {}, "one task, and it waits"
        await bench.stop(stuck)
        assert bench.kinds() == {"stuck": Stopped, "other": Complete}


async def test_a_cancel_that_comes_after_the_end_reaches_nobody() -> None:
    async with open_bench() as bench:
        done, goes_on = bench.jobs(done=at_once, goes_on=forever)
        await bench.run(done, goes_on)
        await bench.stop(done)
        assert bench.kinds() == {"done": Complete}
        await bench.stop(goes_on)
        assert bench.kinds() == {"done": Complete, "goes_on": Stopped}


async def test_a_handler_that_was_stopped_before_it_began_does_not_begin() -> None:
    async with open_bench() as bench:
        [job] = bench.jobs(late=fails)
        job.stop("drain")
        await bench.run(job)
        assert bench.kinds() == {"late": Stopped}


async def test_an_exception_harms_no_other_handler_of_its_task() -> None:
    async with open_bench() as bench:
        await bench.run(*bench.jobs(before=at_once, bad=fails, after=at_once))
        assert bench.kinds() == {"before": Complete, "bad": Fail, "after": Complete}


async def test_a_handler_may_end_in_its_own_way_though_it_was_cancelled() -> None:
    async def finishes(_: JobContext) -> str:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "all the same"

    async def breaks(_: JobContext) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("on the way out")

    async with open_bench() as bench:
        jobs = bench.jobs(finishes=finishes, breaks=breaks, after=at_once)
        await bench.run(*jobs)
        await bench.stop(jobs[0])
        await bench.stop(jobs[1])
        assert bench.kinds() == {"finishes": Complete, "breaks": Fail, "after": Complete}
        assert "LookupError" in (bench.posted["breaks"].error.stack or "")  # type: ignore[union-attr]


async def test_what_a_handler_sets_in_its_context_the_next_does_not_see() -> None:
    class Untouchable:
        def __eq__(self, _: object) -> bool:
            raise LookupError("not to be compared")

        __hash__ = None  # type: ignore[assignment]

    values: list[object] = []

    async def sets(job: JobContext) -> None:
        values.append(seen.get("nothing"))
        seen.set(Untouchable())
        await trio.lowlevel.checkpoint()
        values.append(type(seen.get()))

    async def main() -> None:
        async with open_bench() as bench:
            await bench.run(*bench.jobs(a=sets, b=sets))

    await main()
    assert values == ["nothing", Untouchable] * 2
    values.clear()
    seen.set(Untouchable())
    # A loop of its own begins with what is set here.
    await trio.to_thread.run_sync(trio.run, main)
    assert [type(value) for value in values[::2]] == [Untouchable] * 2


async def test_handlers_that_wait_run_side_by_side_up_to_the_bound() -> None:
    async with open_bench(tasks_max=3) as bench:
        jobs = bench.jobs(a=forever, b=forever, c=forever, d=forever)
        await bench.run(*jobs)
        assert [job.where is not None for job in jobs] == [True, True, True, False]
        assert "forever" in bench.runner.stack_of(jobs[0])
        await bench.stop(jobs[1])
        assert jobs[3].where is not None
        assert bench.runner.stack_of(jobs[1]) == ""


def test_what_comes_after_the_end_of_the_loop_is_left() -> None:
    bench = Bench(1)

    async def host() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.runner.serve)
            nursery.cancel_scope.cancel()

    trio.run(host)
    jobs = bench.jobs(late=at_once)
    bench.runner.start(jobs)
    bench.runner.interrupt(jobs[0])
    bench.runner.close()
    assert bench.posted == {}


async def test_jobs_that_come_while_it_is_cancelled_do_not_end_the_loop() -> None:
    """Whichever of the two the loop takes first, and where each of them waits for a turn."""
    for _ in range(30):
        bench = Bench(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.runner.serve)
            nursery.cancel_scope.cancel()
            bench.runner.start(bench.jobs(late=at_once))
