"""What the benchmarks' main programs share: asking load to run, and showing that it does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.harness.children import LoadProcess, open_load
from bench.harness.target import Target

__all__ = ["open_ready_load", "rate_of", "show_progress"]

_REFRESH_S = 0.2


@asynccontextmanager
async def open_ready_load(kind: str, target: Target, **plan: Any) -> AsyncIterator[LoadProcess]:
    """A load process at the target's door that has said that it is ready."""
    async with open_load(kind, **target.door(), **plan) as load:
        await load.answer()
        yield load


@asynccontextmanager
async def show_progress(title: str, total: float, done: Callable[[], float]) -> AsyncIterator[None]:
    """A bar on standard error for the block, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=total)

        async def follow() -> None:
            while True:
                bar.update(task, completed=done())
                await trio.sleep(_REFRESH_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            yield
            nursery.cancel_scope.cancel()


def rate_of(done: dict[str, Any]) -> float:
    """Jobs a second, from what a load process said of its order."""
    return float(done["jobs"] / (done["ended_at"] - done["began_at"]))
