"""Child processes that never outlive this one, and the conversation with those that make load.

I1  A child dies with this process, whatever ends it: left in order it is stopped, else the kernel
    kills it. A killed engine takes its database along by itself.
I2  Children have a process group of their own, so Ctrl-C reaches this process alone, which then
    stops them in order.

Main thread only: "parent death" means the thread that started the child.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final

import trio

from bench.harness.errors import ChildDiedError

__all__ = ["LoadProcess", "open_load", "open_process", "start_child", "stop_child", "wait_gone"]

_PR_SET_PDEATHSIG: Final = 1
_ROOT: Final = Path(__file__).resolve().parents[2]


def start_child(
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process from the root of the source tree, its standard output a pipe to us."""
    return subprocess.Popen(
        command,
        cwd=_ROOT,
        env=dict(os.environ if environ is None else environ),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        process_group=0,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - a single system call
    )


def _die_with_parent() -> Callable[[], None]:
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(70)

    return arm


async def wait_gone(process: subprocess.Popen[bytes]) -> None:
    """Until a process has ended; its pipe to us is closed then. May be cancelled."""
    if process.poll() is None:
        descriptor = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


async def stop_child(process: subprocess.Popen[bytes], within_s: float = 20.0) -> None:
    """SIGTERM, then SIGKILL after `within_s`; holds cancellation off until it is gone."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
        with trio.move_on_after(within_s):
            await wait_gone(process)
        if process.poll() is None:
            process.kill()
            await wait_gone(process)


class LoadProcess:
    """One process that makes load: it is asked, and answers, in lines of JSON.

    `count` is how much of its work the process has done so far, and `track` how that grew, as
    (monotonic seconds, count); both are as late as the process tells, every 20 ms.
    """

    def __init__(self, kind: str, process: subprocess.Popen[bytes]) -> None:
        self.kind = kind
        self.pid = process.pid
        self.count = 0
        self.track: list[tuple[float, int]] = []
        self._process = process
        self._changed = trio.Event()
        self._send_answer, self._answers = trio.open_memory_channel[dict[str, Any]](8)
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders = trio.lowlevel.FdStream(os.dup(process.stdin.fileno()))
        self._said = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))
        process.stdin.close()
        process.stdout.close()

    async def order(self, **order: Any) -> None:
        """Tell the process to do something, without waiting for it."""
        await self._orders.send_all(json.dumps(order).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        """What the process says of the earliest order that it has not answered yet."""
        return await self._answers.receive()

    async def ask(self, **order: Any) -> dict[str, Any]:
        """`order`, then `answer`."""
        await self.order(**order)
        return await self.answer()

    async def wait_count(self, count: int) -> None:
        """Until that much work is done."""
        while self.count < count:
            await self._changed.wait()

    async def listen(self) -> None:
        """Take in what the process says, until it ends; then raise `ChildDiedError`."""
        line = bytearray()
        async for chunk in self._said:
            end, *starts = chunk.split(b"\n")
            line += end
            for start in starts:
                await self._hear(json.loads(line))
                line = bytearray(start)
        await wait_gone(self._process)
        raise ChildDiedError(f"the {self.kind} process ended with {self._process.returncode}")

    async def _hear(self, said: dict[str, Any]) -> None:
        if "count" in said:
            self.count = said["count"]
            self.track.append((said["at"], self.count))
            self._changed.set()
            self._changed = trio.Event()
        else:
            await self._send_answer.send(said)

    async def aclose(self) -> None:
        """Stop the process; its descriptors are closed."""
        await stop_child(self._process, within_s=5.0)
        with trio.CancelScope(shield=True):
            await self._orders.aclose()
            await self._said.aclose()


@asynccontextmanager
async def open_load(kind: str, **plan: Any) -> AsyncIterator[LoadProcess]:
    """A load process of `bench.load` for the block; `plan` may hold a token, so it travels by its
    standard input. The process's death within the block raises `ChildDiedError`, in an exception
    group.
    """
    command = [sys.executable, "-m", "bench.load", kind]
    async with open_process(kind, command, **plan) as load:
        yield load


@asynccontextmanager
async def open_process(
    kind: str, command: Sequence[str], **plan: Any
) -> AsyncIterator[LoadProcess]:
    """Like `open_load`, of another program that speaks as those of `bench.load` do."""
    load = LoadProcess(kind, start_child(command, stdin=subprocess.PIPE))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.listen)
            await load.order(**plan)
            yield load
            nursery.cancel_scope.cancel()
    finally:
        await load.aclose()
