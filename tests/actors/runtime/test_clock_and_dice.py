"""Clocks that are told apart, identifiers that sort, and chance that repeats."""

import time
import uuid

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from jobengine.actors.runtime.clock import SimulatedClock, SystemClock
from jobengine.actors.runtime.dice import Dice, SeededDice, SystemDice, _Uuid7

AT = 1_795_255_200_123_456


async def test_the_system_clock_waits_by_trio_and_records_by_the_wall() -> None:
    before = time.time_ns() // 1_000
    moment = SystemClock().moment()
    assert before <= moment.at <= time.time_ns() // 1_000
    assert moment.mono <= trio.current_time()


async def test_a_simulated_wall_follows_virtual_time_and_its_skew(
    autojump_clock: MockClock,
) -> None:
    clock = SimulatedClock(AT)
    await trio.sleep(1.5)
    assert clock.moment() == (1.5, AT + 1_500_000)
    clock.skew = -2_000_000
    assert clock.moment() == (1.5, AT - 500_000)


@pytest.mark.parametrize("dice", [SystemDice(), SeededDice(1)])
@given(instants=st.lists(st.integers(AT - 3_000, AT + 3_000), min_size=1, max_size=200))
def test_identifiers_are_unique_sorted_and_well_formed(dice: Dice, instants: list[int]) -> None:
    made = [dice.uuid7(at) for at in instants]
    assert made == sorted(set(made))
    for text in made:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_an_identifier_begins_with_its_millisecond_and_fraction() -> None:
    value = uuid.UUID(SeededDice(1).uuid7(AT)).int
    assert value >> 80 == AT // 1_000
    assert value >> 64 & 0xFFF == 456 * 4096 // 1_000


def test_many_identifiers_of_one_instant_stay_sorted_across_refills() -> None:
    dice = SystemDice()
    made = [dice.uuid7(AT) for _ in range(5_000)]
    assert made == sorted(set(made))
    assert len({text[:19] for text in made}) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(AT - 3_000, AT + 3_000), st.integers(0, 700)), max_size=6),
    st.integers(0, 1_000),
    st.none() | st.integers(1, 1 << 34),
)
def test_identifiers_made_together_are_those_made_one_by_one(
    wanted: list[tuple[int, int]], seed: int, room: int | None
) -> None:
    """`room`: how much of the random part, or of its low bits, is left when the first were made."""
    together, apart = _Uuid7(SeededDice(seed).randbytes), _Uuid7(SeededDice(seed).randbytes)
    for number, (at, count) in enumerate(wanted):
        if room is not None and number % 2:
            for ids in (together, apart):
                ids._random_part = (1 << (62 if number % 4 == 1 else 48)) - room
        assert together.make_many(at, count) == [apart.make(at) for _ in range(count)]


def test_a_tick_whose_random_part_is_used_up_borrows_from_the_next_ones() -> None:
    ids = _Uuid7(SeededDice(1).randbytes)
    made = [ids.make(AT)]
    for at in (AT, AT, AT, AT, AT, AT + 1, AT + 2):
        ids._random_part = (1 << 62) - 1
        made.append(ids.make(at))
    assert made == sorted(set(made))


def test_equal_seeds_give_equal_chance_and_others_do_not() -> None:
    def draw(seed: int) -> tuple[object, ...]:
        dice = SeededDice(seed)
        return dice.random(), dice.randbytes(8), dice.uuid7(AT), dice.uuid7(AT), dice.random()

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("dice", [SystemDice(), SeededDice(1)])
def test_draws_have_their_range_and_size(dice: Dice) -> None:
    assert all(0.0 <= dice.random() < 1.0 for _ in range(100))
    assert [len(dice.randbytes(n)) for n in (0, 1, 33)] == [0, 1, 33]
