"""The child processes of a batch, as their parent holds them.

I1  Whatever happens, a child that was started is ended and waited for.
I2  All children have loaded the sources that the parent stamps, or the batch does not begin.

Not here: which runs are made (`batch`), the other end (`child`).
"""

import os
import subprocess
import sys
from typing import Final

import msgspec
import trio

from jobengine.testing.sim.messages import Hello, Outcome, Request

__all__ = ["Child", "ChildEndedError", "CodeChangedError"]

_COMMAND: Final = (sys.executable, "-m", "jobengine.testing.sim.child")
_outcomes: Final = msgspec.json.Decoder(Outcome)
_hello: Final = msgspec.json.Decoder(Hello)


class ChildEndedError(Exception):
    """A child process ended in the middle of a run."""


class CodeChangedError(Exception):
    """The sources are others than they were when the batch began."""


class Child:
    """One process that makes runs, one after the other; strings hash by `hash_seed` in it. It is
    started by the first run, and again by the next one after it has ended."""

    def __init__(self, hash_seed: int, code: str) -> None:
        self._hash_seed = hash_seed
        self._code = code
        self._process: trio.Process | None = None
        self._read = b""

    async def run(self, request: Request) -> Outcome:
        """Raises `ChildEndedError`, `CodeChangedError`. When cancelled the child is of no use any
        more but to be stopped."""
        process = await self._started()
        assert process.stdin is not None
        try:
            await process.stdin.send_all(msgspec.json.encode(request) + b"\n")
        except trio.BrokenResourceError:
            await self._ended()
        return _outcomes.decode(await self._line())

    async def stop(self) -> None:
        """End the process, whatever it is doing, and wait for it; not cancellable."""
        process, self._process = self._process, None
        if process is None:
            return
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()

    async def _started(self) -> trio.Process:
        if self._process is None:
            self._read = b""
            self._process = await trio.lowlevel.open_process(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONHASHSEED": str(self._hash_seed)},
            )
            if _hello.decode(await self._line()).code != self._code:
                raise CodeChangedError("the sources have changed since the batch began")
        return self._process

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        parts = [self._read]
        while b"\n" not in parts[-1]:
            parts.append(bytes(await self._process.stdout.receive_some(1 << 20)))
            if not parts[-1]:
                await self._ended()
        line, _, self._read = b"".join(parts).partition(b"\n")
        return line

    async def _ended(self) -> None:
        assert self._process is not None
        code = await self._process.wait()
        await self.stop()
        raise ChildEndedError(f"the process of the run ended with {code}; see stderr")
