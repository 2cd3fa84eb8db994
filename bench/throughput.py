"""Jobs a second from bulk submit to acknowledged completion, with full history.

One producer process a tenant submits in batches over the worker WebSocket (or HTTP NDJSON), several
batches in flight; worker processes run the SDK and a handler doing nothing. The clock runs from
the first submit until every worker has drained: a drain ends when each report has its ack, and an
ack comes after the commit. Afterwards the database is asked whether every job is completed and its
ledger has grown by exactly four entries a job (created, scheduled, started, completed).
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final, Literal

import attrs
import msgspec
import trio

from bench.harness.children import LoadProcess, open_load
from bench.harness.database import Totals
from bench.harness.errors import MeasurementFailedError
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.load.http_client import open_client
from bench.rounds import open_ready_load, show_progress
from jobengine.domain.ids import shard_of
from jobengine.settings import Settings

__all__ = [
    "Tenant",
    "ThroughputCase",
    "measure_round",
    "open_tenants",
    "run",
    "set_wide_limits",
]

_ENTRIES_PER_JOB: Final = 4
_API: Final = "/api/v1/jobengine"
_PLENTY: Final = 1_000_000


@attrs.frozen(kw_only=True)
class ThroughputCase:
    """``tenants`` share ``jobs``, ``warm_up``, ``in_flight`` and ``capacity`` equally; each has a
    producer and ``workers`` processes of its own, and a shard of its own as far as there are."""

    jobs: int = 100_000
    batch: int = 100
    in_flight: int = 24
    payload_bytes: int = 100
    workers: int = 1
    capacity: int = 4000
    via: Literal["websocket", "http"] = "websocket"
    warm_up: int = 5_000
    tenants: int = 1

    @property
    def share(self) -> "ThroughputCase":
        """What one tenant does of it."""
        return attrs.evolve(
            self,
            jobs=max(1, self.jobs // self.tenants),
            warm_up=self.warm_up // self.tenants,
            in_flight=max(1, self.in_flight // self.tenants),
            capacity=max(1, self.capacity // self.tenants),
            tenants=1,
        )


@attrs.frozen
class Tenant:
    """The engine as one tenant reaches it, and who submits there."""

    target: Target
    producer: LoadProcess


async def run(options: Options, case: ThroughputCase, *, limits: bool = False) -> Report:
    """With ``limits`` each round is run once more, its jobs of a source with a rate and of a type
    with quotas, all too wide to hold anything up; every other time that comes first. ``ratio`` is
    its jobs a second to those of the same round without, ``cpu_ratio`` is that round's CPU a job,
    of all processes, to its own."""
    async with open_target(options) as target, open_tenants(target, options, case) as tenants:
        report = report_on(target, "throughput", "jobs_per_s", "jobs/s", **attrs.asdict(case))
        for number in range(options.rounds):
            limited = None
            if limits and number % 2:
                limited = await _measure_limited(target, tenants, case, number)
            plain = await measure_round(target, tenants, case, number)
            if limits and limited is None:
                limited = await _measure_limited(target, tenants, case, number)
            report.add("throughput", **plain)
            if limited is not None:
                report.add("with limits", **_ratios(limited, plain), **limited)
        return report


async def _measure_limited(
    target: Target, tenants: Sequence[Tenant], case: ThroughputCase, number: int
) -> dict[str, Any]:
    source_id = f"limits-{number}-{time.time_ns():x}"
    job_type = target.job_type("throughput", number, source_id)
    await set_wide_limits([tenant.target for tenant in tenants], source_id, job_type)
    return await measure_round(target, tenants, case, number, source_id)


def _ratios(limited: dict[str, Any], plain: dict[str, Any]) -> dict[str, float]:
    ratios = {"ratio": limited["jobs_per_s"] / plain["jobs_per_s"]}
    spent = sum((limited["cpu_us_per_job"] or {}).values())
    if spent:
        ratios["cpu_ratio"] = sum(plain["cpu_us_per_job"].values()) / spent
    return ratios


async def set_wide_limits(targets: Sequence[Target], source_id: str, job_type: str) -> None:
    """Give each target a source with a rate, and a job type quotas; too wide to hold anything up.
    A target's token is an operator's."""
    source = {
        "sourceId": source_id,
        "sourceType": "bench",
        "host": f"{source_id}.example",
        "ratePolicy": {"perSecond": _PLENTY, "burst": _PLENTY},
        "maxActive": _PLENTY,
    }
    quota = {
        "scope": "job_type",
        "key": job_type,
        "maxActive": _PLENTY,
        "maxPerHour": 10 * _PLENTY,
    }
    for tenant in targets:
        async with open_client(
            tenant.http_url, tenant.token, tenant.tenant, operator_reason="benchmark"
        ) as client:
            for path, control in (("sources", source), ("quotas", quota)):
                body = msgspec.json.encode(control)
                status, said = await client.post(f"{_API}/{path}", body, "application/json")
                if status != 201:
                    raise MeasurementFailedError(f"{path}: HTTP {status}: {said[:500]!r}")


@asynccontextmanager
async def open_tenants(
    target: Target, options: Options, case: ThroughputCase
) -> AsyncIterator[Sequence[Tenant]]:
    """The target's own tenant, or where there are several, others that only this run knows."""
    kind = "producer" if case.via == "websocket" else "poster"
    targets = [target]
    if case.tenants > 1:
        shards = int(options.settings.get("shards", Settings().shards))
        targets = [target.as_tenant(name) for name in _names(case.tenants, shards)]
    async with AsyncExitStack() as stack:
        yield [
            Tenant(each, await stack.enter_async_context(open_ready_load(kind, each)))
            for each in targets
        ]


