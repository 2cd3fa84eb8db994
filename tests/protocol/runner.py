"""Runs conformance vectors of the worker protocol against anything that speaks it.

A vector is `{name, description, steps}`; a step has one key:

    open        connect (the first connection is open already)
    drop        cut the connection without a closing handshake
    send        send one message
    sendArray   send several messages as one frame
    sendText    send a frame as it is
    expect      wait for a message that matches; others stay for later steps
    expectNone  after a heartbeat's round trip no message matches

In what is sent, `"$name"` stands for what the name is bound to. In what is expected, it binds the
name, or compares when it is bound; `"<string>"`, `"<integer>"`, `"<number>"`, `"<any>"` match by
type; an object matches one that has at least its members; an array matches in length and order.
`$queue` and `$worker` are bound before the first step, fresh for each run.
"""

import json
import re
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import trio

VECTORS = Path(__file__).parent / "vectors"
STEP_S_MAX = 5.0
NAME = re.compile(r"\$[a-z][a-z.]*")


class Connection(Protocol):
    """One WebSocket to a worker door, authorised for work and submission."""

    async def send(self, text: str) -> None: ...

    async def receive(self) -> str: ...

    async def drop(self) -> None: ...


Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class VectorFailedError(AssertionError):
    """A step was not met; names the vector, the step and what had arrived."""


def load() -> list[dict[str, Any]]:
    """All vectors, by name."""
    return [json.loads(path.read_text()) for path in sorted(VECTORS.glob("*.json"))]


async def run_vector(
    vector: dict[str, Any], connect: Connect, *, step_s_max: float = STEP_S_MAX
) -> None:
    """Run one vector over fresh connections; raises VectorFailedError."""
    run = _Run(connect)
    async with run.connections:
        await run.open()
        for number, step in enumerate(vector["steps"]):
            [(verb, argument)] = step.items()
            try:
                with trio.fail_after(step_s_max):
                    await run.step(verb, argument)
            except (trio.TooSlowError, LookupError) as error:
                raise VectorFailedError(
                    f"{vector['name']}, step {number} {json.dumps(step)}: {error!r}; "
                    f"unmatched: {run.arrived}; bound: {run.bound}"
                ) from error


class _Run:
    def __init__(self, connect: Connect) -> None:
        self.connections = AsyncExitStack()
        self.arrived: list[dict[str, Any]] = []
        unique = uuid.uuid4().hex[:12]
        self.bound: dict[str, Any] = {"$queue": f"conf.{unique}", "$worker": f"worker-{unique}"}
        self._connect = connect
        self._connection: Connection
        self._barriers = 0

    async def open(self) -> None:
        self.arrived.clear()
        self._connection = await self.connections.enter_async_context(self._connect())

    async def step(self, verb: str, argument: Any) -> None:
        match verb:
            case "open":
                await self.open()
            case "drop":
                await self._connection.drop()
            case "send" | "sendArray":
                await self._connection.send(json.dumps(substitute(argument, self.bound)))
            case "sendText":
                await self._connection.send(argument)
            case "expect":
                await self._expect(argument)
            case "expectNone":
                await self._expect_none(argument)
            case _:
                raise ValueError(f"unknown step {verb}")

    async def _expect(self, pattern: dict[str, Any]) -> None:
        while True:
            for message in self.arrived:
                bindings = dict(self.bound)
                if matches(pattern, message, bindings):
                    self.arrived.remove(message)
                    self.bound = bindings
                    return
            frame = json.loads(await self._connection.receive())
            self.arrived.extend(frame if isinstance(frame, list) else [frame])

    async def _expect_none(self, pattern: dict[str, Any]) -> None:
        self._barriers += 1
        ref = f"barrier-{self._barriers}"
        await self._connection.send(json.dumps({"op": "heartbeat", "ref": ref}))
        await self._expect({"op": "ack", "ref": ref})
        for message in self.arrived:
            if matches(pattern, message, dict(self.bound)):
                raise LookupError(f"unexpected {message}")


def substitute(value: Any, bound: dict[str, Any]) -> Any:
    """Put what names are bound to in their place, in member names as well."""
    if isinstance(value, str) and NAME.fullmatch(value):
        return bound[value]
    if isinstance(value, dict):
        return {substitute(name, bound): substitute(item, bound) for name, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, bound) for item in value]
    return value


def matches(pattern: Any, value: Any, bound: dict[str, Any]) -> bool:
    """Whether a value matches; binds names in `bound`, also when it finally does not."""
    if isinstance(pattern, str) and NAME.fullmatch(pattern):
        return bool(bound.setdefault(pattern, value) == value)
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and matches(item, value[name], bound) for name, item in pattern.items()
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(value) == len(pattern)
            and all(matches(p, v, bound) for p, v in zip(pattern, value, strict=True))
        )
    kinds = {"<string>": str, "<integer>": int, "<number>": (int, float), "<any>": object}
    if isinstance(pattern, str) and pattern in kinds:
        return isinstance(value, kinds[pattern]) and not isinstance(value, bool)  # type: ignore[arg-type]
    return bool(pattern == value) and type(pattern) is type(value)
