"""The redriver: replays many dead letters, one after another, at the rate that was asked for.

Decides which letter a redrive replays next and when, and when it has ended. It is told by doors
(start, pause, resume, stop) and by the shards and the store what became of its commands; it
commands reads of letters, replays, and records of where a redrive stands.

Definitions. A *course* is a redrive that has not ended, as it is remembered here
(``redrive_course``); ``redrive_records`` says what is recorded of it.

I1  A course has at most one command in flight, so a redrive changes in one order only.
I2  A letter is replayed by the shard that owns it, which closes the letter and counts the replay in
    one commit and refuses a closed one: however often it is asked, each letter is replayed once.
I3  Nothing is counted on a guess. After a lost answer the course is read again from the store
    behind everything that is under way. After a letter that somebody else has closed it is read at
    once: what closed it is in the store, and nothing of the course is under way (I1).
I4  A letter that cannot be replayed is counted, told in the ledger with its reason, and left open;
    the redrive goes on after it, also in a later life.
I5  Only letters as old as the redrive itself are replayed.
I6  An order that is committed when who gave it, and the life that took it, are gone is found when
    the store is looked through once more, and begins.
I7  Memory holds ``redrives_max`` courses of ``letters_max`` letters each, whatever is in the store.

Not here: how a letter is replayed (``core/lease_shard/past_jobs``), reading and asking (the shell).
"""

from collections.abc import Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.core.machine import Answer
from jobengine.core.redrive_course import Course
from jobengine.core.redrive_records import Recording, beginning, completion, failure, movement
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.redrive import UNFINISHED, Redrive, refuse_redrive
from jobengine.messages.redriver import (
    Busy,
    ChangeRedrive,
    Found,
    Letter,
    LettersRead,
    ReadFailed,
    Recorded,
    Recovered,
    RedriveAnswer,
    RedriverMessage,
    Refused,
    Replayed,
    Settled,
    StartRedrive,
    Unsettled,
)
from jobengine.messages.wake import Wake

__all__ = ["Redriver", "RedriverLimits"]

_INCARNATION_SHIFT: Final = 40
_AGAIN_S: Final = 1.0
_LATER: Final = frozenset({ErrorCode.STORE_UNAVAILABLE, ErrorCode.OVERLOADED})
_BUSY: Final = Refusal(ErrorCode.OVERLOADED, "too many requests are waiting; retry later")
_UNKNOWN: Final = Refusal(
    ErrorCode.STORE_UNAVAILABLE, "no answer in time; the request may still take effect"
)
_redrive_of: Final = msgspec.json.Decoder(Redrive).decode

_Outcome = Recorded | Replayed | Refused | Busy | Unsettled | Settled | LettersRead | ReadFailed


@attrs.frozen(kw_only=True)
class RedriverLimits:
    """Bounds of what is remembered. ``changes_max`` requests of one redrive may wait."""

    changes_max: int = 16
    letters_max: int = 64
    redrives_max: int = 256
    tenant_redrives_max: int = 8


