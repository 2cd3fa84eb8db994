"""The redriver decides alone: the test is its shards, its ledger and its store."""

from typing import Any

import msgspec

from jobengine.core.machine import Answer
from jobengine.core.redriver import Redriver, RedriverLimits
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.redrive import Redrive, RedriveOrder, RedriveState
from jobengine.messages.lease_shard import Actor, AdministerAnswer, IdempotencyClaim
from jobengine.messages.redriver import (
    Busy,
    ChangeRedrive,
    Found,
    Letter,
    LettersRead,
    ReadFailed,
    ReadLetters,
    Record,
    Recorded,
    Recovered,
    RedriveAnswer,
    Refused,
    Replayed,
    ReplayLetter,
    Settle,
    Settled,
    StartRedrive,
    Unsettled,
)
from jobengine.messages.wake import Wake

AT = 1_767_225_600_000_000
ACTOR = Actor("ops", "upstream is back", "T-1")
CLAIM = IdempotencyClaim("k", "/p", "d")
GONE = Refusal(ErrorCode.NOT_FOUND, "no job here")
CLOSED = Refusal(ErrorCode.DEAD_LETTER_CLOSED, "replayed already")


def order(**fields: Any) -> RedriveOrder:
    given: dict[str, Any] = {
        "created_at": AT,
        "created_by": "ops",
        "matched": 3,
        "reason": "upstream is back",
        "spacing_us": 100_000,
        "ticket": "T-1",
    }
    return RedriveOrder(**(given | fields))


def letter(number: int) -> Letter:
    return Letter(AT - number, f"d{number}", f"j{number}")


class Driver:
    """Answers nothing by itself: each test says what becomes of the latest command."""

    def __init__(self, *unfinished: Redrive, **limits: Any) -> None:
        self.core = Redriver(RedriverLimits(**limits))
        self.mono = 10.0
        self.commands: list[Any] = []
        self.send(Recovered(redrives=unfinished))

    def send(self, message: Any) -> Any:
        """The last thing commanded because of it."""
        now = Moment(self.mono, AT + round(self.mono * 1e6))
        commands = self.core.handle(message, now)
        self.commands += commands
        return commands[-1] if commands else None

    def wait(self) -> Any:
        """Sleep until the core wants to be woken; what it then commands."""
        assert self.core.wakeup_at is not None
        self.mono = max(self.mono, self.core.wakeup_at)
        return self.send(Wake())

    def start(self, redrive_id: str = "r1", tenant_id: str = "acme", **fields: Any) -> Any:
        return self.send(
            StartRedrive(
                ask_id=1,
                tenant_id=tenant_id,
                actor=ACTOR,
                redrive_id=redrive_id,
                order=order(**fields),
            )
        )

    def change(self, target: RedriveState, ask_id: int = 2, claim: Any = None) -> Any:
        return self.send(
            ChangeRedrive(
                ask_id=ask_id,
                tenant_id="acme",
                actor=ACTOR,
                redrive_id="r1",
                target=target,
                claim=claim,
            )
        )

    def recorded(self, command: Record, **answer: Any) -> Any:
        return self.send(Recorded(stamp=command.stamp, answer=AdministerAnswer(**answer)))

    def running(self, *letters: Letter, **fields: Any) -> Any:
        """A redrive that has read these letters; the command for the first of them."""
        read = self.recorded(self.start(**fields))
        return self.send(LettersRead(stamp=read.stamp, letters=letters))

    def answer(self) -> Any:
        return [each for each in self.commands if isinstance(each, Answer)][-1].value


def test_a_redrive_begins_with_its_commit_and_reads_letters_no_younger_than_itself() -> None:
    driver = Driver()
    command = driver.start(signature="s")
    assert isinstance(command, Record)
    assert (command.kind, command.actor) == ("deadletter.redrive_started", ACTOR)
    assert driver.core.wakeup_at is None
    assert not any(isinstance(each, Answer) for each in driver.commands)
    read = driver.recorded(command)
    assert isinstance(read, ReadLetters)
    assert (read.after, read.order.signature) == ((AT + 1, ""), "s")
    assert driver.answer().redrive.state == "running"


def test_letters_are_replayed_in_order_at_the_rate_asked_for_and_then_it_is_complete() -> None:
    driver = Driver(letters_max=10)
    command = driver.running(letter(1), letter(2), letter(3))
    begun = driver.mono
    for number in (1, 2, 3):
        assert isinstance(command, ReplayLetter)
        assert command.letter == letter(number)
        assert command.actor == ACTOR
        assert driver.mono >= begun + (number - 1) * 0.1 - 1e-9
        following = driver.send(Replayed(stamp=command.stamp))
        command = driver.wait() if following is None else following
    assert isinstance(command, Record)
    assert command.kind == "deadletter.redrive_completed"
    assert command.row.state == "completed"
    assert (command.actor.subject, command.actor.ticket) == ("engine", "T-1")
    assert msgspec.json.decode(command.data)["replayed"] == 3
    driver.recorded(command)
    assert driver.core.unfinished == 0


