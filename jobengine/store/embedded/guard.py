"""The parent process of a postmaster: it ends the postmaster when the engine is gone.

A program of its own (`python -I -S guard.py <cluster>`), of the standard library alone. Its
standard input is a pipe from the engine: the first line is the plan as JSON, and the end of the
file is the order to stop, which arrives by itself when the engine is killed. Its standard output
reports `started <pid>`, `failed <reason>` and `exited <code>`, a line each.

I1  The postmaster is an unreaped child for as long as it may be signalled, so a signal never
    reaches a stranger that got its process id.
I2  Stopping is bounded: fast shutdown, immediate shutdown, SIGKILL, each with its time.
I3  If the guard itself is killed the kernel sends the postmaster the signal of a fast shutdown.
    The guard has one thread, so "parent death" means what it says.
I4  A stop ordered by the engine and a stop because the engine died are the same code.

Signals to the guard are taken and ignored: a service manager may send its stop signal to every
process, and the engine decides the order in which they end.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_ORDERS = 0
_KILL_S = 10.0
_EXIT_FAILED = 70


def main() -> int:
    plan = _read_plan()
    if plan is None:
        return 0
    waker = _take_signals()
    try:
        process = _start(plan)
    except (OSError, subprocess.SubprocessError) as error:
        _report(f"failed {error}")
        return _EXIT_FAILED
    _report(f"started {process.pid}")
    engine_gone = _wait(process, waker)
    if engine_gone:
        _stop(process, waker, plan)
    _report(f"exited {process.returncode}")
    if engine_gone:
        shutil.rmtree(plan["scratch_dir"], ignore_errors=True)
    return 0


def _read_plan() -> dict[str, Any] | None:
    """Read one line and not a byte more, which buffered input cannot promise."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(_ORDERS, 1)
        if not byte:
            return None
        line += byte
    plan: dict[str, Any] = json.loads(line)
    return plan


def _take_signals() -> int:
    """Return a descriptor that becomes readable at each signal. Handlers do not survive `exec`,
    as ignoring would, so the postmaster starts with the default dispositions."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def _start(plan: dict[str, Any]) -> subprocess.Popen[bytes]:
    log = os.open(plan["log_path"], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        return subprocess.Popen(
            plan["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=plan["environment"],
            preexec_fn=_die_with_guard(),  # noqa: PLW1509 - the guard has one thread
            **plan["credentials"],
        )
    finally:
        os.close(log)


def _die_with_guard() -> Callable[[], None] | None:
    """Runs in the child after the change of account, which would take the signal back."""
    if sys.platform != "linux":
        return None
    guard, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != guard:
            os._exit(_EXIT_FAILED)

    return arm


def _wait(process: subprocess.Popen[bytes], waker: int) -> bool:
    """Return at the postmaster's exit (false) or the end of the orders (true)."""
    poller = select.poll()
    poller.register(_ORDERS, select.POLLIN)
    poller.register(waker, select.POLLIN)
    while process.poll() is None:
        for ready, _ in poller.poll():
            if not os.read(ready, 512):
                return True
    return False


def _stop(process: subprocess.Popen[bytes], waker: int, plan: dict[str, Any]) -> None:
    poller = select.poll()
    poller.register(waker, select.POLLIN)
    for number, seconds in (
        (signal.SIGINT, plan["stop_fast_s"]),
        (signal.SIGQUIT, plan["stop_immediate_s"]),
        (signal.SIGKILL, _KILL_S),
    ):
        process.send_signal(number)
        deadline = time.monotonic() + seconds
        while process.poll() is None and (left := deadline - time.monotonic()) > 0:
            for ready, _ in poller.poll(left * 1000):
                os.read(ready, 512)
        if process.returncode is not None:
            return


def _report(line: str) -> None:
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
