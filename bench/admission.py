"""What admission adds to a job: CPU of the cores, in one process, with nothing behind them.

One lease shard and the rate buckets of its tenants are driven by hand: batches are submitted, half
of each starts on arrival and half as slots come free, all complete; every commit returns at once.
The gated shard has each gate in play and open: for each tenant sources with rates, breakers and
weights, quotas of running and of hourly starts, a throttle, a blackout calendar out of force, a
quota of the project, and concurrency keys. The plain one has no control, and jobs without keys.
Both take the same batches by turns; the figure is the difference.
"""

import gc
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import attrs
import msgspec
import trio

from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target
from jobengine.core.lease_shard import LeaseShard, ShardLimits
from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.blackout import Blackout, BlackoutScope, Recurring
from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.change import ControlRow
from jobengine.domain.control import (
    Control,
    ControlKind,
    Quota,
    RatePolicy,
    Source,
    Throttle,
    encode_control,
)
from jobengine.domain.control import Weight as TypeWeight
from jobengine.domain.failure import Failure
from jobengine.domain.instant import HOUR, Moment
from jobengine.domain.job import Definition
from jobengine.domain.records import NewJob
from jobengine.messages.lease_shard import Actor, SubmitJobs
from jobengine.messages.rate_bucket import Configure, Refund, Reserve, Started
from jobengine.messages.session import Grant, Granted, Tell
from jobengine.messages.shard_commands import (
    Commit,
    Committed,
    DueLoaded,
    LoadDelayed,
    LoadExpiring,
    RankedLoaded,
    Recovered,
)
from jobengine.messages.worker_reports import Attach, Completed, Failed, Reports, SetCredit

__all__ = ["AdmissionCase", "run"]

_BUDGET_US: Final = 15
_EPOCH_AT: Final = 1_767_225_600_000_000
_PLENTY: Final = 10_000_000
_RATE: Final = RatePolicy(burst=_PLENTY, per_minute_micro=60_000_000_000_000)
_FOR_BUCKETS: Final = (Configure, Reserve, Refund, Started)
_BAD: Final = Failure(class_="UpstreamError", message="no", retryable=False, http_status=502)


@attrs.frozen(kw_only=True)
class AdmissionCase:
    """``jobs`` are those of a round, which go to the tenants in turn, ``batch`` at a time."""

    tenants: int = 10_000
    sources: int = 10
    jobs: int = 50_000
    batch: int = 100


