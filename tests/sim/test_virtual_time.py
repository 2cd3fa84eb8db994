"""Virtual time moves only when nothing can run, and alarms ring in their order."""

import trio

from jobengine.testing.sim.determinism import run_seeded
from jobengine.testing.sim.virtual_time import set_alarm, sleep


def test_alarms_ring_at_their_instants_and_those_of_one_instant_in_the_order_they_were_set() -> (
    None
):
    assert run_seeded(ring, seed=1, deadline_s=60) == [(1.0, "c"), (2.0, "a"), (2.0, "b")]


def test_a_sleep_ends_at_its_instant_and_a_cancelled_one_holds_nobody_up() -> None:
    assert run_seeded(doze, seed=1, deadline_s=60) == (3.0, 5.0)


async def ring() -> list[tuple[float, str]]:
    rung: list[tuple[float, str]] = []

    def note(name: str) -> None:
        rung.append((trio.current_time(), name))

    set_alarm(2.0, lambda: note("a"))
    set_alarm(2.0, lambda: note("b"))
    set_alarm(1.0, lambda: note("c"))
    set_alarm(1.5, lambda: note("never")).cancel()
    await trio.sleep(3)
    return rung


async def doze() -> tuple[float, float]:
    with trio.move_on_after(3) as scope:
        await sleep(30)
    assert scope.cancelled_caught
    cancelled_at = trio.current_time()
    await sleep(2)
    return cancelled_at, trio.current_time()
