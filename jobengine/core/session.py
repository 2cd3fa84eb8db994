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
I5  A hello that does not come in time, silence, and repeated strikes end the connection; leases
    outlive it.

Not here: JSON and what can be stored (the door's translation), leases and credit as they count
(``lease_shard``), sending, and how much may wait to be sent (the shell).
"""

from collections.abc import Sequence
from typing import Any, Final, assert_never

import attrs

from jobengine.core.outstanding import Outstanding, Ref
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import SECOND, Moment
from jobengine.messages.lease_shard import (
    Attach,
    Beat,
    Detach,
    Drain,
    LeaseClaim,
    Report,
    Reports,
    SetCredit,
)
from jobengine.messages.session import (
    SCOPE_SUBMIT,
    SCOPE_WORK,
    AskSubmit,
    Attached,
    Beaten,
    Closed,
    CreditSaid,
    DrainSaid,
    EngineStops,
    Granted,
    Greeted,
    HangUp,
    HeartbeatSaid,
    Nacked,
    Opened,
    Peer,
    Received,
    SendLeases,
    SessionMessage,
    Settled,
    ShardRestarted,
    StopLease,
    SubmitAnswered,
    SubmitSaid,
    Unreadable,
    Welcomed,
)
from jobengine.messages.wake import Wake

__all__ = ["GOING_AWAY", "POLICY_VIOLATION", "Session", "SessionLimits"]

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
_NOBODY: Final = Peer(tenant_id="", subject="", scopes=frozenset())
_REPORTS: Final = frozenset(Report.__args__)


@attrs.frozen(kw_only=True)
class SessionLimits:
    """Times in seconds.

    ``silent_s_max`` is longer than three heartbeats, since a worker that holds nothing may beat
    every third time only. ``errors_max`` bounds the answers to one frame. ``unsettled_max``: past
    it the worker is not read from until the shard has answered.
    """

    hello_s_max: float = 10.0
    silent_s_max: float = 40.0
    strikes_max: int = 5
    strikes_window_s: float = 60.0
    errors_max: int = 100
    submits_max: int = 64
    unsettled_max: int = 10_000


@attrs.define(eq=False)
class Session:
    """One connection, from ``Opened`` until it has ended."""

    session_id: int
    limits: SessionLimits
    ended: bool = False
    _peer: Peer = _NOBODY
    _hello: Greeted | None = None
    _welcomed: bool = False
    _draining: bool = False
    _heard_mono: float = 0.0
    _stop_mono: float | None = None
    _submits: int = 0
    _strikes: tuple[float, ...] = ()
    _outstanding: Outstanding = attrs.field(factory=Outstanding)
    _commands: list[Any] = attrs.field(factory=list)

    @property
    def wakeup_at(self) -> float | None:
        if self.ended:
            return None
        limits = self.limits
        patience_s = limits.hello_s_max if self._hello is None else limits.silent_s_max
        due = self._heard_mono + patience_s
        return due if self._stop_mono is None else min(due, self._stop_mono)

    @property
    def congested(self) -> bool:
        """Whether the shard owes so many answers that the worker should not be read from."""
        return len(self._outstanding.unsettled) >= self.limits.unsettled_max and not self.ended

    def handle(self, message: SessionMessage | Wake, now: Moment, /) -> Sequence[Any]:
        if self.ended:
            return ()
        match message:
            case Received():
                self._receive(message, now)
            case Settled():
                self._settle(message)
            case Granted():
                self._pass_leases(message)
            case Beaten():
                self._answer_beat(message)
            case SubmitAnswered():
                self._answer_submit(message)
            case StopLease():
                self._commands.append(message)
            case Attached():
                self._be_attached(message)
            case ShardRestarted():
                self._attach_again()
            case Opened():
                self._open(message, now)
            case EngineStops():
                self._stop(message, now)
            case Closed():
                self._leave()
            case Wake():
                self._wake(now)
            case _:
                assert_never(message)
        commands, self._commands = self._commands, []
        return commands

    def _open(self, message: Opened, now: Moment) -> None:
        self._peer = message.peer
        self._heard_mono = now.mono

    # What the worker says. Reports go first, then the rest in the order of the frame.

    def _receive(self, message: Received, now: Moment) -> None:
        if self._hello is not None:
            self._heard_mono = now.mono
        reports: list[Report] = []
        others: list[Any] = []
        may_report = False
        said: Any
        for said in message.said:
            kind = type(said)
            if kind in _REPORTS:
                if may_report or (may_report := self._may(SCOPE_WORK, said.ref, others)):
                    reports.append(said)
            else:
                self._understand(said, now, others)
        if reports:
            self._outstanding.report(reports)
            self._commands.append(Reports(session_id=self.session_id, reports=reports))
        self._commands.extend(others)
        if any(type(other) is Unreadable for other in others):
            self._strike(now)
        self._stop_when_idle()

    def _understand(self, said: Any, now: Moment, out: list[Any]) -> None:
        match said:
            case HeartbeatSaid():
                self._beat(said, out)
            case CreditSaid():
                self._take_credit(said, out)
            case SubmitSaid():
                self._submit(said, out)
            case Greeted():
                self._greet(said, now, out)
            case DrainSaid():
                self._drain(said, out)
            case Nacked():
                if self._may(SCOPE_WORK, said.ref, out):
                    out.append(Settled(nacks=(said,)))
            case Unreadable():
                self._complain(said, out)
            case _:
                raise AssertionError(f"no such thing to say: {said}")

    def _may(self, scope: str, ref: Ref, out: list[Any]) -> bool:
        """Whether the worker may say this now; if not, ``out`` says why (I1)."""
        if self._hello is None:
            self._complain(_hello_first(ref), out)
            return False
        if scope in self._peer.scopes:
            return True
        self._refuse(out, ref, ErrorCode.SCOPE_REQUIRED, f"the token lacks the scope {scope}")
        return False

    def _complain(self, said: Unreadable, out: list[Any]) -> None:
        if len(out) < self.limits.errors_max:
            out.append(said)

    def _refuse(self, out: list[Any], ref: Ref, code: ErrorCode, message: str) -> None:
        out.append(Settled(nacks=(Nacked(ref, Refusal(code, message)),)))

    def _greet(self, said: Greeted, now: Moment, out: list[Any]) -> None:
        if self._hello is not None:
            why = "this session has said hello; open another connection for another worker"
            code = ErrorCode.DUPLICATE_HELLO
            self._complain(Unreadable(ref=said.ref, code=code, message=why), out)
        elif (said.capacity or said.resume) and SCOPE_WORK not in self._peer.scopes:
            why = f"the token lacks the scope {SCOPE_WORK}, needed to hold leases"
            code = ErrorCode.SCOPE_REQUIRED
            self._complain(Unreadable(ref=said.ref, code=code, message=why), out)
        else:
            self._hello = said
            self._heard_mono = now.mono
            self._outstanding.auto_credit = said.auto_credit
            self._outstanding.hold(said.resume)
            self._attach(said, said.resume)

    def _attach(self, hello: Greeted, resume: Sequence[LeaseClaim]) -> None:
        self._commands.append(
            Attach(
                session_id=self.session_id,
                tenant_id=self._peer.tenant_id,
                worker_id=hello.worker_id,
                task_runner_id=hello.task_runner_id,
                queues=hello.queues,
                job_types=hello.job_types,
                capacity=hello.capacity,
                auto_credit=hello.auto_credit,
                resume=resume,
            )
        )

    def _take_credit(self, said: CreditSaid, out: list[Any]) -> None:
        if self._may(SCOPE_WORK, said.ref, out):
            self._outstanding.credit = said.slots
            out.append(SetCredit(session_id=self.session_id, slots=said.slots))
            if said.ref is not None:
                out.append(Settled(acks=(said.ref,)))

    def _beat(self, said: HeartbeatSaid, out: list[Any]) -> None:
        # A producer beats too: it renews what it holds, which is nothing, and needs no scope.
        if self._hello is None:
            self._complain(_hello_first(said.ref), out)
            return
        self._outstanding.beat(said.ref)
        out.append(
            Beat(
                session_id=self.session_id,
                ref=said.ref,
                leases=said.leases,
                progress=said.progress,
            )
        )

    def _drain(self, said: DrainSaid, out: list[Any]) -> None:
        if self._may(SCOPE_WORK, said.ref, out):
            self._draining = True
            out.append(Drain(session_id=self.session_id, ref=said.ref))

    def _submit(self, said: SubmitSaid, out: list[Any]) -> None:
        if not self._may(SCOPE_SUBMIT, said.ref, out):
            return
        if self._submits >= self.limits.submits_max:
            why = f"{self._submits} submits of this session are unanswered; wait for their acks"
            self._refuse(out, said.ref, ErrorCode.OVERLOADED, why)
            return
        self._submits += 1
        out.append(AskSubmit(said=said))

    def _strike(self, now: Moment) -> None:
        since = now.mono - self.limits.strikes_window_s
        self._strikes = (*(at for at in self._strikes if at > since), now.mono)
        if len(self._strikes) >= self.limits.strikes_max:
            self._hang_up(POLICY_VIOLATION, "too many frames that could not be understood")

    # What the shard says.

    def _be_attached(self, message: Attached) -> None:
        hello = self._hello
        assert hello is not None, "I2: attached before hello"
        self._outstanding.lose(message.lost)
        if self._welcomed:
            self._resume(message.lost)
            return
        self._welcomed = True
        self._commands.append(
            Welcomed(
                ref=hello.ref,
                session_id=self.session_id,
                resumed=message.resumed,
                lost=message.lost,
            )
        )

    def _resume(self, lost: Sequence[str]) -> None:
        """Go on with a shard that knows nothing but the leases (I4)."""
        commands, outstanding = self._commands, self._outstanding
        lost = outstanding.lost_unreported(lost)
        if outstanding.credit is not None:
            slots = max(0, outstanding.credit)
            commands.append(SetCredit(session_id=self.session_id, slots=slots))
        if self._draining:
            commands.append(Drain(session_id=self.session_id))
        if outstanding.unsettled:
            again = list(outstanding.unsettled.values())
            commands.append(Reports(session_id=self.session_id, reports=again))
        if lost and not outstanding.beats:
            commands.append(Beaten(ref=None, stop=(), lost=lost))
        for ref in outstanding.beats:
            commands.append(Beaten(ref=ref, stop=(), lost=lost))
        outstanding.beats = ()

    def _pass_leases(self, message: Granted) -> None:
        hello = self._hello
        assert hello is not None, "I2: granted before hello"
        self._outstanding.grant(message.leases)
        self._commands.append(
            SendLeases(leases=message.leases, task_runner_id=hello.task_runner_id)
        )

    def _settle(self, message: Settled) -> None:
        self._outstanding.settle(message.acks, message.nacks)
        self._commands.append(message)
        self._stop_when_idle()

    def _answer_beat(self, message: Beaten) -> None:
        self._outstanding.lose(message.lost)
        self._outstanding.beaten(message.ref)
        self._commands.append(message)

    def _attach_again(self) -> None:
        if self._hello is not None:
            self._attach(self._hello, self._outstanding.claims())

    # What the engine says, time, and the end.

    def _answer_submit(self, message: SubmitAnswered) -> None:
        self._submits -= 1
        self._commands.append(message)
        self._stop_when_idle()

    def _stop(self, message: EngineStops, now: Moment) -> None:
        if self._stop_mono is not None:
            return
        self._stop_mono = now.mono + max(0, message.deadline_at - now.at) / SECOND
        self._commands.append(message)
        if self._hello is not None:
            self._draining = True
            self._commands.append(Drain(session_id=self.session_id))
        self._stop_when_idle()

    def _stop_when_idle(self) -> None:
        if self._stop_mono is not None and not self._outstanding and not self._submits:
            self._hang_up(GOING_AWAY, "the engine stops")

    def _wake(self, now: Moment) -> None:
        due = self.wakeup_at
        if due is None or now.mono < due:
            return
        limits = self.limits
        if self._stop_mono is not None and now.mono >= self._stop_mono:
            self._hang_up(GOING_AWAY, "the engine stops")
        elif self._hello is None:
            why = f"no hello within {limits.hello_s_max:g} s"
            self._commands.append(Unreadable(code=ErrorCode.HELLO_REQUIRED, message=why))
            self._hang_up(POLICY_VIOLATION, why)
        elif self.congested:
            # It is not read from, so its silence is ours.
            self._heard_mono = now.mono
        else:
            self._hang_up(POLICY_VIOLATION, f"no frame within {limits.silent_s_max:g} s")

    def _hang_up(self, code: int, reason: str) -> None:
        if not self.ended:
            self._leave()
            self._commands.append(HangUp(code=code, reason=reason))

    def _leave(self) -> None:
        self.ended = True
        if self._hello is not None:
            self._commands.append(Detach(session_id=self.session_id))


def _hello_first(ref: Ref) -> Unreadable:
    return Unreadable(ref=ref, code=ErrorCode.HELLO_REQUIRED, message="say hello first")
