"""Throughput in the shapes that users' load has, each to a plain flow right beside it.

In every round each shape takes turns with the flow that it is compared with: batches of 100 jobs of
100 bytes to one worker process that does nothing. Two are compared with something else: a thousand
tenants with one tenant served in the same way (workers of all tenants in one process without the
SDK, which would give each of them a thread), and eight worker processes with one, capacity alike.

``ratio`` is jobs/s to that flow, ``cpu_ratio`` that flow's CPU a job of engine and PostgreSQL to
the shape's own, which drifts less. Payloads of 64 KiB come in batches of 10, for a frame holds
1 MiB. `failing` jobs fail once and are tried again. `network` is an engine of its own, its
PostgreSQL behind a proxy that adds to each round trip (`bench.load.delay`).
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import attrs
import click
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.flow import Flow, measure_flow
from bench.harness.children import open_load
from bench.harness.database import Database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target, scratch_directory
from bench.rounds import open_ready_load
from bench.throughput import set_wide_limits
from jobengine.store.embedded import EmbeddedServer

__all__ = ["SHAPES", "ShapesCase", "measure", "run"]

_NO_RUN: Final = "runId=0190a5d2-0000-7000-8000-000000000000"
_BATCH: Final = 100
_JOBS_IN_FLIGHT: Final = 2_400
_SUBMITS_IN_FLIGHT: Final = 60
"""All of them may be of one session, of which the engine takes 64 that it has not answered."""
_SERVER_PARTS: Final = ("engine", "postgresql")


@attrs.frozen(kw_only=True)
class ShapesCase:
    """`jobs` of each flow. `delay_ms` is added to a round trip to the database."""

    shapes: tuple[str, ...]
    jobs: int = 30_000
    tenants: int = 1_000
    readers: int = 100
    delay_ms: float = 1.0


@attrs.frozen
class _Bench:
    """What shapes are measured on. `far` is the engine whose database is behind the proxy."""

    case: ShapesCase
    near: Target
    far: Target | None
    many: tuple[Target, ...]

    def flow(self, **changes: Any) -> Flow:
        return Flow(jobs=self.case.jobs, **changes)


_Measure = Callable[[_Bench, str], Awaitable[dict[str, Any]]]


@attrs.frozen
class _Shape:
    """Both are measured as jobs of a type of their own."""

    measure: _Measure
    beside: _Measure


def _flowing(**changes: Any) -> _Measure:
    async def measure(bench: _Bench, job_type: str) -> dict[str, Any]:
        return await measure_flow(bench.near, bench.flow(**changes), job_type)

    return measure


def _served(tenants_max: int | None) -> _Measure:
    """Tenants, or so many of them, in batches that are small enough for each to get one."""

    async def measure(bench: _Bench, job_type: str) -> dict[str, Any]:
        batch = max(1, min(_BATCH, bench.case.jobs // bench.case.tenants))
        in_flight = min(_SUBMITS_IN_FLIGHT, _JOBS_IN_FLIGHT // batch)
        flow = bench.flow(tenants=bench.many[:tenants_max], batch=batch, in_flight=in_flight)
        return await measure_flow(bench.near, flow, job_type)

    return measure


async def _with_gates(bench: _Bench, job_type: str) -> dict[str, Any]:
    source_id = f"shapes-{time.time_ns():x}"
    await set_wide_limits([bench.near], source_id, job_type)
    return await measure_flow(bench.near, bench.flow(source_id=source_id), job_type)


def _read(query: str) -> _Measure:
    async def measure(bench: _Bench, job_type: str) -> dict[str, Any]:
        async with open_ready_load("readers", bench.near) as readers:
            await readers.ask(do="open", readers=bench.case.readers, via="sse", filter=query)
            return await measure_flow(bench.near, bench.flow(), job_type)

    return measure


async def _across_network(bench: _Bench, job_type: str) -> dict[str, Any]:
    assert bench.far is not None
    return await measure_flow(bench.far, bench.flow(), job_type)


_PLAIN: Final = _flowing()
SHAPES: Final[Mapping[str, _Shape]] = {
    "network": _Shape(_across_network, _PLAIN),
    "1 KiB": _Shape(_flowing(payload_bytes=1 << 10), _PLAIN),
    "64 KiB": _Shape(_flowing(payload_bytes=1 << 16, batch=10), _PLAIN),
    "tenants": _Shape(_served(None), _served(1)),
    "8 workers": _Shape(_flowing(workers=8), _PLAIN),
    "50 ms": _Shape(_flowing(work_s=0.05), _PLAIN),
    "failing": _Shape(_flowing(failing_every=20), _PLAIN),
    "gates": _Shape(_with_gates, _PLAIN),
    "readers of everything": _Shape(_read(""), _PLAIN),
    "readers of runs": _Shape(_read(_NO_RUN), _PLAIN),
}


async def run(options: Options, case: ShapesCase) -> Report:
    if not options.own_engine or options.database_url is not None:
        raise click.UsageError("shapes starts engines and databases itself: leave addresses out")
    far: AbstractAsyncContextManager[Target | None] = nullcontext()
    if "network" in case.shapes:
        far = _open_far(options, case.delay_ms)
    async with open_target(options) as near, far as beyond:
        return await measure(near, beyond, options.rounds, case)


async def measure(near: Target, far: Target | None, rounds: int, case: ShapesCase) -> Report:
    """What `run` reports, of engines that are there; `far` is needed for `network` alone."""
    many = tuple(near.as_tenant(f"shapes-{number}") for number in range(case.tenants))
    bench = _Bench(case, near, far, many)
    report = report_on(near, "shapes", "ratio", "of the flow beside it", **attrs.asdict(case))
    for target in filter(None, (near, far)):
        await measure_flow(target, bench.flow(), target.job_type("shapes", "warm-up"))
    for number in range(rounds):
        for name in case.shapes:
            report.add(name, **await _measure(bench, SHAPES[name], name, number))
    return report


async def _measure(bench: _Bench, shape: _Shape, name: str, number: int) -> dict[str, Any]:
    """The shape and the flow beside it, which comes first every other time."""
    slug = name.replace(" ", "-")
    measured = {}
    for part in ("plain", "shape") if number % 2 else ("shape", "plain"):
        measure = shape.measure if part == "shape" else shape.beside
        measured[part] = await measure(bench, bench.near.job_type(slug, number, part))
    ours, plain = measured["shape"], measured["plain"]
    return {
        "ratio": ours["jobs_per_s"] / plain["jobs_per_s"],
        "cpu_ratio": _server_cpu(plain) / _server_cpu(ours),
        "plain_jobs_per_s": plain["jobs_per_s"],
        **ours,
    }


def _server_cpu(measured: dict[str, Any]) -> float:
    cpu_us: dict[str, float] = measured["cpu_us_per_job"]
    return max(0.1, sum(cpu_us.get(part, 0.0) for part in _SERVER_PARTS))


@asynccontextmanager
async def _open_far(options: Options, delay_ms: float) -> AsyncIterator[Target]:
    """An engine whose database is half of `delay_ms` away in each direction."""
    with scratch_directory(options.directory) as scratch:
        async with EmbeddedServer(scratch / "postgres") as server:
            parts = conninfo_to_dict(server.conninfo)
            path = Path(str(parts["host"])) / f".s.PGSQL.{parts['port']}"
            plan = {"path": str(path), "delay_s": delay_ms / 2_000}
            async with open_load("delay", **plan) as proxy:
                port = (await proxy.answer())["port"]
                url = make_conninfo(
                    server.conninfo, host="127.0.0.1", port=port, sslmode="disable",
                    gssencmode="disable",
                )  # fmt: skip
                async with open_target(attrs.evolve(options, database_url=url)) as target:
                    target.database = Database(server.conninfo, postmaster=server.pid)
                    yield target
