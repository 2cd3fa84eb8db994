"""Idle workers, in this process, against an engine behind its real door."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from bench.harness.errors import leaves
from bench.load import idlers
from bench.load.frames import DisconnectedError
from tests.http.opened import Opened, opened

WORKERS = 3
Ask = Callable[..., Awaitable[None]]


def plan_of(node: Opened) -> dict[str, Any]:
    token = node.headers()["Authorization"].removeprefix("Bearer ")
    door = {"worker_url": node.doors.worker_url, "token": token, "tenant": "demo"}
    return door | {"workers": WORKERS, "job_type": "idle"}


@asynccontextmanager
async def idling(plan: dict[str, Any]) -> AsyncIterator[Ask]:
    """Connected workers, and what gives them an order and waits for the answer."""
    send, orders = trio.open_memory_channel[dict[str, Any]](1)
    answered, answers = trio.open_memory_channel[dict[str, Any]](8)

    def say(**said: Any) -> None:
        if "count" not in said:
            answered.send_nowait(said)

    async def ask(**order: Any) -> None:
        await send.send(order)
        await answers.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(idlers.run, plan, orders, say)
        await answers.receive()
        await ask(do="connect")
        yield ask
        nursery.cancel_scope.cancel()


async def heard_of(node: Opened) -> list[str]:
    """When the engine has last heard of each worker, once all of them have credit."""
    while True:
        found = (await node.client.get("/workers")).json()["items"]
        if len(found) == WORKERS and all(one["credit"] for one in found):
            return [one["lastHeartbeatAt"] for one in found]


@pytest.mark.parametrize("every_s", [None, 3_600.0])
async def test_workers_that_are_to_beat_do_so_at_once(every_s: float | None) -> None:
    async with opened() as node, idling(plan_of(node)) as ask:
        before = await heard_of(node)
        with trio.fail_after(10):
            while min(await heard_of(node)) <= max(before):
                await ask(do="beat", every_s=every_s)


async def test_lost_connections_end_the_workers_with_what_was_heard_of_them() -> None:
    over = trio.Event()

    async def serve(task_status: trio.TaskStatus[Opened]) -> None:
        async with opened() as node:
            task_status.started(node)
            await over.wait()

    async def lose_the_engine() -> None:
        async with trio.open_nursery() as nursery:
            node = await nursery.start(serve)
            async with idling(plan_of(node) | {"workers": 30}) as ask:
                await ask(do="beat", every_s=0.0)
                over.set()
                await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await lose_the_engine()
    ends = list(leaves(caught.value))
    assert {type(end) for end in ends} == {DisconnectedError}
    assert not any(isinstance(end.__cause__, trio.ClosedResourceError) for end in ends)
