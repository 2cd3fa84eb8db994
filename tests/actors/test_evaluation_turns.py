"""Evaluations take turns: short ones at once, long ones in a thread, a tenant one at a time."""

import threading
from collections.abc import Callable

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from jobengine.actors.evaluation_turns import EvaluationTurns
from jobengine.domain.expression_effort import LOOKS_MAX, Effort, SpentError
from jobengine.domain.run_sheet import EvaluationError


def spending(looks: int) -> Callable[[Effort], int]:
    """An evaluation of so many looks; the thread that it ends in."""

    def evaluate(effort: Effort) -> int:
        try:
            effort.spend(looks)
        except SpentError:
            raise EvaluationError("too many looks") from None
        return threading.get_ident()

    return evaluate


@pytest.mark.parametrize(("looks", "bytes_read", "here"), [
    (10, 0, True), (10, 100_000, False), (100_000, 0, False)
])  # fmt: skip
async def test_what_takes_many_looks_or_is_long_to_parse_does_not_hold_the_loop(
    looks: int, bytes_read: int, here: bool
) -> None:
    thread = await EvaluationTurns().take("acme", spending(looks), bytes_read=bytes_read)
    assert (thread == threading.get_ident()) is here


async def test_a_node_has_no_more_looks_than_the_most_and_those_of_its_places() -> None:
    turns = EvaluationTurns()
    with pytest.raises(EvaluationError, match="too many"):
        await turns.take("acme", spending(LOOKS_MAX + 1))
    assert await turns.take("acme", spending(LOOKS_MAX + 1), places=1)


async def test_whatever_an_evaluation_raises_is_an_error_of_its_node() -> None:
    turns = EvaluationTurns()

    def broken(effort: Effort) -> None:
        raise KeyError("secret")

    with structlog.testing.capture_logs() as logs:
        for bytes_read in (0, 100_000):
            with pytest.raises(EvaluationError, match=r"cannot be evaluated \(KeyError\)"):
                await turns.take("acme", broken, bytes_read=bytes_read)
    assert [each["event"] for each in logs] == ["evaluation_failed"] * 2


async def test_tenants_take_turns_however_much_one_of_them_asks_for() -> None:
    turns, order, go = EvaluationTurns(), list[str](), threading.Event()

    async def take(name: str) -> None:
        def evaluate(effort: Effort) -> None:
            go.wait()
            order.append(name)

        await turns.take_long(name.partition(" ")[0], evaluate, 0)

    async with trio.open_nursery() as nursery:
        for name in ("greedy 1", "greedy 2", "greedy 3", "modest 1"):
            nursery.start_soon(take, name)
            await wait_all_tasks_blocked()
        go.set()
    assert order == ["greedy 1", "modest 1", "greedy 2", "greedy 3"]
