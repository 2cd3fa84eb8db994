"""The breaker: every position against every input, and whole lives against a model."""

from collections.abc import Callable

import attrs
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobengine.core.breaker import BUCKET_US, BUCKETS, Breaker
from jobengine.core.breaker_state import (
    TRANSITIONS,
    BreakerChange,
    BreakerPolicy,
    BreakerState,
    Cause,
    Position,
    Trigger,
)
from jobengine.domain.failure import Failure
from jobengine.domain.instant import MINUTE, SECOND
from jobengine.domain.outcome import Outcome, speaks_of_source

T0 = 1_800_000_000 * SECOND
GOOD, BAD, UNREACHABLE = Outcome.GOOD, Outcome.BAD, Outcome.UNREACHABLE
CLOSED, OPEN, HALF_OPEN = Position.CLOSED, Position.OPEN, Position.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = Position.FORCED_OPEN, Position.FORCED_CLOSED


def run(breaker: Breaker, at: int, *outcomes: Outcome | None) -> BreakerChange | None:
    """Jobs one after the other, until a change that is not the step to half open."""
    for number, outcome in enumerate(outcomes):
        lease_id = f"{at}-{number}"
        breaker.started(at, lease_id)
        change = breaker.ended(at, lease_id, outcome)
        if change is not None:
            return change
    return None


def opened(at: int = T0) -> Breaker:
    breaker = Breaker()
    assert run(breaker, at, *[UNREACHABLE] * 5) is not None
    return breaker


def half_opened(at: int = T0) -> Breaker:
    """With one probe, "p1", under way."""
    breaker = opened(at - 30 * SECOND)
    assert breaker.started(at, "p1") is not None
    return breaker


def forced_open() -> Breaker:
    breaker = Breaker()
    breaker.force_open(T0)
    return breaker


def forced_closed() -> Breaker:
    breaker = Breaker()
    breaker.force_closed(T0)
    return breaker


MAKE: dict[Position, Callable[[], Breaker]] = {
    CLOSED: Breaker,
    OPEN: opened,
    HALF_OPEN: half_opened,
    FORCED_OPEN: forced_open,
    FORCED_CLOSED: forced_closed,
}


def last_probe(breaker: Breaker, outcome: Outcome | None) -> BreakerChange | None:
    """Two good jobs and then this one, all started now."""
    for lease_id in ("a", "b"):
        breaker.started(T0, lease_id)
        breaker.ended(T0, lease_id, GOOD)
    breaker.ended(T0, "p1", None)
    breaker.started(T0, "c")
    return breaker.ended(T0, "c", outcome)


INPUTS: dict[str, Callable[[Breaker], BreakerChange | None]] = {
    "a job starts at once": lambda b: b.started(T0, "x"),
    "a job starts when the open time is over": lambda b: b.started(T0 + 30 * SECOND, "x"),
    "a stranger ends well": lambda b: b.ended(T0, "x", GOOD),
    "a stranger ends badly": lambda b: b.ended(T0, "x", BAD),
    "a stranger cannot connect": lambda b: b.ended(T0, "x", UNREACHABLE),
    "a stranger ends without an outcome": lambda b: b.ended(T0, "x", None),
    "a probe ends well": lambda b: b.ended(T0, "p1", GOOD),
    "a probe ends badly": lambda b: b.ended(T0, "p1", BAD),
    "a probe cannot connect": lambda b: b.ended(T0, "p1", UNREACHABLE),
    "a probe ends without an outcome": lambda b: b.ended(T0, "p1", None),
    "the third job is good too": lambda b: last_probe(b, GOOD),
    "the third job is bad": lambda b: last_probe(b, BAD),
    "the third job says nothing": lambda b: last_probe(b, None),
    "five cannot connect": lambda b: run(b, T0, *[UNREACHABLE] * 5),
    "half of twenty are bad": lambda b: run(b, T0, *[BAD] * 10, *[GOOD] * 10),
    "an operator forces it open": lambda b: b.force_open(T0),
    "an operator forces it closed": lambda b: b.force_closed(T0),
    "an operator releases it": lambda b: b.release(T0),
}

