"""``python -m bench.load KIND``: one load process, talking JSON lines on its pipes.

The first line that it is told is its plan, the others are orders. It ends when its standard input
does, so it cannot outlive who started it.
"""

import json
import sys
from importlib import import_module
from typing import Any

import trio


async def _main(kind: str) -> None:
    send_order, orders = trio.open_memory_channel[dict[str, Any]](16)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_listen, send_order, nursery.cancel_scope)
        plan = await orders.receive()
        # Only what this kind needs: the others' imports would be memory and start-up time here.
        await import_module(f"bench.load.{kind}").run(plan, orders, _say)


async def _listen(
    orders: trio.MemorySendChannel[dict[str, Any]], everything: trio.CancelScope
) -> None:
    buffer = b""
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
        async for chunk in stdin:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                await orders.send(json.loads(line))
    everything.cancel()


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