def _names(tenants: int, shards: int) -> list[str]:
    """Of tenants that take the shards in turn."""
    names = (f"tenant-{number}" for number in count(1))
    return [
        next(name for name in names if shard_of(name, shards) == number % shards)
        for number in range(tenants)
    ]


async def measure_round(
    target: Target,
    tenants: Sequence[Tenant],
    case: ThroughputCase,
    number: int,
    source_id: str | None = None,
) -> dict[str, Any]:
    """One run with fresh workers; jobs of one round have a type of their own."""
    job_type = target.job_type("throughput", number, *([source_id] if source_id else ()))
    share = case.share
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(_open_worker(tenant.target, share, job_type))
            for tenant in tenants
            for _ in range(case.workers)
        ]

        def handled() -> int:
            return sum(worker.count for worker in workers)

        async def all_handled(jobs: int) -> None:
            while handled() < jobs * len(tenants):  # noqa: ASYNC110 - the sum of several processes
                await trio.sleep(0.005)

        empty = await _totals(target, tenants)
        if case.warm_up:
            await _submit(tenants, share, job_type, share.warm_up, source_id)
            await all_handled(share.warm_up)
        before = await _totals(target, tenants)
        meter = target.meter(workers=workers, producer=[each.producer for each in tenants])
        meter.start()
        total = share.warm_up + share.jobs
        async with show_progress(f"throughput {number + 1}", total * len(tenants), handled):
            submitted = await _submit(tenants, share, job_type, share.jobs, source_id)
            await all_handled(total)
            for worker in workers:
                await worker.order(do="drain")
            drained = [await worker.answer() for worker in workers]
        jobs = share.jobs * len(tenants)
        cpu = meter.spent_per(jobs)
    began_at = min(each["began_at"] for each in submitted)
    ended_at = max(each["ended_at"] for each in submitted)
    measured: dict[str, Any] = {
        "jobs_per_s": jobs / (max(each["ended_at"] for each in drained) - began_at),
        "submit_per_s": sum(each["jobs"] for each in submitted) / (ended_at - began_at),
        "cpu_us_per_job": cpu,
    }
    after = await _totals(target, tenants)
    if empty is not None and before is not None and after is not None:
        _verify(target, tenants, share, job_type, after.entries - empty.entries)
        measured["jobs_per_commit"] = jobs / max(1, after.commits - before.commits)
        measured["wal_bytes_per_job"] = (after.wal_bytes - before.wal_bytes) / jobs
    return measured


def _open_worker(
    target: Target, share: ThroughputCase, job_type: str
) -> AbstractAsyncContextManager[LoadProcess]:
    return open_load("worker", **target.door(), job_type=job_type, capacity=share.capacity)


async def _totals(target: Target, tenants: Sequence[Tenant]) -> Totals | None:
    if target.database is None:
        return None
    names = [tenant.target.tenant for tenant in tenants]
    return await trio.to_thread.run_sync(target.database.totals, *names)


async def _submit(
    tenants: Sequence[Tenant],
    share: ThroughputCase,
    job_type: str,
    jobs: int,
    source_id: str | None,
) -> list[dict[str, Any]]:
    """All tenants at once; what each producer says when its last answer has come."""
    for tenant in tenants:
        await tenant.producer.order(**_submit_order(share, job_type, jobs, source_id))
    return [await tenant.producer.answer() for tenant in tenants]


def _submit_order(
    case: ThroughputCase, job_type: str, jobs: int, source_id: str | None
) -> dict[str, Any]:
    order = {
        "jobs": jobs,
        "batch": case.batch,
        "job_type": job_type,
        "payload_bytes": case.payload_bytes,
        "source_id": source_id,
    }
    if case.via == "http":
        return {"do": "post", "clients": case.in_flight, **order}
    return {"do": "submit", "in_flight": case.in_flight, **order}


def _verify(
    target: Target, tenants: Sequence[Tenant], share: ThroughputCase, job_type: str, entries: int
) -> None:
    jobs = share.warm_up + share.jobs
    for tenant in tenants:
        states = target.require_database().count_jobs(tenant.target.tenant, job_type)
        if states != {"completed": jobs}:
            raise MeasurementFailedError(f"{jobs} jobs should be completed: {states}")
    if entries != _ENTRIES_PER_JOB * jobs * len(tenants):
        raise MeasurementFailedError(f"{jobs * len(tenants)} jobs left {entries} ledger entries")
