"""Sockets of stream readers cut at random while events pass: what each of them has got in the end
is the ledger, entry by entry."""

import json
import random
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from jobengine.sdk import AsyncClient, job_request
from tests.chaos.cutting_proxy import CuttingProxy, open_proxy
from tests.chaos.schedule import LONG, SECONDS, WITHIN_S
from tests.end_to_end.processes import RunningEngine, Stage

JOBS = 25_000 if LONG else 2_500
"""Each of them leaves two entries: created, scheduled."""
BULK = 250
READERS = 4
HANDSHAKE_S = 3.0
EVERY_S = (0.02, 0.25) if LONG else (0.02, 0.1)
SEED = 20261122


# httpx drops the iterator of a request's body when the connection breaks while it is sent.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. .async_generator object ByteStream"
)


@attrs.define(eq=False)
class Reader:
    """What a reader has got: the events in the order in which they came."""

    events: list[Any] = attrs.field(factory=list)
    connections: int = 0

    @property
    def last_seq(self) -> int:
        return self.events[-1]["seq"] if self.events else 0


async def read_sse(engine: RunningEngine, url: str, reader: Reader, last_seq: int) -> None:
    async with (
        AsyncClient(url, token=engine.token, tenant=engine.tenant) as client,
        aclosing(client.events(after=0)) as events,
    ):
        async for event in events:
            assert event.id == str(event.data["seq"])
            reader.events.append(event.data)
            if reader.last_seq >= last_seq:
                return


async def read_websocket(engine: RunningEngine, url: str, reader: Reader, last_seq: int) -> None:
    where = urlsplit(url)
    while reader.last_seq < last_seq:
        try:
            async with (
                await trio.open_tcp_stream(where.hostname or "", where.port or 0) as stream,
                trio.open_nursery() as nursery,
            ):
                await read_until_cut(engine, nursery, stream, reader, last_seq)
                nursery.cancel_scope.cancel()
        except* (ConnectionClosed, HandshakeError, OSError, trio.TooSlowError):
            await trio.sleep(0.01)


async def read_until_cut(
    engine: RunningEngine,
    nursery: trio.Nursery,
    stream: trio.SocketStream,
    reader: Reader,
    last_seq: int,
) -> None:
    # A handshake that is cut is not told of: its end has to be waited for.
    with trio.fail_after(HANDSHAKE_S):
        socket = await wrap_client_stream(
            nursery,
            stream,
            "127.0.0.1",
            f"/api/v1/jobengine/stream/events?after={reader.last_seq}",
            subprotocols=["jobengine.stream.v1"],
            extra_headers=[
                (b"Authorization", f"Bearer {engine.token}".encode()),
                (b"X-Stella-Tenant", engine.tenant.encode()),
            ],
            max_message_size=1 << 24,
        )
    reader.connections += 1
    while reader.last_seq < last_seq:
        said = json.loads(await socket.get_message())
        if said["type"] == "events":
            assert said["after"] == reader.last_seq
            reader.events += said["events"]


async def cut_now_and_then(proxy: CuttingProxy) -> None:
    dice = random.Random(SEED)
    until = trio.current_time() + SECONDS
    while trio.current_time() < until:
        await trio.sleep(dice.uniform(*EVERY_S))
        proxy.cut(0.5)


async def submit_slowly(client: AsyncClient) -> None:
    bulks = JOBS // BULK
    for number in range(bulks):
        jobs = [job_request("cut", {"n": number * BULK + each}) for each in range(BULK)]
        assert (await client.submit_many(jobs)).created == BULK
        await trio.sleep(SECONDS / bulks)


async def test_readers_whose_sockets_are_cut_at_random_miss_and_repeat_nothing(
    stage: Stage,
) -> None:
    engine = await trio.to_thread.run_sync(stage.engine)
    where = urlsplit(engine.http)
    readers = [Reader() for _ in range(2 * READERS)]
    last_seq = 2 * JOBS
    with trio.fail_after(WITHIN_S):
        async with open_proxy(where.hostname or "", where.port or 0, SEED) as proxy:
            url = f"http://{proxy.address}"
            async with trio.open_nursery() as nursery:
                for reader in readers[:READERS]:
                    nursery.start_soon(read_sse, engine, url, reader, last_seq)
                for reader in readers[READERS:]:
                    nursery.start_soon(read_websocket, engine, url, reader, last_seq)
                nursery.start_soon(cut_now_and_then, proxy)
                async with AsyncClient(
                    engine.http, token=engine.token, tenant=engine.tenant
                ) as client:
                    await submit_slowly(client)
        truth = Reader()
        await read_sse(engine, engine.http, truth, last_seq)
    assert proxy.cuts > len(readers)
    assert [event["seq"] for event in truth.events] == list(range(1, last_seq + 1))
    for reader in readers:
        assert reader.events == truth.events