class Redriver:
    """``handle`` is the only verb; see ``core/machine.py``."""

    def __init__(self, limits: RedriverLimits, incarnation: int = 1) -> None:
        self._limits = limits
        self._courses: dict[tuple[str, str], Course] = {}
        self._flying: dict[int, Course] = {}
        self._stamp = incarnation << _INCARNATION_SHIFT
        self._now = Moment(0.0, 0)
        self._commands: list[Any] = []

    @property
    def wakeup_at(self) -> float | None:
        """When the first course may go on."""
        times = (course.due_mono for course in self._courses.values())
        return min((at for at in times if at is not None), default=None)

    @property
    def unfinished(self) -> int:
        return len(self._courses)

    def handle(self, message: RedriverMessage | Wake, now: Moment) -> Sequence[Any]:
        self._now = now
        self._commands = []
        match message:
            case StartRedrive():
                self._start(message)
            case ChangeRedrive():
                self._ask_change(message)
            case Wake():
                for course in list(self._courses.values()):
                    self._go_on(course)
            case Recovered():
                for redrive in message.redrives:
                    self._go_on(self._add(redrive))
            case Found():
                self._found(message.redrives)
            case _:
                self._landed(message)
        return self._commands

    def _found(self, redrives: Sequence[Redrive]) -> None:
        """Take what is not known (I6). It may have ended since it was read, so it is settled first
        (I3)."""
        for redrive in redrives:
            if (redrive.tenant_id, redrive.redrive_id) not in self._courses:
                course = self._add(redrive)
                course.unsettle(in_doubt=True)
                self._go_on(course)

    # ---- requests

    def _start(self, message: StartRedrive) -> None:
        limits, courses = self._limits, self._courses.values()
        own = sum(course.redrive.tenant_id == message.tenant_id for course in courses)
        if own >= limits.tenant_redrives_max:
            why = f"{own} redrives of this tenant have not ended; stop one, or wait"
        elif len(courses) >= limits.redrives_max:
            why = "as many redrives as the node takes have not ended; try again later"
        else:
            recording = beginning(message)
            self._record(self._add(recording.after), recording)
            return
        self._answer(message.ask_id, Refusal(ErrorCode.CAPACITY_EXCEEDED, why))

    def _ask_change(self, message: ChangeRedrive) -> None:
        course = self._courses.get((message.tenant_id, message.redrive_id))
        if course is None:
            self._answer(message.ask_id, RedriveAnswer(redrive=None))
        elif len(course.changes) >= self._limits.changes_max:
            self._answer(message.ask_id, _BUSY)
        else:
            course.changes.append(message)
            self._go_on(course)

    # ---- what a course does next

    def _add(self, redrive: Redrive) -> Course:
        course = Course(redrive, redrive.after or (redrive.order.created_at + 1, ""))
        self._courses[course.key] = course
        return course

    def _go_on(self, course: Course) -> None:
        """Command the next thing that is due, unless something is in flight (I1)."""
        while course.flight is None and not course.unsettled and course.changes:
            self._change(course, course.changes.popleft())
        due = course.due_mono
        if due is None or due > self._now.mono:
            return
        redrive = course.redrive
        if course.unsettled:
            self._commands.append(course.settling(self._fly(course, None)))
        elif redrive.exhausted or (course.all_read and not course.letters):
            self._record(course, completion(redrive, self._now.at))
        elif course.letters:
            stamp = self._fly(course, course.letters[0])
            self._commands.append(course.replaying(stamp, self._now.mono))
        else:
            stamp = self._fly(course, None)
            self._commands.append(course.reading(stamp, self._limits.letters_max))

    def _change(self, course: Course, message: ChangeRedrive) -> None:
        refusal = refuse_redrive(course.redrive, message.target)
        if refusal is not None:
            self._answer(message.ask_id, refusal)
        else:
            self._record(course, movement(course.redrive, message, self._now.at))

    def _record(self, course: Course, recording: Recording) -> None:
        self._commands.append(recording.command(self._fly(course, recording)))

    def _fly(self, course: Course, subject: Letter | Recording | None) -> int:
        self._stamp += 1
        course.flight = (self._stamp, subject)
        self._flying[self._stamp] = course
        return self._stamp

    # ---- what became of a flight

    def _landed(self, message: _Outcome) -> None:
        course = self._flying.pop(message.stamp, None)
        if course is None or course.flight is None:
            return
        _, subject = course.flight
        course.flight = None
        match message:
            case Recorded():
                self._recorded(course, subject, message)
            case Replayed():
                replayed = course.redrive.replayed + 1
                course.redrive = msgspec.structs.replace(course.redrive, replayed=replayed)
                course.tried()
            case Refused():
                self._refused(course, subject, message.refusal)
            case Busy():
                self._refused(course, subject, _BUSY)
            case Unsettled():
                course.unsettle(in_doubt=True)
                if isinstance(subject, Recording) and subject.ask_id is not None:
                    self._answer(subject.ask_id, _UNKNOWN)
            case Settled():
                self._settled(course, message.redrive)
            case LettersRead():
                course.letters.extend(message.letters)
                course.all_read = len(message.letters) < self._limits.letters_max
            case ReadFailed():
                course.again_mono = self._now.mono + _AGAIN_S
        if course.key in self._courses:
            self._go_on(course)

    def _recorded(self, course: Course, recording: Recording, message: Recorded) -> None:
        after, answer = recording.after, message.answer
        if answer.replayed:
            # Asked for before under the same idempotency key, and answered as it was then.
            assert answer.stored is not None
            after = _redrive_of(answer.stored)
            if recording.after is course.redrive:
                self._drop(course)
        else:
            if after.failed > course.redrive.failed:
                course.tried()
            course.redrive = after
            if after.state not in UNFINISHED:
                self._drop(course)
        if recording.ask_id is not None:
            self._answer(recording.ask_id, RedriveAnswer(redrive=after, replayed=answer.replayed))

    def _refused(
        self, course: Course, subject: Letter | Recording | None, refusal: Refusal
    ) -> None:
        if isinstance(subject, Recording) and subject.ask_id is not None:
            self._answer(subject.ask_id, refusal)
            if subject.after is course.redrive:
                self._drop(course)
        elif isinstance(subject, Recording) or refusal.code in _LATER:
            course.again_mono = self._now.mono + _AGAIN_S
        elif refusal.code == ErrorCode.DEAD_LETTER_CLOSED:
            course.tried()
            course.unsettle(in_doubt=False)
        else:
            why = f"{refusal.code}: {refusal.message}"
            self._record(course, failure(course.redrive, course.letters[0], why))

    def _settled(self, course: Course, redrive: Redrive | None) -> None:
        course.unsettled = False
        if redrive is None or redrive.state not in UNFINISHED:
            self._drop(course)
        else:
            course.settle(redrive)

    def _drop(self, course: Course) -> None:
        """It has ended, or never was."""
        del self._courses[course.key]
        for message in course.changes:
            self._answer(message.ask_id, RedriveAnswer(redrive=None))
        course.changes.clear()

    def _answer(self, ask_id: int, value: RedriveAnswer | Refusal) -> None:
        self._commands.append(Answer(ask_id, value))
