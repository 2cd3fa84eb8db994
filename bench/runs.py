"""A run from its request to its end, beside as many jobs that do not depend on each other.

Both are one request over HTTP, `POST /runs` and `POST /jobs:bulk`, with equal payloads, done by one
worker process whose handler does nothing, over its WebSocket. The clock runs from the first byte of
the request; of the jobs until the worker has drained, which is after the last ack, of a run until
`GET /runs/{id}` says that it is completed, which is after the commit of its end. The two take turns
in coming first. `ratio` is the run's nodes a second to the jobs a second of its round;
`created_s` is when the request was answered.

Of each run that has ended, `dag` and `gantt` say how long `GET /runs/{id}/dag` and `/gantt` take,
the answer read whole: `first_s` the first time, `again_s` the median of the next five.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, Final

import attrs
import msgspec
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.errors import MeasurementFailedError
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.load.http_client import HttpClient, open_client
from bench.load.jobs import payloads
from bench.rounds import show_progress
from bench.run_shapes import SHAPES, Graph

__all__ = ["RunCase", "run"]

_API: Final = "/api/v1/jobengine"
_CAPACITY: Final = 4_000
_BULK: Final = 10_000
_LOOKS: Final = 5
_ASK_EVERY_S: Final = 0.01


@attrs.frozen(kw_only=True)
class RunCase:
    nodes: int = 10_000
    shapes: tuple[str, ...] = ("layered",)
    width: int = 1_000
    payload_bytes: int = 100


class _State(msgspec.Struct, rename="camel"):
    run_id: str
    state: str


_state: Final = msgspec.json.Decoder(_State)


async def run(options: Options, case: RunCase) -> Report:
    async with open_target(options) as target:
        report = report_on(target, "runs", "per_s", "jobs/s or nodes/s", **attrs.asdict(case))
        await _measure_jobs(target, case, case.nodes // 4, "warm-up")
        for number in range(options.rounds):
            for shape in case.shapes:
                graph = SHAPES[shape](case.nodes, case.width)
                job_type = target.job_type(shape, number)
                jobs = None
                if number % 2 == 0:
                    jobs = await _measure_jobs(target, case, len(graph), f"{job_type}.jobs")
                ours = await _measure_run(target, case, graph, job_type)
                if jobs is None:
                    jobs = await _measure_jobs(target, case, len(graph), f"{job_type}.jobs")
                looks = ours.pop("looks")
                ours["ratio"] = ours["per_s"] / jobs["per_s"]
                report.add(f"run {shape} {len(graph):,}", **ours, **looks)
                report.add(f"jobs {len(graph):,}", **jobs)
        return report


async def _measure_jobs(target: Target, case: RunCase, jobs: int, job_type: str) -> dict[str, Any]:
    """Independent jobs, in requests of 10,000 at most."""
    texts = [f'{{"jobType":"{job_type}","payload":{payload}}}' for payload in _payloads(case, jobs)]
    bodies = ["\n".join(texts[start : start + _BULK]).encode() for start in range(0, jobs, _BULK)]
    async with _open(target, job_type) as (client, worker):
        meter = target.meter(worker=[worker])
        meter.start()
        began_at = time.monotonic()
        for body in bodies:
            status, said = await client.post(f"{_API}/jobs:bulk", body, "application/x-ndjson")
            if status != 200:
                raise MeasurementFailedError(f"jobs:bulk: HTTP {status}: {said[:500]!r}")
        created_s = time.monotonic() - began_at
        await worker.wait_count(jobs)
        drained = await worker.ask(do="drain")
        cpu = meter.spent_per(jobs)
    took_s = drained["ended_at"] - began_at
    return {"per_s": jobs / took_s, "created_s": created_s, "cpu_us": cpu}


async def _measure_run(
    target: Target, case: RunCase, graph: Graph, job_type: str
) -> dict[str, Any]:
    body = _run_body(case, graph, job_type)
    async with _open(target, job_type) as (client, worker):
        meter = target.meter(worker=[worker])
        meter.start()
        began_at = time.monotonic()
        status, said = await client.post(f"{_API}/runs", body, "application/json")
        if status != 201:
            raise MeasurementFailedError(f"runs: HTTP {status}: {said[:500]!r}")
        created_s = time.monotonic() - began_at
        path = f"{_API}/runs/{_state.decode(said).run_id}"
        async with show_progress(job_type, len(graph), lambda: worker.count):
            await worker.wait_count(len(graph))
        while (state := await _state_of(client, path)) == "running":  # noqa: ASYNC110 - it is asked
            await trio.sleep(_ASK_EVERY_S)
        took_s = time.monotonic() - began_at
        cpu = meter.spent_per(len(graph))
        if state != "completed":
            raise MeasurementFailedError(f"the run should be completed: it is {state}")
        looks = await _times_of(client, path, "dag") | await _times_of(client, path, "gantt")
    return {
        "per_s": len(graph) / took_s,
        "created_s": created_s,
        "cpu_us": cpu,
        "looks": looks,
    }


async def _state_of(client: HttpClient, path: str) -> str:
    return _state.decode(await _look(client, path)).state


async def _times_of(client: HttpClient, path: str, view: str) -> dict[str, float]:
    times = []
    for _ in range(1 + _LOOKS):
        began_at = time.monotonic()
        await _look(client, f"{path}/{view}")
        times.append(time.monotonic() - began_at)
    return {f"{view}_first_s": times[0], f"{view}_again_s": median(times[1:])}


async def _look(client: HttpClient, path: str) -> bytes:
    status, said = await client.read(path)
    if status != 200:
        raise MeasurementFailedError(f"{path}: HTTP {status}: {said[:500]!r}")
    return said


@asynccontextmanager
async def _open(target: Target, job_type: str) -> AsyncIterator[tuple[HttpClient, LoadProcess]]:
    """A connection, and a worker for one type that is ready."""
    door = target.door()
    async with (
        open_client(target.http_url, target.token, target.tenant) as client,
        open_load("worker", **door, job_type=job_type, capacity=_CAPACITY) as worker,
    ):
        while not worker.track:  # noqa: ASYNC110 - the process says so
            await trio.sleep(_ASK_EVERY_S)
        yield client, worker


def _run_body(case: RunCase, graph: Graph, job_type: str) -> bytes:
    jobs = [
        f'{{"key":"{_key(number)}","jobType":"{job_type}","payload":{payload},'
        f'"dependsOn":{_keys(parents)}}}'
        for number, (parents, payload) in enumerate(
            zip(graph, _payloads(case, len(graph)), strict=True)
        )
    ]
    return f'{{"runToken":"{job_type}","jobs":[{",".join(jobs)}]}}'.encode()


def _payloads(case: RunCase, count: int) -> list[str]:
    source = payloads(case.payload_bytes, time.time_ns())
    return [next(source) for _ in range(count)]


def _key(number: int) -> str:
    return f"node-{number:06}"


def _keys(numbers: Any) -> str:
    return "[" + ",".join(f'"{_key(number)}"' for number in numbers) + "]"
