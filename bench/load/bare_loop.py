"""Writes a job's whole life to the store in a bare loop: what PostgreSQL can take at most.

The rows, entries and blocks are those of the engine, made by its own draft and ledger core; each
commit creates and leases `batch` jobs and completes those of the commit before, which is the least
that a job can cost: two changes of its row, four entries. They are made and encoded before the
clock starts, so the loop does nothing but execute the engine's statement, one at a time.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import trio

from bench.load.jobs import payloads
from bench.load.talk import Orders, Say, tell_count
from jobengine.actors.runtime.clock import SystemClock
from jobengine.actors.runtime.dice import SystemDice
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.ledger import LedgerCore, LedgerLimits
from jobengine.domain.change import ChangeSet, CommitBatch
from jobengine.domain.ids import shard_of
from jobengine.domain.job import Job, State
from jobengine.messages.lease_shard import Actor
from jobengine.messages.ledger import Append, BatchCommitted, HeadsLoaded, LoadHeads, Write
from jobengine.messages.wake import Wake
from jobengine.settings import Settings
from jobengine.store.postgres.driver.connection import Connection
from jobengine.store.postgres.encode import commit_parameters
from jobengine.store.postgres.opening import COMMIT_SETTINGS
from jobengine.store.postgres.statements import Statement, load_statements
from jobengine.wire.jobs import JobRequest
from jobengine.wire.translate import new_job

__all__ = ["run"]

_AGEING_US: Final = round(Settings().ageing_s * 1_000_000)
_SPAN_US: Final = 1_000
_WORKER: Final = "bench-worker"


class _Runs(NamedTuple):
    worker_id: str = _WORKER
    task_runner_id: str = _WORKER


_RUNS: Final = _Runs()


async def run(plan: dict[str, Any], orders: Orders, say: Say) -> None:
    """Plan: conninfo, tenant. Orders: `prepare` {jobs, batch, job_type, payload_bytes} makes the
    commits, `write` executes them; each is answered when done."""
    statements = load_statements()
    connection = await Connection.connect(plan["conninfo"])
    await connection.execute_script(COMMIT_SETTINGS)
    scribe = _Scribe(plan["tenant"])
    commits: list[tuple[Statement, dict[str, Any]]] = []
    executed = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_count, lambda: executed, say)
        say(ready=True)
        async for order in orders:
            if order["do"] == "prepare":
                made = map(commit_parameters, scribe.batches(**_of(order)))
                commits = [(statements[name], parameters) for name, parameters in made]
                say(prepared=len(commits))
                continue
            began_at = time.monotonic()
            for statement, parameters in commits:
                await connection.fetch(statement, parameters)
                executed += 1
            say(commits=len(commits), began_at=began_at, ended_at=time.monotonic())


def _of(order: dict[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("jobs", "batch", "job_type", "payload_bytes")}


class _Scribe:
    """Makes the commits of one tenant, in order; each one is taken for committed when made."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._shard = shard_of(tenant, Settings().shards)
        self._ledger = LedgerCore(LedgerLimits())
        self._stamp = 0
        self._clock = SystemClock()
        self._dice = SystemDice()

    def batches(
        self, jobs: int, batch: int, job_type: str, payload_bytes: int
    ) -> Iterator[CommitBatch]:
        """`jobs` jobs from creation to completion, `batch` of them a commit."""
        texts = payloads(payload_bytes, time.time_ns())
        leased: list[Job] = []
        for start in range(0, jobs, batch):
            created = [self._job(job_type, next(texts)) for _ in range(min(batch, jobs - start))]
            yield self._commit([self._create(created), *self._complete(leased)])
            leased = created
        yield self._commit(self._complete(leased))

    def _job(self, job_type: str, payload: str) -> Job:
        at = self._clock.moment().at
        request = JobRequest(job_type=job_type, payload=msgspec.Raw(payload.encode()))
        new = new_job(request, self._dice.uuid7(at))
        return Job(
            job_id=new.job_id,
            tenant_id=self._tenant,
            definition=new.definition,
            definition_json=new.definition_json,
            payload=new.payload,
            created_at=at,
            due_at=at,
            scheduled_at=at,
        )

    def _create(self, jobs: Sequence[Job]) -> ChangeSet:
        draft = self._draft("producer")
        for job in jobs:
            draft.create(job)
            draft.step(job, State.SCHEDULED)
            job.attempt += 1
            job.started_at = draft.at
            draft.step(job, State.RUNNING, actor="engine", worker=_RUNS, span_us=0)
            draft.close(job, None, by=_RUNS)
        return draft.changes

    def _complete(self, jobs: Sequence[Job]) -> list[ChangeSet]:
        if not jobs:
            return []
        draft = self._draft(_WORKER)
        for job in jobs:
            draft.open()
            job.finished_at = draft.at
            draft.step(job, State.COMPLETED, worker=_RUNS, span_us=_SPAN_US)
            draft.close(job, State.RUNNING).result = msgspec.Raw(b"null")
        return [draft.changes]

    def _draft(self, actor: str) -> Draft:
        now = self._clock.moment()
        return Draft(self._tenant, self._shard, Actor(actor), now, _AGEING_US)

    def _commit(self, changes: Sequence[ChangeSet]) -> CommitBatch:
        """What the ledger makes of changes that wait together: it is busy while they arrive."""
        entries = [entry for change in changes for entry in change.entries]
        whole = ChangeSet(
            tenant_id=self._tenant,
            entries=entries,
            rows=[row for change in changes for row in change.rows],
            spans=_joined_spans(changes),
        )
        self._stamp += 1
        now = self._clock.moment()
        self._ledger.handle(Append(life=1, sender=0, stamp=self._stamp, changes=whole), now)
        commands = self._ledger.handle(Wake(), now)
        for command in commands:
            if isinstance(command, LoadHeads):
                empty = HeadsLoaded(stamp=command.stamp, tenant_ids=command.tenant_ids, heads={})
                commands = self._ledger.handle(empty, now)
        write = next(command for command in commands if isinstance(command, Write))
        self._ledger.handle(BatchCommitted(stamp=write.stamp), now)
        return write.batch


def _joined_spans(changes: Sequence[ChangeSet]) -> list[tuple[int, int]]:
    spans, first = [], 0
    for change in changes:
        spans += [(first + start, count) for start, count in change.spans]
        first += len(change.entries)
    return spans