async def run(options: Options, case: AdmissionCase) -> Report:
    nowhere = Target(http_url="", worker_url="", token="", tenant="", engine=None, database=None)
    settings = attrs.asdict(case) | {"budget_us": _BUDGET_US}
    report = report_on(nowhere, "admission", "cpu_us", "µs a job", **settings)
    report.durability = {"storage": "nothing is stored"}
    plain, gated = await _make(case, gated=False), await _make(case, gated=True)
    for shard in (plain, gated):
        await shard.warm_up()
    gc.collect()
    gc.freeze()
    batches = max(1, case.jobs // case.batch)
    for number in range(options.rounds):
        spent_ns = {plain: 0, gated: 0}
        for turn in range(batches):
            tenant = (number * batches + turn) % case.tenants
            for shard in (plain, gated) if turn % 2 else (gated, plain):
                spent_ns[shard] += shard.measure(tenant)
            await trio.lowlevel.checkpoint()
        per_job = {
            shard: spent / (batches * case.batch * 1_000) for shard, spent in spent_ns.items()
        }
        report.add("admission", cpu_us=per_job[gated] - per_job[plain])
        report.add("a job with every gate", cpu_us=per_job[gated])
        report.add("a job without any", cpu_us=per_job[plain])
    return report


async def _make(case: AdmissionCase, *, gated: bool) -> "_Shard":
    """In a thread, for Ctrl-C is not to wait: controls of many tenants are one long message."""
    make = partial(_Shard, case, gated=gated)
    return await trio.to_thread.run_sync(make, abandon_on_cancel=True)


class _Shard:
    """A lease shard with its buckets; its ledger and its workers are played here."""

    def __init__(self, case: AdmissionCase, *, gated: bool) -> None:
        self._case = case
        self._gated = gated
        self._core = LeaseShard(0, ShardLimits())
        self._buckets: dict[str, RateBucket] = {}
        self._mono = 1_000.0
        self._jobs = 0
        controls = list(_controls(case)) if gated else []
        self._tell(Recovered(leased=[], lanes=[], controls=controls))

    async def warm_up(self) -> None:
        """A worker for each tenant, and of each of its sources a job that fails and one that does
        not; so every breaker has something to remember."""
        case = self._case
        for tenant in range(case.tenants):
            self._attach(tenant)
            grants = self._tell(self._submit(tenant, 2 * case.sources))
            while grants:
                grants = self._tell(_reports(tenant, grants, fail=case.sources))
            await trio.lowlevel.checkpoint()

    def measure(self, tenant: int) -> int:
        """CPU nanoseconds of one batch from its submit to its last completion."""
        submit = self._submit(tenant, self._case.batch)
        began_ns = time.thread_time_ns()
        grants, ended = self._tell(submit), 0
        while grants:
            ended += len(grants)
            grants = self._tell(_reports(tenant, grants))
        spent_ns = time.thread_time_ns() - began_ns
        assert ended == self._case.batch, f"{ended} jobs of a batch have run"
        return spent_ns

    def _tell(self, message: Any) -> list[Grant]:
        """Handle a message and all that follows from it; what was granted."""
        self._mono += 0.001
        now = Moment(self._mono, _EPOCH_AT + round(self._mono * 1e6))
        grants: list[Grant] = []
        todo = deque([message])
        while todo:
            for command in self._core.handle(todo.popleft(), now):
                if isinstance(command, Tell):
                    if isinstance(command.message, Granted):
                        grants.extend(command.message.leases)
                elif isinstance(command, Commit):
                    todo.append(Committed(stamp=command.stamp, first_seq=1))
                elif isinstance(command, _FOR_BUCKETS):
                    todo.extend(self._bucket(command.tenant_id).handle(command, now))
                elif isinstance(command, LoadDelayed):
                    todo.append(RankedLoaded(stamp=command.stamp, rows=[]))
                elif isinstance(command, LoadExpiring):
                    todo.append(DueLoaded(stamp=command.stamp, rows=[]))
        return grants

    def _bucket(self, tenant_id: str) -> RateBucket:
        bucket = self._buckets.get(tenant_id)
        if bucket is None:
            bucket = self._buckets[tenant_id] = RateBucket(tenant_id)
        return bucket

    def _attach(self, tenant: int) -> None:
        capacity = max(1, self._case.batch // 2)
        self._tell(
            Attach(
                session_id=tenant,
                tenant_id=f"tenant-{tenant}",
                worker_id="worker",
                task_runner_id="runner",
                queues=frozenset(),
                job_types=frozenset({"scan"}),
                capacity=capacity,
                auto_credit=True,
            )
        )
        self._tell(SetCredit(session_id=tenant, slots=capacity))

    def _submit(self, tenant: int, jobs: int) -> SubmitJobs:
        new = []
        for number in range(self._jobs, self._jobs + jobs):
            definition = Definition(
                concurrency_key=f"key-{number}" if self._gated else None,
                concurrency_limit=1 if self._gated else None,
                job_type="scan",
                payload_digest=_DIGEST,
                project_id="project",
                queue="scan",
                source_id=f"source-{number % self._case.sources}",
            )
            new.append(
                NewJob(
                    job_id=f"00000000-0000-7000-8000-{number:012d}",
                    definition=definition,
                    definition_json=canonical_of(msgspec.to_builtins(definition)),
                    payload=b"{}",
                )
            )
        self._jobs += jobs
        return SubmitJobs(ask_id=1, tenant_id=f"tenant-{tenant}", actor=_ACTOR, jobs=new)


_DIGEST: Final = digest(b"{}")
_ACTOR: Final = Actor("bench")


def _reports(tenant: int, grants: list[Grant], *, fail: int = 0) -> Reports:
    """The ends of what was granted; the first ``fail`` of them say that the source does."""
    reports: list[Completed | Failed] = []
    for number, grant in enumerate(grants):
        lease: dict[str, Any] = {"lease_id": grant.lease_id, "token": grant.token, "ref": number}
        if number < fail:
            reports.append(Failed(error=_BAD, **lease))
        else:
            reports.append(Completed(result=b"{}", **lease))
    return Reports(session_id=tenant, reports=reports)


def _controls(case: AdmissionCase) -> Iterator[ControlRow]:
    for tenant in range(case.tenants):
        for kind, name, control in _controls_of_tenant(case.sources):
            yield ControlRow(
                tenant_id=f"tenant-{tenant}",
                shard=0,
                kind=kind,
                name=name,
                body=msgspec.Raw(encode_control(control)),
                revision=1,
                at=_EPOCH_AT,
            )


def _controls_of_tenant(sources: int) -> Iterator[tuple[ControlKind, str, Control]]:
    for number in range(sources):
        yield (
            "source",
            f"source-{number}",
            Source(
                host=f"host-{number}.example",
                max_active=_PLENTY,
                rate_policy=_RATE,
                source_type="registry",
                weight=1 + number % 3,
            ),
        )
    yield "quota", "all", Quota(max_active=_PLENTY, max_per_hour=_PLENTY)
    yield "quota", "scans", Quota(scope="job_type", key="scan", max_active=_PLENTY)
    yield "quota", "project", Quota(scope="project", key="project", max_active=_PLENTY)
    yield "throttle", "tenant", Throttle(rate=_RATE)
    yield "weight", "job_type:scan", TypeWeight(key="scan", weight=2)
    yield (
        "blackout",
        "noons",
        Blackout(
            blackout_id="noons",
            calendar=(Recurring(cron="0 12 * * *", duration_us=4 * HOUR, zone="Europe/Vienna"),),
            reason="works",
            scope=BlackoutScope.TENANT,
        ),
    )
