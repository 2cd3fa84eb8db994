"""What a worker says in a session, judged: whether it may, and what follows.

I1  What one frame reports is one ``Reports``, in the order of the frame, and goes first; the rest
    follows in the order of the frame. Only with ``auto_credit``, where an end adds to the credit
    that was said before it, does what is reported behind the frame's last credit go last.
I2  Nothing is done before the hello, nor without the scope that it needs.

Not here: answers (``session``), what a message holds (the door's translation).
"""

from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobengine.core.outstanding import Ref
from jobengine.core.session_state import POLICY_VIOLATION, SessionState
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.messages.session import (
    SCOPE_SUBMIT,
    SCOPE_WORK,
    AskSubmit,
    CreditSaid,
    DrainSaid,
    Greeted,
    HeartbeatSaid,
    Nacked,
    Received,
    Settled,
    SubmitSaid,
    Unreadable,
)
from jobengine.messages.worker_reports import Beat, Drain, Report, Reports, SetCredit

__all__ = ["WorkerSide"]

_REPORTS: Final = frozenset(Report.__args__)


@attrs.define(eq=False)
class WorkerSide:
    """Turns frames into commands, which it adds to those of the state."""

    _state: SessionState
    _strikes: tuple[float, ...] = ()

    def receive(self, message: Received, now: Moment) -> None:
        if self._state.hello is not None:
            self._state.heard_mono = now.mono
        reports: list[Report] = []
        before_credit: list[Report] | None = None
        others: list[Any] = []
        may_report = False
        said: Any
        for said in message.said:
            kind = type(said)
            if kind in _REPORTS:
                if may_report or (may_report := self._may(SCOPE_WORK, said.ref, others)):
                    reports.append(said)
            else:
                if kind is CreditSaid and self._state.outstanding.auto_credit:
                    self._state.outstanding.report(reports)
                    before_credit, reports = [*(before_credit or ()), *reports], []
                self._understand(said, now, others)
        self._state.outstanding.report(reports)
        if before_credit is None:
            before_credit, reports = reports, []
        self._report(before_credit)
        self._state.commands.extend(others)
        self._report(reports)
        if any(type(other) is Unreadable for other in others):
            self._strike(now)
        self._state.stop_when_idle()

    def _report(self, reports: Sequence[Report]) -> None:
        if reports:
            self._state.commands.append(Reports(session_id=self._state.session_id, reports=reports))

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
        """Whether the worker may say this now; if not, ``out`` says why (I2)."""
        if self._state.hello is None:
            self._complain(_hello_first(ref), out)
            return False
        if scope in self._state.peer.scopes:
            return True
        self._refuse(out, ref, ErrorCode.SCOPE_REQUIRED, f"the token lacks the scope {scope}")
        return False

    def _complain(self, said: Unreadable, out: list[Any]) -> None:
        if len(out) < self._state.limits.errors_max:
            out.append(said)

    def _refuse(self, out: list[Any], ref: Ref, code: ErrorCode, message: str) -> None:
        out.append(Settled(nacks=(Nacked(ref, Refusal(code, message)),)))

    def _greet(self, said: Greeted, now: Moment, out: list[Any]) -> None:
        if self._state.hello is not None:
            why = "this session has said hello; open another connection for another worker"
            code = ErrorCode.DUPLICATE_HELLO
            self._complain(Unreadable(ref=said.ref, code=code, message=why), out)
        elif (said.capacity or said.resume) and SCOPE_WORK not in self._state.peer.scopes:
            why = f"the token lacks the scope {SCOPE_WORK}, needed to hold leases"
            code = ErrorCode.SCOPE_REQUIRED
            self._complain(Unreadable(ref=said.ref, code=code, message=why), out)
        else:
            self._state.hello = said
            self._state.heard_mono = now.mono
            self._state.outstanding.auto_credit = said.auto_credit
            self._state.outstanding.hold(said.resume)
            self._state.attach(said, said.resume)

    def _take_credit(self, said: CreditSaid, out: list[Any]) -> None:
        if self._may(SCOPE_WORK, said.ref, out):
            self._state.outstanding.credit = said.slots
            out.append(SetCredit(session_id=self._state.session_id, slots=said.slots))
            if said.ref is not None:
                out.append(Settled(acks=(said.ref,)))

    def _beat(self, said: HeartbeatSaid, out: list[Any]) -> None:
        # A producer beats too: it renews what it holds, which is nothing, and needs no scope.
        if self._state.hello is None:
            self._complain(_hello_first(said.ref), out)
            return
        self._state.outstanding.beat(said.ref)
        out.append(
            Beat(
                session_id=self._state.session_id,
                ref=said.ref,
                leases=said.leases,
                progress=said.progress,
            )
        )

    def _drain(self, said: DrainSaid, out: list[Any]) -> None:
        if self._may(SCOPE_WORK, said.ref, out):
            self._state.draining = True
            out.append(Drain(session_id=self._state.session_id, ref=said.ref))

    def _submit(self, said: SubmitSaid, out: list[Any]) -> None:
        if not self._may(SCOPE_SUBMIT, said.ref, out):
            return
        if self._state.submits >= self._state.limits.submits_max:
            why = (
                f"{self._state.submits} submits of this session are unanswered; wait for their acks"
            )
            self._refuse(out, said.ref, ErrorCode.OVERLOADED, why)
            return
        self._state.submits += 1
        out.append(AskSubmit(said=said))

    def _strike(self, now: Moment) -> None:
        since = now.mono - self._state.limits.strikes_window_s
        self._strikes = (*(at for at in self._strikes if at > since), now.mono)
        if len(self._strikes) >= self._state.limits.strikes_max:
            self._state.hang_up(POLICY_VIOLATION, "too many frames that could not be understood")


def _hello_first(ref: Ref) -> Unreadable:
    return Unreadable(ref=ref, code=ErrorCode.HELLO_REQUIRED, message="say hello first")
