"""Supervision: order, restarts, pauses, escalation, and stopping without loss."""

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobengine.actors.runtime.dice import SeededDice
from jobengine.actors.runtime.supervisor import (
    ActorReturnedError,
    ActorSpec,
    GroupSpec,
    Life,
    RestartPolicy,
    Supervised,
    SupervisionFailedError,
    Supervisor,
)

Start = Callable[[Life], Awaitable[object]]
NEVER = RestartPolicy(restarts_max=0)


class Stage:
    """Runs trees and keeps what was reported and what the actors did."""

    def __init__(self) -> None:
        self.reports: list[Supervised] = []
        self.log: list[str] = []

    def supervisor(self, *children: ActorSpec | GroupSpec) -> Supervisor:
        return Supervisor(
            GroupSpec("node", children),
            dice=SeededDice(1),
            incarnations=itertools.count(1),
            observe=self.reports.append,
        )

    def steady(self, name: str) -> Start:
        async def start(life: Life) -> None:
            self.log.append(f"+{name}")
            life.ready()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                self.log.append(f"-{name}")

        return start

    def changes(self, change: str) -> list[Supervised]:
        return [report for report in self.reports if report.change == change]


async def fail_after_a_second(life: Life) -> None:
    life.ready()
    await trio.sleep(1)
    raise LookupError("broken")


async def test_children_start_in_order_and_stop_in_reverse_order(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    shard = GroupSpec(
        "shard", (ActorSpec("b", stage.steady("b")), ActorSpec("c", stage.steady("c")))
    )
    tree = stage.supervisor(
        ActorSpec("a", stage.steady("a")), shard, ActorSpec("d", stage.steady("d"))
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        assert stage.log == ["+a", "+b", "+c", "+d"]
        nursery.cancel_scope.cancel()
    assert stage.log[4:] == ["-d", "-c", "-b", "-a"]
    assert [report.actor for report in stage.changes("stopped")] == [
        "node/d",
        "node/shard/c",
        "node/shard/b",
        "node/shard",
        "node/a",
    ]
    assert not stage.changes("failed")


async def test_a_child_starts_only_when_the_one_before_is_ready(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()

    async def slow(life: Life) -> None:
        await trio.sleep(30)
        life.ready()
        await trio.sleep_forever()

    tree = stage.supervisor(ActorSpec("slow", slow), ActorSpec("a", stage.steady("a")))
    with trio.move_on_after(29):
        await tree.run()
    assert stage.log == []
    with trio.move_on_after(31):
        await tree.run()
    assert stage.log == ["+a", "-a"]


async def test_restarts_pause_longer_each_time_and_get_new_incarnations(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    policy = RestartPolicy(restarts_max=4, window_s=1000, backoff_first_s=8, backoff_s_max=32)
    born: list[tuple[int, float]] = []

    async def start(life: Life) -> None:
        born.append((life.incarnation, trio.current_time()))
        await fail_after_a_second(life)

    with pytest.raises(SupervisionFailedError, match="node/a failed more than 4 times") as caught:
        await stage.supervisor(ActorSpec("a", start, policy=policy)).run()
    assert isinstance(caught.value.__cause__, LookupError)
    assert [incarnation for incarnation, _ in born] == [1, 2, 3, 4, 5]
    pauses = [after - before - 1 for (_, before), (_, after) in itertools.pairwise(born)]
    for pause, full in zip(pauses, (8, 16, 32, 32), strict=True):
        assert full / 2 <= pause <= full
    reported = [report.pause_s for report in stage.changes("restarting")]
    assert reported == pytest.approx(pauses)


async def test_failures_outside_the_window_are_forgotten(autojump_clock: MockClock) -> None:
    stage = Stage()
    policy = RestartPolicy(restarts_max=1, window_s=1.2, backoff_first_s=0.5)
    with trio.move_on_after(100):
        await stage.supervisor(ActorSpec("a", fail_after_a_second, policy=policy)).run()
    assert len(stage.changes("failed")) > 50
    assert not stage.changes("escalated")


async def test_too_many_failures_restart_the_group_in_order_then_stop_the_node(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    shard = GroupSpec(
        "shard",
        (
            ActorSpec("b", stage.steady("b")),
            ActorSpec("bad", fail_after_a_second, policy=NEVER),
            ActorSpec("c", stage.steady("c")),
        ),
        policy=RestartPolicy(restarts_max=1),
    )
    with pytest.raises(SupervisionFailedError, match="node/shard failed") as caught:
        await stage.supervisor(ActorSpec("a", stage.steady("a")), shard).run()
    assert stage.log == ["+a", "+b", "+c", "-c", "-b", "+b", "+c", "-c", "-b", "-a"]
    inner = caught.value.__cause__
    assert isinstance(inner, SupervisionFailedError)
    assert isinstance(inner.__cause__, LookupError)
    incarnations = [report.incarnation for report in stage.changes("started")]
    assert incarnations == sorted(set(incarnations))


async def test_a_permanent_actor_may_not_return_and_a_transient_one_may(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()

    async def once(life: Life) -> None:
        stage.log.append("once")

    tree = stage.supervisor(
        ActorSpec("once", once, restart="transient"), ActorSpec("a", stage.steady("a"))
    )
    with trio.move_on_after(10):
        await tree.run()
    assert stage.log == ["once", "+a", "-a"]
    with pytest.raises(SupervisionFailedError) as caught:
        await stage.supervisor(ActorSpec("once", once, policy=NEVER)).run()
    assert isinstance(caught.value.__cause__, ActorReturnedError)


async def fail_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise LookupError("while stopping")


async def fail_alone(life: Life) -> None:
    life.ready()
    await fail_when_cancelled()


async def fail_beside_a_cancelled_task(life: Life) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled)
        nursery.start_soon(trio.sleep_forever)
        life.ready()


@pytest.mark.parametrize("start", [fail_alone, fail_beside_a_cancelled_task])
async def test_a_failure_while_stopping_is_reported_and_the_rest_stops_in_order(
    autojump_clock: MockClock, start: Start
) -> None:
    stage = Stage()
    tree = stage.supervisor(ActorSpec("a", stage.steady("a")), ActorSpec("bad", start))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        nursery.cancel_scope.cancel()
    assert [report.actor for report in stage.changes("failed")] == ["node/bad"]
    assert not stage.changes("restarting")
    assert stage.log == ["+a", "-a"]


@pytest.mark.parametrize("exit_type", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_is_never_taken_for_a_failure(exit_type: type[BaseException]) -> None:
    stage = Stage()

    async def start(life: Life) -> None:
        raise exit_type

    with pytest.raises(BaseExceptionGroup) as caught:
        await stage.supervisor(ActorSpec("a", start)).run()
    assert caught.value.split(exit_type)[1] is None
    assert not stage.changes("failed")


async def test_stopping_during_a_pause_or_a_start_leaves_no_task(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    long = RestartPolicy(backoff_first_s=50, backoff_s_max=50)

    async def never_ready(life: Life) -> None:
        await trio.sleep_forever()

    tree = stage.supervisor(
        ActorSpec("bad", fail_after_a_second, policy=long),
        ActorSpec("never ready", never_ready),
    )
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.move_on_after(10):
        await tree.run()
    await wait_all_tasks_blocked()
    assert trio.current_time() == 10
    assert trio.lowlevel.current_statistics().tasks_living == before
