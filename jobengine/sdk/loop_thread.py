"""The loop of an async runner in a daemon thread, for the length of a block.

I1  What ends the loop before the block, such as SystemExit in a handler, releases every lease at
    once, and is raised when the block has ended.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import trio

from jobengine.sdk.asyncio_runner import AsyncioRunner
from jobengine.sdk.runners import Runner
from jobengine.sdk.transport import Link
from jobengine.sdk.trio_runner import TrioRunner

__all__ = ["in_thread"]

JOIN_S_MAX: Final = 2.0


@contextmanager
def in_thread(runner: Runner | None, link: Link) -> Iterator[None]:
    if runner is None:
        yield
        return
    ready = threading.Event()
    ended_by: list[BaseException] = []

    async def serve_trio(on_trio: TrioRunner) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(on_trio.serve)
            ready.set()

    async def serve_asyncio(on_asyncio: AsyncioRunner) -> None:
        on_asyncio.attach()
        ready.set()
        await on_asyncio.serve()

    def main() -> None:
        # An asyncio loop is left behind the release: its end waits for threads of its handlers.
        with ExitStack() as loops:
            try:
                if isinstance(runner, TrioRunner):
                    trio.run(serve_trio, runner)
                elif isinstance(runner, AsyncioRunner):
                    loops.enter_context(asyncio.Runner()).run(serve_asyncio(runner))
            except BaseException as error:  # noqa: BLE001 - I1
                ended_by.append(error)
                link.release_all()
            finally:
                ready.set()

    thread = threading.Thread(target=main, name="jobengine-handlers", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        runner.close()
        thread.join(JOIN_S_MAX)
    if ended_by:
        raise ended_by[0]
