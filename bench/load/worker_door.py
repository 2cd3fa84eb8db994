"""The worker protocol over a plain WebSocket, without the SDK: for producers and idle workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from trio_websocket import WebSocketConnection, open_websocket_url

from jobengine.wire.worker import (
    SUBPROTOCOL,
    EngineMessage,
    ErrorFrame,
    Hello,
    Malformed,
    Welcome,
    decode_engine_frame,
    encode_frame,
)

__all__ = ["Refused", "dial", "hear"]

_FRAME_BYTES_MAX: Final = 8 << 20


class Refused(Exception):
    """The engine does not accept what was sent."""


@asynccontextmanager
async def dial(plan: dict[str, Any], hello: Hello) -> AsyncIterator[WebSocketConnection]:
    """A connection that has been welcomed. `plan` is a target's door."""
    headers = [
        (b"Authorization", f"Bearer {plan['token']}".encode()),
        (b"X-Stella-Tenant", plan["tenant"].encode()),
    ]
    async with open_websocket_url(
        plan["worker_url"] + "/worker",
        subprotocols=[SUBPROTOCOL],
        extra_headers=headers,
        message_queue_size=16,
        max_message_size=_FRAME_BYTES_MAX,
        receive_buffer_size=65_536,
    ) as socket:
        await socket.send_message(encode_frame([hello]))
        for message in await hear(socket):
            if not isinstance(message, Welcome):
                raise Refused(repr(message))
        yield socket


async def hear(socket: WebSocketConnection) -> list[EngineMessage]:
    """The messages of the next frame. Raises `Refused` for an error."""
    messages: list[EngineMessage] = []
    for message in decode_engine_frame(await socket.get_message()):
        if isinstance(message, Malformed | ErrorFrame):
            raise Refused(repr(message))
        messages.append(message)
    return messages
