"""Submits jobs over HTTP: in bulk as NDJSON, or one a request; several clients side by side."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import trio

from bench.load.http_client import HttpClient, open_client
from bench.load.jobs import job_texts
from bench.load.talk import Orders, Say, tell_count
from jobengine.wire.jobs import BulkAnswer

__all__ = ["run"]

_BASE = "/api/v1/jobengine"
_bulk_answer = msgspec.json.Decoder(BulkAnswer)


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Order: `post` {jobs, batch (1: single requests), clients, job_type, payload_bytes}, answered
    when every request is. Bodies are made before the clock starts."""
    poster = _Poster()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: poster.created, say)
        say(ready=True)
        async for order in orders:
            await _post_all(poster, plan, order, say)


class _Poster:
    def __init__(self) -> None:
        self.created = 0

    async def post_bulk(self, client: HttpClient, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            path = f"{_BASE}/jobs:bulk"
            status, answer = await client.post(path, body, "application/x-ndjson")
            if status != 200 or (bulk := _bulk_answer.decode(answer)).rejected:
                raise RuntimeError(f"HTTP {status}: {answer[:500]!r}")
            self.created += bulk.created

    async def post_single(self, client: HttpClient, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            status, answer = await client.post(f"{_BASE}/jobs", body, "application/json")
            if status != 201:
                raise RuntimeError(f"HTTP {status}: {answer[:500]!r}")
            self.created += 1


async def _post_all(poster: _Poster, plan: dict[str, Any], order: dict[str, Any], say: Say) -> None:
    bodies = iter(list(_bodies(order)))
    before = poster.created
    async with trio.open_nursery() as connections:
        clients = [
            await connections.start(_hold_client, plan) for _ in range(order.get("clients", 1))
        ]
        post = poster.post_single if order["batch"] == 1 else poster.post_bulk
        began_at = time.monotonic()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(post, client, bodies)
        ended_at = time.monotonic()
        connections.cancel_scope.cancel()
    say(jobs=poster.created - before, began_at=began_at, ended_at=ended_at)


async def _hold_client(plan: dict[str, Any], task_status: trio.TaskStatus[HttpClient]) -> None:
    async with open_client(plan["http_url"], plan["token"], plan["tenant"]) as client:
        task_status.started(client)
        await trio.sleep_forever()


def _bodies(order: dict[str, Any]) -> Iterator[bytes]:
    texts = job_texts(
        order["job_type"], order["payload_bytes"], time.time_ns(), order.get("source_id")
    )
    for start in range(0, order["jobs"], order["batch"]):
        jobs = min(order["batch"], order["jobs"] - start)
        yield "\n".join(itertools.islice(texts, jobs)).encode()
