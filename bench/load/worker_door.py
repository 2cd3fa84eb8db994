"""The worker protocol over a plain WebSocket, without the SDK: for producers and idle workers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.load.frames import FrameClient, open_frames
from jobengine.wire.engine_messages import EngineMessage, ErrorFrame, Welcome
from jobengine.wire.frames import SUBPROTOCOL, Malformed, decode_engine_frame, encode_frame
from jobengine.wire.worker_messages import Hello

__all__ = ["RefusedError", "dial", "hear"]


class RefusedError(Exception):
    """The engine does not accept what was sent."""


@asynccontextmanager
async def dial(
    plan: dict[str, Any],
    hello: Hello,
    *,
    source: str | None = None,
    welcomed: Callable[[Welcome], None] = lambda _: None,
) -> AsyncIterator[FrameClient]:
    """A connection that has been welcomed, and `welcomed` told how. `plan` is a target's door."""
    headers = [
        (b"Authorization", f"Bearer {plan['token']}".encode()),
        (b"X-Stella-Tenant", plan["tenant"].encode()),
    ]
    url = plan["worker_url"] + "/worker"
    async with open_frames(url, SUBPROTOCOL, headers, source) as socket:
        await socket.send(encode_frame([hello]))
        for message in await hear(socket):
            if not isinstance(message, Welcome):
                raise RefusedError(repr(message))
            welcomed(message)
        yield socket


async def hear(socket: FrameClient) -> list[EngineMessage]:
    """The messages of the next frame. Raises `RefusedError` for an error."""
    messages: list[EngineMessage] = []
    for message in decode_engine_frame(await socket.receive()):
        if isinstance(message, Malformed | ErrorFrame):
            raise RefusedError(repr(message))
        messages.append(message)
    return messages