MOVES = {
    (CLOSED, "five cannot connect"): (OPEN, Trigger.TRIP, Cause.UNREACHABLE),
    (CLOSED, "half of twenty are bad"): (OPEN, Trigger.TRIP, Cause.FAILURE_RATIO),
    (OPEN, "a job starts when the open time is over"): (
        HALF_OPEN,
        Trigger.PROBE,
        Cause.OPEN_TIME_OVER,
    ),
    (HALF_OPEN, "a probe ends badly"): (OPEN, Trigger.RELAPSE, Cause.PROBE_FAILED),
    (HALF_OPEN, "a probe cannot connect"): (OPEN, Trigger.RELAPSE, Cause.PROBE_FAILED),
    (HALF_OPEN, "the third job is good too"): (CLOSED, Trigger.RECOVER, Cause.PROBES_GOOD),
    (HALF_OPEN, "the third job is bad"): (OPEN, Trigger.RELAPSE, Cause.PROBE_FAILED),
    (HALF_OPEN, "five cannot connect"): (OPEN, Trigger.RELAPSE, Cause.PROBE_FAILED),
    (HALF_OPEN, "half of twenty are bad"): (OPEN, Trigger.RELAPSE, Cause.PROBE_FAILED),
    (FORCED_OPEN, "an operator releases it"): (HALF_OPEN, Trigger.RELEASE, Cause.RELEASED),
    (FORCED_CLOSED, "an operator releases it"): (CLOSED, Trigger.RELEASE, Cause.RELEASED),
} | {
    (source, f"an operator forces it {word}"): (target, trigger, Cause.FORCED)
    for word, target, trigger in (
        ("open", FORCED_OPEN, Trigger.FORCE_OPEN),
        ("closed", FORCED_CLOSED, Trigger.FORCE_CLOSED),
    )
    for source in Position
    if source is not target
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("source", Position)
def test_every_input_moves_every_position_as_the_table_says(source: Position, name: str) -> None:
    breaker = MAKE[source]()
    before = breaker.state
    assert before.position is source
    change = INPUTS[name](breaker)
    move = MOVES.get((source, name))
    if move is None:
        assert change is None
        assert breaker.state == before
        return
    target, trigger, cause = move
    (row,) = [r for r in TRANSITIONS if (r.source, r.trigger) == (source, trigger)]
    assert row.target is target
    assert change is not None
    assert (change.source, change.state.position, change.event) == (source, target, row.event)
    assert change.state.cause is cause
    assert breaker.state == change.state


def test_every_row_of_the_table_is_walked_and_each_pair_has_one_row() -> None:
    pairs = [(row.source, row.trigger) for row in TRANSITIONS]
    assert len(set(pairs)) == len(pairs)
    assert {(source, trigger) for (source, _), (_, trigger, _) in MOVES.items()} == set(pairs)


def test_a_ratio_needs_twenty_outcomes_and_the_twentieth_decides_whatever_it_is() -> None:
    breaker = Breaker()
    assert run(breaker, T0, *[BAD] * 19) is None
    change = run(breaker, T0, GOOD)
    assert change is not None
    assert (change.state.observed, change.state.limit) == (95, 50)
    assert change.state.opens_at == T0 + 30 * SECOND


def test_less_than_half_does_not_open() -> None:
    assert run(Breaker(), T0, *[GOOD] * 51, *[BAD] * 50) is None


def test_what_is_older_than_a_minute_does_not_count() -> None:
    breaker = Breaker()
    assert run(breaker, T0, *[BAD] * 19) is None
    assert run(breaker, T0 + MINUTE, *[BAD] * 19) is None
    assert run(breaker, T0 + MINUTE, BAD) is not None


@pytest.mark.parametrize("between", [GOOD, BAD])
def test_an_answer_between_connection_failures_starts_their_row_again(between: Outcome) -> None:
    breaker = Breaker()
    assert run(breaker, T0, *[UNREACHABLE] * 4, between, *[UNREACHABLE] * 4) is None
    assert run(breaker, T0, UNREACHABLE) is not None


def test_an_end_without_an_outcome_neither_counts_nor_breaks_a_row() -> None:
    breaker = Breaker()
    assert run(breaker, T0, *[UNREACHABLE] * 4, *[None] * 50) is None
    assert breaker.counts(T0) == (4, 4)
    assert run(breaker, T0, UNREACHABLE) is not None


def test_an_open_breaker_says_what_it_saw_and_when_it_lets_jobs_probe() -> None:
    breaker = opened()
    verdict = breaker.may_start(T0 + 30 * SECOND - 1)
    assert not verdict.admits
    assert (verdict.cause, verdict.observed, verdict.limit) == (Cause.UNREACHABLE, 5, 5)
    assert verdict.opens_at == T0 + 30 * SECOND
    assert breaker.may_start(T0 + 30 * SECOND).admits


def test_a_look_changes_nothing() -> None:
    breaker = opened()
    before = breaker.state
    assert breaker.may_start(T0 + MINUTE).admits
    assert breaker.state is before


def test_three_probes_at_a_time_and_an_event_not_an_instant_opens_the_gate_again() -> None:
    breaker = half_opened()
    assert breaker.state.opened_at == T0 - 30 * SECOND
    breaker.started(T0, "p2")
    assert breaker.may_start(T0).admits
    breaker.started(T0, "p3")
    verdict = breaker.may_start(T0 + MINUTE)
    assert (verdict.admits, verdict.observed, verdict.limit) == (False, 3, 3)
    assert verdict.opens_at is None
    breaker.ended(T0, "p2", GOOD)
    assert not breaker.may_start(T0).admits, "a good probe keeps its place"
    breaker.ended(T0, "p3", None)
    assert breaker.may_start(T0).admits, "one without an outcome gives its place back"


def test_jobs_from_before_and_probes_of_an_earlier_round_decide_nothing() -> None:
    breaker = half_opened()
    breaker.started(T0, "p2")
    assert breaker.ended(T0, "older", BAD) is None
    assert breaker.ended(T0, "p1", BAD) is not None
    later = T0 + MINUTE
    assert breaker.started(later, "q1") is not None
    assert breaker.ended(later, "p2", BAD) is None
    for lease_id in ("older", "p2"):
        assert breaker.ended(later, lease_id, GOOD) is None
    assert breaker.state.position is HALF_OPEN


def test_each_failed_round_doubles_the_open_time_up_to_ten_minutes() -> None:
    breaker = opened()
    spans = [breaker.state.open_us]
    for _ in range(7):
        change = run(breaker, breaker.state.opens_at, BAD)
        assert change is not None
        spans.append(change.state.opens_at - change.at)
    assert [span // SECOND for span in spans] == [30, 60, 120, 240, 480, 600, 600, 600]


def test_the_open_time_starts_anew_only_after_ten_minutes_closed() -> None:
    for closed_us, expected_s in ((10 * MINUTE - 1, 60), (10 * MINUTE, 30)):
        breaker = opened()
        run(breaker, breaker.state.opens_at, BAD)
        closed_at = breaker.state.opens_at
        change = run(breaker, closed_at, GOOD, GOOD, GOOD)
        assert change is not None
        assert change.state.position is CLOSED
        run(breaker, closed_at + closed_us, *[UNREACHABLE] * 5)
        assert breaker.state.open_us == expected_s * SECOND


def test_a_clock_that_steps_back_never_keeps_it_open_for_longer() -> None:
    breaker = opened()
    assert breaker.may_start(T0 - 3600 * SECOND).admits
    assert breaker.started(T0 - 3600 * SECOND, "p1") is not None


def test_a_clock_that_steps_back_far_forgets_the_minute_and_a_little_keeps_it() -> None:
    near, far = Breaker(), Breaker()
    run(near, T0, *[BAD] * 19)
    assert run(near, T0 - 30 * SECOND, BAD) is not None
    run(far, T0, *[BAD] * 19)
    assert run(far, T0 - 3600 * SECOND, BAD) is None
    assert far.counts(T0 - 3600 * SECOND) == (1, 1)


def test_memory_is_bounded_however_long_it_runs_and_however_the_clock_steps() -> None:
    breaker = Breaker()
    for number in range(100):
        run(breaker, T0 + number * BUCKET_US, GOOD)
        run(breaker, T0 + number * BUCKET_US - 7 * SECOND, GOOD)
        assert len(breaker._buckets) <= BUCKETS
    assert breaker.counts(T0 + 99 * BUCKET_US) == (0, 2 * BUCKETS)


def test_time_under_a_forced_close_counts_as_closed() -> None:
    breaker = opened()
    run(breaker, breaker.state.opens_at, BAD)
    closed_at = breaker.state.opens_at
    run(breaker, closed_at, GOOD, GOOD, GOOD)
    breaker.force_closed(closed_at + MINUTE)
    breaker.release(closed_at + 10 * MINUTE)
    run(breaker, closed_at + 10 * MINUTE, *[UNREACHABLE] * 5)
    assert breaker.state.open_us == 30 * SECOND


def test_forced_open_never_opens_by_time_and_probes_after_release() -> None:
    breaker = forced_open()
    verdict = breaker.may_start(T0 + 3600 * SECOND)
    assert (verdict.admits, verdict.cause, verdict.opens_at) == (False, Cause.FORCED, None)
    breaker.release(T0)
    assert [breaker.started(T0, f"p{n}") for n in range(3)] == [None] * 3
    assert not breaker.may_start(T0).admits


def test_a_failed_round_after_a_force_opens_for_the_shortest_time_once_the_past_is_settled() -> (
    None
):
    breaker = opened()
    run(breaker, breaker.state.opens_at, GOOD, GOOD, GOOD)
    later = T0 + 3600 * SECOND
    breaker.force_open(later)
    breaker.release(later)
    run(breaker, later, BAD)
    assert breaker.state.open_us == 30 * SECOND


def test_forced_closed_starts_everything_and_goes_on_counting() -> None:
    breaker = forced_closed()
    assert run(breaker, T0, *[BAD] * 40) is None
    assert breaker.may_start(T0).admits
    breaker.release(T0)
    assert run(breaker, T0, GOOD) is not None, "the counted minute decides with the next outcome"


@pytest.mark.parametrize("source", Position)
def test_a_restored_breaker_stands_where_it_stood(source: Position) -> None:
    stored = msgspec.json.encode(MAKE[source]().state)
    breaker = Breaker(state=msgspec.json.decode(stored, type=BreakerState))
    assert breaker.state.position is source
    assert breaker.may_start(T0).admits == (source not in {OPEN, FORCED_OPEN})


def test_probes_under_way_at_a_restart_are_forgotten_and_given_again() -> None:
    before = half_opened()
    before.started(T0, "p2")
    after = Breaker(state=before.state)
    assert after.ended(T0, "p1", BAD) is None
    for n in range(3):
        assert after.may_start(T0).admits
        after.started(T0, f"q{n}")
    assert not after.may_start(T0).admits


def test_a_breaker_without_evidence_can_be_forgotten() -> None:
    breaker = Breaker()
    assert breaker.is_idle(T0)
    run(breaker, T0, BAD)
    assert not breaker.is_idle(T0)
    assert breaker.is_idle(T0 + MINUTE)
    run(breaker, T0, UNREACHABLE)
    assert not breaker.is_idle(T0 + MINUTE), "a row of connection failures has no age"
    healed = opened()
    closed_at = healed.state.opens_at
    run(healed, closed_at, GOOD, GOOD, GOOD)
    assert not healed.is_idle(closed_at + MINUTE), "it still knows how long it was open"
    assert healed.is_idle(closed_at + 10 * MINUTE)


@pytest.mark.parametrize(
    ("class_", "http_status", "expected"),
    [
        ("httpx.HTTPStatusError", 500, BAD),
        ("httpx.HTTPStatusError", 503, BAD),
        ("httpx.HTTPStatusError", 599, BAD),
        ("UpstreamThrottled", 429, BAD),
        ("httpx.HTTPStatusError", 408, BAD),
        ("httpx.HTTPStatusError", 404, None),
        ("httpx.HTTPStatusError", 401, None),
        ("builtins.ConnectionError", 404, None),
        ("json.JSONDecodeError", 200, None),
        ("httpx.ConnectError", None, UNREACHABLE),
        ("httpx.ConnectTimeout", None, UNREACHABLE),
        ("ConnectionRefusedError", None, UNREACHABLE),
        ("socket.gaierror", None, UNREACHABLE),
        ("ssl.SSLCertVerificationError", None, UNREACHABLE),
        ("BrokenPipeError", None, UNREACHABLE),
        ("trio.BrokenResourceError", None, UNREACHABLE),
        ("httpx.RemoteProtocolError", None, UNREACHABLE),
        ("httpx.ReadError", None, UNREACHABLE),
        ("httpx.ReadTimeout", None, BAD),
        ("TimeoutError", None, BAD),
        ("trio.TooSlowError", None, BAD),
        ("TimedOut", None, BAD),
        ("asyncio.exceptions.TimeoutError", None, BAD),
        ("DEADLINE_EXCEEDED", None, BAD),
        ("httpx.PoolTimeout", None, None),
        ("LeaseExpired", None, None),
        ("ValueError", None, None),
        ("connectors.github.ParseError", None, None),
        ("KeyError", None, None),
    ],
)
def test_only_failures_that_speak_of_the_source_have_an_outcome(
    class_: str, http_status: int | None, expected: Outcome | None
) -> None:
    failure = Failure(class_=class_, http_status=http_status, message="", retryable=True)
    assert speaks_of_source(failure) is expected


SMALL = BreakerPolicy(
    outcomes_min=4,
    unreachable_max=3,
    open_us=30 * SECOND,
    open_us_max=100 * SECOND,
    settled_us=120 * SECOND,
    probes=2,
)


@attrs.define
class Model:
    """The specification with unlimited memory: every outcome and every round is kept."""

    position: Position = CLOSED
    outcomes: list[tuple[int, Outcome]] = attrs.field(factory=list)
    opened_at: int = 0
    closed_at: int | None = None
    span: int = 0
    round: dict[str, Outcome | None] = attrs.field(factory=dict)

    def live(self, at: int) -> list[Outcome]:
        first = at // BUCKET_US - BUCKETS + 1
        return [outcome for when, outcome in self.outcomes if when // BUCKET_US >= first]

    def admits(self, at: int) -> bool:
        match self.position:
            case Position.OPEN:
                return at >= self.opened_at + self.span
            case Position.HALF_OPEN:
                return len(self.round) < SMALL.probes
            case position:
                return position is not FORCED_OPEN

    def start(self, at: int, lease_id: str) -> None:
        if not self.admits(at):
            return
        if self.position is OPEN:
            self.position, self.round = HALF_OPEN, {}
        if self.position is HALF_OPEN:
            self.round[lease_id] = None

    def end(self, at: int, lease_id: str, outcome: Outcome | None) -> None:
        if self.position is HALF_OPEN:
            if lease_id in self.round and self.round[lease_id] is None:
                self.end_probe(at, lease_id, outcome)
        elif outcome is not None and self.position in {CLOSED, FORCED_CLOSED}:
            self.outcomes.append((at, outcome))
            if self.position is CLOSED and self.is_bad(at):
                self.leave_closed(at)
                self.open(at, self.span or SMALL.open_us)

    def end_probe(self, at: int, lease_id: str, outcome: Outcome | None) -> None:
        if outcome is None:
            del self.round[lease_id]
        elif outcome is not GOOD:
            self.open(at, min(self.span * 2, SMALL.open_us_max) or SMALL.open_us)
        else:
            self.round[lease_id] = outcome
            if list(self.round.values()) == [GOOD] * SMALL.probes:
                self.position = CLOSED
                self.outcomes, self.closed_at = [], at

    def is_bad(self, at: int) -> bool:
        row = [outcome for _, outcome in self.outcomes[-SMALL.unreachable_max :]]
        live = self.live(at)
        bad = sum(outcome is not GOOD for outcome in live)
        return row == [UNREACHABLE] * SMALL.unreachable_max or (
            len(live) >= SMALL.outcomes_min and bad / len(live) >= 0.5
        )

    def leave_closed(self, at: int) -> None:
        if self.closed_at is None or at >= self.closed_at + SMALL.settled_us:
            self.span = 0

    def open(self, at: int, span: int) -> None:
        self.position, self.opened_at, self.span = OPEN, at, span

    def force(self, at: int, target: Position) -> None:
        if self.position in {CLOSED, FORCED_CLOSED} and target is FORCED_OPEN:
            self.leave_closed(at)
        if self.position not in {CLOSED, FORCED_CLOSED} and target is FORCED_CLOSED:
            self.outcomes, self.closed_at = [], at
        self.position = target

    def release(self) -> None:
        if self.position is FORCED_OPEN:
            self.position, self.round = HALF_OPEN, {}
        elif self.position is FORCED_CLOSED:
            self.position = CLOSED


class BreakerAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.at = T0
        self.breaker = Breaker(SMALL)
        self.model = Model()
        self.running: list[str] = []
        self.leases = 0
        self.states = [self.breaker.state]

    def note(self, change: BreakerChange | None) -> None:
        before = self.states[-1]
        assert (change is not None) == (self.breaker.state != before)
        if change is not None:
            assert (change.source, change.at) == (before.position, self.at)
            assert change.state == self.breaker.state
            assert any(
                (row.source, row.target, row.event)
                == (change.source, change.state.position, change.event)
                for row in TRANSITIONS
            )
            self.states.append(change.state)

    @rule(seconds=st.sampled_from([0, 1, 4, 5, 9, 30, 59, 60, 61, 121]))
    def wait(self, seconds: int) -> None:
        self.at += seconds * SECOND

    @rule(wanted=st.integers(1, 4))
    def start(self, wanted: int) -> None:
        for _ in range(wanted):
            if self.breaker.may_start(self.at).admits:
                self.leases += 1
                lease_id = f"l{self.leases}"
                self.running.append(lease_id)
                self.model.start(self.at, lease_id)
                self.note(self.breaker.started(self.at, lease_id))

    @rule(
        place=st.integers(0, 20),
        count=st.integers(1, 4),
        outcome=st.sampled_from([GOOD, BAD, UNREACHABLE, None]),
    )
    def end(self, place: int, count: int, outcome: Outcome | None) -> None:
        for _ in range(min(count, len(self.running))):
            lease_id = self.running.pop(place % len(self.running))
            self.model.end(self.at, lease_id, outcome)
            self.note(self.breaker.ended(self.at, lease_id, outcome))

    @rule(position=st.sampled_from([FORCED_OPEN, FORCED_CLOSED]))
    def force(self, position: Position) -> None:
        self.model.force(self.at, position)
        force = self.breaker.force_open if position is FORCED_OPEN else self.breaker.force_closed
        self.note(force(self.at))

    @rule()
    def release(self) -> None:
        self.model.release()
        self.note(self.breaker.release(self.at))

    @rule()
    def restart(self) -> None:
        stored = msgspec.json.encode(self.breaker.state)
        self.breaker = Breaker(SMALL, msgspec.json.decode(stored, type=BreakerState))
        self.model.outcomes, self.model.round = [], {}

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state.position is self.model.position
        verdict = self.breaker.may_start(self.at)
        assert verdict.admits == self.model.admits(self.at)
        if self.model.position in {CLOSED, FORCED_CLOSED}:
            live = self.model.live(self.at)
            bad = sum(outcome is not GOOD for outcome in live)
            assert self.breaker.counts(self.at) == (bad, len(live))
        if self.model.position is OPEN:
            assert self.breaker.state.opens_at == self.model.opened_at + self.model.span

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.breaker._buckets) <= BUCKETS
        assert len(self.breaker._probes) + self.breaker._good_probes <= SMALL.probes


BreakerAgainstModel.TestCase.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None
)
TestBreakerAgainstModel = BreakerAgainstModel.TestCase
