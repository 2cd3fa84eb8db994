"""A very large backlog: how fast the engine starts over it, and the memory that it takes.

The jobs lie with several tenants, in part ready and in part falling due tomorrow. They come through
the workers' door, or, which is the default, a thousand of each tenant do and the rest are copies
that the server makes of their rows (`bench.load.copies`); the ledger has no entries of copies. Then
the engine is stopped and started: seconds until it serves, and until a worker that asks at once has
its first lease, both from the start of the process, that of its database included. Then a worker
takes from one tenant for a while.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs
import trio

from bench.flow import job_id_floor
from bench.harness.children import open_load
from bench.harness.cost import rss_mib_of
from bench.harness.database import embedded_database
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.rounds import open_ready_load, show_progress

__all__ = ["BacklogCase", "measure", "run", "start_again"]

_ORIGINALS: Final = 1_000
"""Of each tenant."""
_BATCH: Final = 1_000
_IN_FLIGHT: Final = 4
_FIRST_GRANT_S_MAX: Final = 300.0
_CAPACITY: Final = 4_000


@attrs.frozen(kw_only=True)
class BacklogCase:
    """`jobs` and `taken` are in all; of what is copied, `delayed_percent` falls due tomorrow."""

    jobs: int = 10_000_000
    tenants: int = 16
    via: Literal["copy", "door"] = "copy"
    delayed_percent: int = 50
    payload_bytes: int = 100
    taken: int = 20_000

    @property
    def each(self) -> int:
        """Jobs of one tenant."""
        return max(1, self.jobs // self.tenants)

    @property
    def originals(self) -> int:
        """Jobs of one tenant that come through the door."""
        return self.each if self.via == "door" else min(self.each, _ORIGINALS)


async def run(options: Options, case: BacklogCase) -> Report:
    """One round: a backlog is only built once."""
    async with open_target(options) as target:
        return await measure(target, case)


async def measure(target: Target, case: BacklogCase) -> Report:
    """What `run` reports, of an engine that is there and is started again."""
    report = report_on(target, "backlog", "rss_mib", "MiB", **attrs.asdict(case))
    idle_mib = rss_mib_of(target.require_engine().pid)
    tenants = [target.as_tenant(f"backlog-{number}") for number in range(case.tenants)]
    job_type = target.job_type("backlog")
    loaded = await _load(target, tenants, case, job_type)
    started = await start_again(target, tenants[0], job_type)
    taken = await _take(target, tenants[0], min(case.taken, case.each // 4), job_type)
    report.add("started over the backlog", jobs=case.each * case.tenants, **started)
    report.add("after taking from it", **taken)
    report.add("loaded", **loaded)
    report.add("idle", jobs=0, rss_mib=idle_mib)
    return report


async def _load(
    target: Target, tenants: Sequence[Target], case: BacklogCase, job_type: str
) -> dict[str, Any]:
    began_at, floor = trio.current_time(), job_id_floor()
    doors = [{"tenant": each.tenant, "token": each.token} for each in tenants]
    originals = case.originals * case.tenants
    async with (
        open_ready_load("producer", target, tenants=doors) as producer,
        show_progress("backlog, by the door", originals, lambda: producer.count),
    ):
        await producer.ask(
            do="submit", jobs=originals, batch=min(_BATCH, case.originals), in_flight=_IN_FLIGHT,
            job_type=job_type, payload_bytes=case.payload_bytes,
        )  # fmt: skip
    copies = case.each - case.originals
    async with (
        open_load("copies", conninfo=target.require_database().conninfo) as copier,
        show_progress("backlog, copies", copies * case.tenants, lambda: copier.count),
    ):
        await copier.answer()
        for each in tenants:
            await copier.ask(
                do="copy", tenant=each.tenant, job_type=job_type, floor=floor, first=0,
                last=copies, delayed_percent=case.delayed_percent,
            )  # fmt: skip
        await copier.ask(do="settle")
    return {
        "jobs": case.each * case.tenants,
        "seconds": trio.current_time() - began_at,
        "rss_mib": rss_mib_of(target.require_engine().pid),
    }


async def start_again(target: Target, tenant: Target, job_type: str) -> dict[str, Any]:
    """Stop the engine and start it over what is stored, jobs of this type and tenant among it.
    Raises `trio.TooSlowError` where a lease takes minutes."""
    engine = target.require_engine()
    async with open_ready_load("idlers", tenant, workers=1, job_type=job_type, slots=1) as idlers:
        await engine.stop()
        began_at = trio.current_time()
        target.engine = engine = await engine.start_again()
        serving_s = trio.current_time() - began_at
        if engine.database_url is None:
            target.database = embedded_database(engine.data_dir)
        with trio.fail_after(_FIRST_GRANT_S_MAX):
            await idlers.ask(do="connect")
            await idlers.wait_count(1)
        first_grant_s = trio.current_time() - began_at
    return {
        "serving_s": serving_s,
        "first_grant_s": first_grant_s,
        "rss_mib": rss_mib_of(engine.pid),
        "peak_mib": rss_mib_of(engine.pid, peak=True),
    }


async def _take(target: Target, tenant: Target, jobs: int, job_type: str) -> dict[str, Any]:
    engine = target.require_engine()
    async with open_ready_load(
        "worker", tenant, job_type=job_type, capacity=_CAPACITY, held=True
    ) as worker:
        began_at = trio.current_time()
        async with show_progress("taking from it", jobs, lambda: worker.count):
            await worker.order(do="go")
            await worker.wait_count(jobs)
        took_s = trio.current_time() - began_at
        figures = {
            "taken_per_s": worker.count / took_s,
            "rss_mib": rss_mib_of(engine.pid),
            "peak_mib": rss_mib_of(engine.pid, peak=True),
        }
        await worker.ask(do="drain")
    return figures
