"""Many simulated runs over child processes, each verdict as soon as it is there.

A *lane* takes one request after the other. In a batch of seeds a lane has two children in which
strings hash differently, and each makes the run: their digests have to be equal. So it is enough
that the first judges it. There are as many lanes as runs may be made at a time, so that a child
that has to wait for the other one of its lane keeps no core idle.

I1  A request is taken when a lane is free and forgotten when it is judged, so memory does not grow
    with the number of runs.
I2  A run whose process ended in the middle of it is a failure of the harness; the batch goes on.
I3  Cancelled or not, no child outlives the batch.

Not here: what a run is (`run`), what its faults met (`coverage`).
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Final

import msgspec
import trio

from jobengine.testing.sim.children import Child, ChildEndedError
from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.sources import code_stamp

__all__ = ["Take", "open_lane", "run_all", "run_one"]

Take = Callable[[Request, Outcome], None]
"""What is done with an outcome; called as they come, which is not quite in order."""

_HASH_SEEDS: Final = (1, 2)
_WAYS: Final = ("strings hash by 1", "strings hash by 2")


async def run_all(
    requests: Iterable[Request], take: Take, *, processes: int | None = None, twice: bool = True
) -> None:
    """Make all runs, over `processes` at a time (default: one a core), each `twice` or once.

    When cancelled, runs under way are dropped. Raises `CodeChangedError` when the sources change
    while a child starts.
    """
    code = code_stamp()
    count = processes or os.cpu_count() or 1
    left, turns = iter(requests), trio.Semaphore(count)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(_Lane(code, turns, twice=twice).run, left, take)


@asynccontextmanager
async def open_lane(
    *, twice: bool = True
) -> AsyncIterator[Callable[[Request], Awaitable[Outcome]]]:
    """What makes one run after the other, each as `run_all` does."""
    lane = _Lane(code_stamp(), trio.Semaphore(len(_HASH_SEEDS)), twice=twice)
    try:
        yield lane.judged
    finally:
        await lane.stop()


async def run_one(request: Request, *, twice: bool = True) -> Outcome:
    """Make one run, as `run_all` does."""
    async with open_lane(twice=twice) as judged:
        return await judged(request)


class _Lane:
    """`turns` are taken by runs, of other lanes as well."""

    def __init__(self, code: str, turns: trio.Semaphore, *, twice: bool) -> None:
        self._children = [Child(seed, code) for seed in _HASH_SEEDS[: 2 if twice else 1]]
        self._turns = turns

    async def run(self, left: Iterator[Request], take: Take) -> None:
        try:
            for request in left:
                take(request, await self.judged(request))
        finally:
            await self.stop()

    async def stop(self) -> None:
        for child in self._children:
            await child.stop()

    async def judged(self, request: Request) -> Outcome:
        first, *second = await self._made(request)
        if not second or first.digest == second[0].digest or _ended_early(first, second[0]):
            return next((each for each in (first, *second) if each.violation), first)
        lines = await self._made(msgspec.structs.replace(request, trace=True))
        violation = f"not deterministic: {_difference(*(each.trace for each in lines))}"
        return msgspec.structs.replace(first, violation=violation)

    async def _made(self, request: Request) -> list[Outcome]:
        """Of each child its outcome."""
        outcomes: dict[int, Outcome] = {}

        async def make(number: int, child: Child) -> None:
            async with self._turns:
                try:
                    outcomes[number] = await child.run(
                        msgspec.structs.replace(request, judged=number == 0)
                    )
                except ChildEndedError as error:
                    outcomes[number] = _broken(request, error)

        async with trio.open_nursery() as nursery:
            for number, child in enumerate(self._children):
                nursery.start_soon(make, number, child)
        return [outcomes[number] for number in sorted(outcomes)]


def _ended_early(*outcomes: Outcome) -> bool:
    return any(not outcome.digest for outcome in outcomes)


def _broken(request: Request, error: ChildEndedError) -> Outcome:
    return Outcome(seed=request.seed, digest="", violation=f"the harness failed: {error}")


def _difference(first: list[str], second: list[str]) -> str:
    """The first line in which two traces differ."""
    for number, lines in enumerate(zip_longest(first, second, fillvalue="(no line)"), start=1):
        if lines[0] != lines[1]:
            told = "; ".join(
                f"`{line.strip()}` where {way}" for way, line in zip(_WAYS, lines, strict=True)
            )
            return f"line {number} is {told}"
    return "the digests of two runs differed, and now their traces are equal"
