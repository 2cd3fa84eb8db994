"""A seeded run does the same every time, and Trio's private names are where they were."""

import random
from importlib import import_module

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.testing.sim.determinism import SimulatedTimeOverError, run_seeded

TRIO = vars(import_module("trio._core._run"))


def test_trio_still_has_the_private_names_by_which_it_is_seeded() -> None:
    assert isinstance(TRIO["_ALLOW_DETERMINISTIC_SCHEDULING"], bool)
    assert isinstance(TRIO["_r"], random.Random)


def test_tasks_that_wake_together_run_in_an_order_that_follows_from_the_seed() -> None:
    orders = {seed: run_seeded(order_of_waking, seed=seed, deadline_s=10) for seed in range(5)}
    assert len(set(orders.values())) == len(orders)
    for seed, order in orders.items():
        assert run_seeded(order_of_waking, seed=seed, deadline_s=10) == order


def test_the_private_names_are_put_back_when_a_run_fails() -> None:
    names = ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r")
    before = [TRIO[name] for name in names]
    with pytest.raises(ZeroDivisionError):
        run_seeded(fail, seed=1, deadline_s=10)
    assert [TRIO[name] for name in names] == before


def test_time_jumps_from_deadline_to_deadline_and_a_run_without_end_has_one() -> None:
    assert run_seeded(sleep_a_year, seed=1, deadline_s=1e9) == 365 * 86_400
    with pytest.raises(SimulatedTimeOverError, match="no end within 60 simulated seconds"):
        run_seeded(trio.sleep_forever, seed=1, deadline_s=60)


def test_what_runs_on_and_on_without_letting_time_move_is_ended() -> None:
    with pytest.raises(SimulatedTimeOverError, match=r"without end at 3\.000 simulated seconds"):
        run_seeded(spin, seed=1, deadline_s=60)


def test_who_waits_for_all_others_is_woken_before_time_jumps() -> None:
    assert run_seeded(wait_for_others, seed=1, deadline_s=60) == ["worked", "idle at 3.0"]


async def order_of_waking() -> tuple[int, ...]:
    order: list[int] = []

    async def wake(number: int) -> None:
        await trio.sleep(1)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(wake, number)
    return tuple(order)


async def wait_for_others() -> list[str]:
    seen: list[str] = []

    async def work() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        seen.append("worked")
        await trio.sleep(10)

    await trio.sleep(3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        seen.append(f"idle at {trio.current_time()}")
    return seen


async def spin() -> None:
    await trio.sleep(3)
    while True:
        await trio.lowlevel.checkpoint()


async def fail() -> None:
    await trio.sleep(1)
    raise ZeroDivisionError


async def sleep_a_year() -> float:
    for _ in range(365):
        await trio.sleep(86_400)
    return trio.current_time()
