"""A worker session: what one connection may say when, and what its shard and worker hear of it.

The door gives it what the worker says, already in the engine's words; the shard gives it leases and
answers. It commands things to say to the worker, requests to the shard, submits, and the end.

Definitions. A *strike* is a frame with something in it that could not be understood or did not
belong there. A worker is *silent* when no frame of it came for ``silent_s_max``.

I1  Nothing of a worker reaches the shard before its hello, nor without the scope it needs.
I2  ``Attach`` is the first that a shard hears of a session and ``Detach`` the last. Once ended, a
    session commands nothing.
I3  What one frame reports is one ``Reports``, in the order of the frame.
I4  A request with a ``ref`` is answered, also when the shard dies in between: on its restart the
    session attaches again with the leases it knows to be out, restores its credit, and reports
    again what is unsettled.
I5  A hello that does not come in time, silence, repeated strikes and the end of the token end the
    connection; leases outlive it.

Not here: what follows from each of the worker's words (`session_worker`), JSON and what can be
stored (the door's translation), leases and credit as they count (``lease_shard``), sending, and how
much may wait to be sent (the shell).
"""

from collections.abc import Sequence
from typing import Any, assert_never

from jobengine.core.session_state import (
    GOING_AWAY,
    POLICY_VIOLATION,
    TOKEN_ENDED,
    SessionLimits,
    SessionState,
)
from jobengine.core.session_worker import WorkerSide
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import SECOND, Moment
from jobengine.messages.session import (
    Attached,
    BearerEnded,
    Beaten,
    Closed,
    DrainAsked,
    EngineStops,
    Granted,
    Opened,
    Received,
    SendLeases,
    SessionMessage,
    Settled,
    ShardRestarted,
    StopLease,
    SubmitAnswered,
    Unreadable,
    Welcomed,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Drain, Reports, SetCredit

__all__ = ["GOING_AWAY", "POLICY_VIOLATION", "Session", "SessionLimits"]


class Session:
    """One connection, from ``Opened`` until it has ended."""

    __slots__ = ("_state", "_worker")

    def __init__(self, session_id: int, limits: SessionLimits) -> None:
        self._state = SessionState(session_id, limits)
        self._worker = WorkerSide(self._state)

    @property
    def session_id(self) -> int:
        return self._state.session_id

    @property
    def ended(self) -> bool:
        return self._state.ended

    @property
    def wakeup_at(self) -> float | None:
        if self._state.ended:
            return None
        limits = self._state.limits
        patience_s = limits.hello_s_max if self._state.hello is None else limits.silent_s_max
        due = self._state.heard_mono + patience_s
        return due if self._state.stop_mono is None else min(due, self._state.stop_mono)

    @property
    def congested(self) -> bool:
        """Whether the shard owes so many answers that the worker should not be read from."""
        return (
            len(self._state.outstanding.unsettled) >= self._state.limits.unsettled_max
            and not self._state.ended
        )

    def handle(self, message: SessionMessage | Wake, now: Moment, /) -> Sequence[Any]:
        if self._state.ended:
            return ()
        match message:
            case Received():
                self._worker.receive(message, now)
            case Settled():
                self._settle(message)
            case Granted():
                self._pass_leases(message)
            case Beaten():
                self._answer_beat(message)
            case SubmitAnswered():
                self._answer_submit(message)
            case StopLease():
                self._state.commands.append(message)
            case DrainAsked():
                self._state.draining = True
                self._state.commands.append(message)
            case Attached():
                self._be_attached(message)
            case ShardRestarted():
                self._attach_again()
            case Opened():
                self._open(message, now)
            case EngineStops():
                self._stop(message, now)
            case BearerEnded():
                self._state.hang_up(TOKEN_ENDED, message.reason)
            case Closed():
                self._state.leave()
            case Wake():
                self._wake(now)
            case _:
                assert_never(message)
        commands, self._state.commands = self._state.commands, []
        return commands

    def _open(self, message: Opened, now: Moment) -> None:
        self._state.peer = message.peer
        self._state.opened_at = now.at
        self._state.heard_mono = now.mono

    # What the shard says.

    def _be_attached(self, message: Attached) -> None:
        hello = self._state.hello
        assert hello is not None, "I2: attached before hello"
        self._state.outstanding.lose(message.lost)
        if self._state.welcomed:
            self._resume(message.lost)
            return
        self._state.welcomed = True
        self._state.commands.append(
            Welcomed(
                ref=hello.ref,
                session_id=self._state.session_id,
                resumed=message.resumed,
                lost=message.lost,
            )
        )

    def _resume(self, lost: Sequence[str]) -> None:
        """Go on with a shard that knows nothing but the leases (I4)."""
        commands, outstanding = self._state.commands, self._state.outstanding
        lost = outstanding.lost_unreported(lost)
        if outstanding.credit is not None:
            slots = max(0, outstanding.credit)
            commands.append(SetCredit(session_id=self._state.session_id, slots=slots))
        if self._state.draining:
            commands.append(Drain(session_id=self._state.session_id))
        if outstanding.unsettled:
            again = list(outstanding.unsettled.values())
            commands.append(Reports(session_id=self._state.session_id, reports=again))
        if lost and not outstanding.beats:
            commands.append(Beaten(ref=None, stop=(), lost=lost))
        for ref in outstanding.beats:
            commands.append(Beaten(ref=ref, stop=(), lost=lost))
        outstanding.beats = ()

    def _pass_leases(self, message: Granted) -> None:
        hello = self._state.hello
        assert hello is not None, "I2: granted before hello"
        self._state.outstanding.grant(message.leases)
        self._state.commands.append(
            SendLeases(leases=message.leases, task_runner_id=hello.task_runner_id)
        )

    def _settle(self, message: Settled) -> None:
        self._state.outstanding.settle(message.acks, message.nacks)
        self._state.commands.append(message)
        self._state.stop_when_idle()

    def _answer_beat(self, message: Beaten) -> None:
        self._state.outstanding.lose(message.lost)
        self._state.outstanding.beaten(message.ref)
        self._state.commands.append(message)

    def _attach_again(self) -> None:
        if self._state.hello is not None:
            self._state.attach(self._state.hello, self._state.outstanding.claims())

    # What the engine says, time, and the end.

    def _answer_submit(self, message: SubmitAnswered) -> None:
        self._state.submits -= 1
        self._state.commands.append(message)
        self._state.stop_when_idle()

    def _stop(self, message: EngineStops, now: Moment) -> None:
        if self._state.stop_mono is not None:
            return
        self._state.stop_mono = now.mono + max(0, message.deadline_at - now.at) / SECOND
        self._state.commands.append(message)
        if self._state.hello is not None:
            self._state.draining = True
            self._state.commands.append(Drain(session_id=self._state.session_id))
        self._state.stop_when_idle()

    def _wake(self, now: Moment) -> None:
        due = self.wakeup_at
        if due is None or now.mono < due:
            return
        limits = self._state.limits
        if self._state.stop_mono is not None and now.mono >= self._state.stop_mono:
            self._state.hang_up(GOING_AWAY, "the engine stops")
        elif self._state.hello is None:
            why = f"no hello within {limits.hello_s_max:g} s"
            self._state.commands.append(Unreadable(code=ErrorCode.HELLO_REQUIRED, message=why))
            self._state.hang_up(POLICY_VIOLATION, why)
        elif self.congested:
            # It is not read from, so its silence is ours.
            self._state.heard_mono = now.mono
        else:
            self._state.hang_up(POLICY_VIOLATION, f"no frame within {limits.silent_s_max:g} s")