def test_a_full_page_is_followed_by_the_next_one_behind_its_last_letter() -> None:
    driver = Driver(letters_max=2)
    command = driver.running(letter(1), letter(2))
    driver.send(Replayed(stamp=command.stamp))
    command = driver.wait()
    read = driver.send(Replayed(stamp=command.stamp))
    assert isinstance(read, ReadLetters)
    assert read.after == (AT - 2, "d2")


def test_no_more_letters_are_tried_than_the_cap_allows() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2), letters_max=1)
    end = driver.send(Replayed(stamp=command.stamp))
    assert isinstance(end, Record)
    assert end.kind == "deadletter.redrive_completed"


def test_a_letter_that_cannot_be_replayed_is_recorded_and_the_next_one_follows() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2))
    failed = driver.send(Refused(stamp=command.stamp, refusal=GONE))
    assert isinstance(failed, Record)
    assert (failed.row.failed, failed.row.after_at, failed.row.after_id) == (1, AT - 1, "d1")
    assert "NOT_FOUND" in (failed.row.last_error or "")
    driver.recorded(failed)
    following = driver.wait()
    assert following.letter == letter(2)


def test_a_database_that_is_away_costs_a_pause_and_no_letter() -> None:
    driver = Driver()
    command = driver.running(letter(1))
    away = Refusal(ErrorCode.STORE_UNAVAILABLE, "away")
    assert driver.send(Refused(stamp=command.stamp, refusal=away)) is None
    at = driver.mono
    again = driver.wait()
    assert driver.mono >= at + 1.0
    assert again.letter == letter(1)
    assert driver.send(Busy(stamp=again.stamp)) is None
    assert driver.wait().letter == letter(1)


def test_a_lost_answer_is_settled_by_the_store_and_never_guessed() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2))
    settle = driver.send(Unsettled(stamp=command.stamp))
    assert isinstance(settle, Settle)
    assert settle.fenced
    # An answer that comes all the same is of no interest any more.
    assert driver.send(Replayed(stamp=command.stamp)) is None
    assert driver.send(ReadFailed(stamp=settle.stamp)) is None
    settle = driver.wait()
    stored = Redrive(tenant_id="acme", redrive_id="r1", order=order(), replayed=1, changed_at=AT)
    read = driver.send(Settled(stamp=settle.stamp, redrive=stored))
    assert isinstance(read, ReadLetters)
    assert read.after == (AT + 1, "")
    command = driver.send(LettersRead(stamp=read.stamp, letters=[letter(2)]))
    assert command.letter == letter(2)
    end = driver.send(Replayed(stamp=command.stamp))
    assert msgspec.json.decode(end.data)["replayed"] == 2


def test_a_letter_closed_by_somebody_else_is_passed_over_and_not_counted() -> None:
    driver = Driver()
    command = driver.running(letter(1))
    settle = driver.send(Refused(stamp=command.stamp, refusal=CLOSED))
    assert isinstance(settle, Settle)
    assert not settle.fenced, "the ledger need not stop for it"
    stored = Redrive(tenant_id="acme", redrive_id="r1", order=order(), changed_at=AT)
    read = driver.send(Settled(stamp=settle.stamp, redrive=stored))
    assert read.after == (AT - 1, "d1")
    end = driver.send(LettersRead(stamp=read.stamp, letters=[]))
    assert msgspec.json.decode(end.data) == {"failed": 0, "redriveId": "r1", "replayed": 0}


def test_a_paused_redrive_rests_until_it_is_resumed() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2))
    # A change waits for what is in flight, so that one commit decides.
    assert driver.change(RedriveState.PAUSED) is None
    pause = driver.send(Replayed(stamp=command.stamp))
    assert (pause.kind, pause.row.state) == ("deadletter.redrive_paused", "paused")
    driver.recorded(pause)
    assert (driver.answer().redrive.state, driver.answer().redrive.replayed) == ("paused", 1)
    assert driver.core.wakeup_at is None
    resume = driver.change(RedriveState.RUNNING)
    assert resume.kind == "deadletter.redrive_resumed"
    driver.recorded(resume)
    assert driver.wait().letter == letter(2)


