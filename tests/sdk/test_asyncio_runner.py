"""An asyncio loop that has ended, and one that a handler ends."""

import asyncio
import sys

import pytest

from jobengine.sdk.asyncio_runner import AsyncioRunner
from jobengine.sdk.context import JobContext
from jobengine.sdk.session import Posted
from tests.sdk.model import lease


async def at_once(_: JobContext) -> None:
    return


async def forever(_: JobContext) -> None:
    await asyncio.Event().wait()


async def leaves(_: JobContext) -> None:
    await asyncio.sleep(0)
    sys.exit(3)


def test_an_exit_leaves_all_jobs_of_the_loop_without_an_outcome() -> None:
    posted: list[Posted] = []
    runner = AsyncioRunner(posted.append)

    async def host() -> None:
        runner.attach()
        runner.start([JobContext(lease(f.__name__), posted.append, f) for f in (forever, leaves)])
        try:
            await runner.serve()
        finally:
            runner.start([JobContext(lease("late"), posted.append, at_once)])
            for _ in range(3):
                await asyncio.sleep(0)

    with pytest.raises(SystemExit):
        asyncio.run(host())
    assert posted == []


def test_what_comes_after_the_end_of_the_loop_is_left() -> None:
    posted: list[Posted] = []
    runner = AsyncioRunner(posted.append)

    async def host() -> None:
        runner.attach()

    asyncio.run(host())
    late = JobContext(lease("late"), posted.append, at_once)
    runner.start([late])
    runner.interrupt(late)
    runner.close()
    assert posted == []
