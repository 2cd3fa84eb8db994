"""What a core is: the contract between a pure machine and the shell that drives it.

A machine decides and nothing else. The shell (`actors/runtime/shell.py`) hands it one message at a
time with the `Moment` of that wake-up, and performs the commands it returns, in order.

I1  `handle` never waits, reads no clock, draws no chance and does no I/O; equal histories of
    (message, now) give equal commands.
I2  A command is a wish: the machine learns what became of it only from a later message that
    carries the command's stamp, and drops answers whose stamp is no longer current.
I3  `now.mono` never goes back between calls; `now.at` may, as wall clocks do.
I4  An exception out of `handle` is a programmer error: the machine is thrown away, none of the
    commands of that wake-up is performed, and a fresh one is built from the store.

Stamps: answers to commands of a machine that has crashed can still reach its successor, so stamps
must not repeat across restarts. The shell passes the supervisor's incarnation (a number that grows
with every start in the process) to the machine, which makes it the high part of its stamps.

Not here: the loop, mailboxes, timers (`actors/runtime`).
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from jobengine.domain.instant import Moment
from jobengine.messages.wake import Wake

M_contra = TypeVar("M_contra", contravariant=True)
C_co = TypeVar("C_co", covariant=True)


class Answer(msgspec.Struct, frozen=True):
    """Command: whoever asked with `ask_id` gets `value`. Dropped when nobody waits any more."""

    ask_id: int
    value: Any


class Refuse(msgspec.Struct, frozen=True):
    """Command: `error` is raised in whoever asked with `ask_id`. Use each error object once."""

    ask_id: int
    error: Exception


class Machine(Protocol[M_contra, C_co]):
    """A synchronous state machine with one verb."""

    @property
    def wakeup_at(self) -> float | None:
        """Monotonic seconds at or after which it wants `handle(Wake(), now)`; None: never.

        Read after every wake-up. A machine that leaves it in the past is woken again at once.
        """
        ...

    def handle(self, message: M_contra | Wake, now: Moment, /) -> Sequence[C_co]:
        """Decide on one message; the commands are performed in the order returned."""
        ...