def test_a_stopped_redrive_is_over_and_whoever_still_asks_is_sent_to_the_store() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2))
    driver.change(RedriveState.STOPPED)
    driver.change(RedriveState.PAUSED, ask_id=3)
    stop = driver.send(Replayed(stamp=command.stamp))
    driver.recorded(stop)
    answers = [each for each in driver.commands if isinstance(each, Answer)]
    assert answers[-1].value.redrive.state == "stopped"
    assert answers[-2] == Answer(3, RedriveAnswer(redrive=None))
    assert driver.core.unfinished == 0
    driver.change(RedriveState.PAUSED, ask_id=4)
    assert driver.answer() == RedriveAnswer(redrive=None)


def test_what_the_state_does_not_allow_is_refused_with_what_it_does() -> None:
    driver = Driver()
    driver.running(letter(1))
    driver.change(RedriveState.RUNNING)
    driver.send(Replayed(stamp=driver.commands[-1].stamp))
    refusals = [e.value for e in driver.commands if isinstance(e, Answer) and e.ask_id == 2]
    assert refusals[0].code == ErrorCode.ILLEGAL_TRANSITION
    assert refusals[0].details["allowed"] == ["paused", "stopped"]


def test_a_repeated_request_is_answered_as_the_first_time_and_changes_nothing() -> None:
    driver = Driver()
    command = driver.running(letter(1), letter(2))
    driver.change(RedriveState.PAUSED, claim=CLAIM)
    pause = driver.send(Replayed(stamp=command.stamp))
    assert pause.claim == CLAIM
    driver.recorded(pause, stored=pause.facts, replayed=True)
    assert driver.answer().replayed
    assert driver.wait().letter == letter(2)


def test_a_repeated_start_begins_no_second_redrive() -> None:
    driver = Driver()
    first = driver.start()
    driver.recorded(first)
    again = driver.start("r2")
    driver.recorded(again, stored=first.facts, replayed=True)
    assert driver.answer().redrive.redrive_id == "r1"
    assert driver.core.unfinished == 1


def test_a_start_that_the_store_refuses_leaves_nothing_behind() -> None:
    driver = Driver()
    command = driver.start()
    driver.send(Refused(stamp=command.stamp, refusal=GONE))
    assert driver.answer() == GONE
    assert driver.core.unfinished == 0


def test_a_start_whose_answer_is_lost_goes_on_if_it_took_effect() -> None:
    for took_effect in (True, False):
        driver = Driver()
        settle = driver.send(Unsettled(stamp=driver.start().stamp))
        assert driver.answer().code == ErrorCode.STORE_UNAVAILABLE
        stored = Redrive(tenant_id="acme", redrive_id="r1", order=order(), changed_at=AT)
        driver.send(Settled(stamp=settle.stamp, redrive=stored if took_effect else None))
        assert driver.core.unfinished == took_effect


def test_redrives_are_bounded_for_a_tenant_and_for_the_node() -> None:
    driver = Driver(tenant_redrives_max=1, redrives_max=2)
    driver.start("r1")
    driver.start("r2")
    assert driver.answer().code == ErrorCode.CAPACITY_EXCEEDED
    driver.start("r3", tenant_id="b")
    driver.start("r4", tenant_id="c")
    assert driver.answer().code == ErrorCode.CAPACITY_EXCEEDED
    assert driver.core.unfinished == 2


def test_an_order_that_was_committed_after_a_life_had_begun_is_found_and_begins() -> None:
    driver = Driver()
    late = Redrive(tenant_id="acme", redrive_id="r1", order=order(), changed_at=AT)
    settle = driver.send(Found(redrives=[late]))
    assert isinstance(settle, Settle)
    assert settle.fenced
    read = driver.send(Settled(stamp=settle.stamp, redrive=late))
    assert isinstance(read, ReadLetters)
    assert driver.send(Found(redrives=[late])) is None


def test_what_has_ended_since_it_was_found_is_left_alone() -> None:
    driver = Driver()
    found = Redrive(tenant_id="acme", redrive_id="r1", order=order(), changed_at=AT)
    settle = driver.send(Found(redrives=[found]))
    over = msgspec.structs.replace(found, state=RedriveState.COMPLETED)
    assert driver.send(Settled(stamp=settle.stamp, redrive=over)) is None
    assert driver.core.unfinished == 0


def test_a_new_life_goes_on_behind_the_last_letter_that_failed() -> None:
    paused = Redrive(
        tenant_id="acme", redrive_id="r0", order=order(), state="paused", changed_at=AT
    )
    running = Redrive(
        tenant_id="acme",
        redrive_id="r1",
        order=order(),
        replayed=4,
        failed=1,
        after=(AT - 7, "d7"),
        changed_at=AT,
    )
    driver = Driver(paused, running)
    (read,) = driver.commands
    assert (read.after, driver.core.unfinished) == ((AT - 7, "d7"), 2)
    end = driver.send(LettersRead(stamp=read.stamp, letters=[]))
    assert msgspec.json.decode(end.data) == {"failed": 1, "redriveId": "r1", "replayed": 4}
