"""A lease shard's core between a store's tables and rate buckets, with a hand-moved clock.

Everything that the core commits is applied at once, and everything it asks to read is answered;
so a second driver over the same tables is a restart.
"""

from copy import copy
from itertools import islice
from typing import Any

import msgspec

from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import encode_entries
from jobengine.domain.job import Job
from jobengine.domain.records import DueJob, LeasedJob, Ranked
from jobengine.messages.admission import Explain, Explanation
from jobengine.messages.shard_commands import (
    Commit,
    Committed,
    DueLoaded,
    LoadDelayed,
    LoadExpiring,
    LoadLane,
    LoadSubjects,
    RankedLoaded,
    SubjectsLoaded,
)
from jobengine.messages.wake import Wake
from jobengine.store.memory.constraints import refuse_or_none
from jobengine.store.memory.tables import Tables
from tests.core.shard_driver import ShardDriver

SHARD = 0


class StoredDriver(ShardDriver):
    """``entries`` are those of every commit of this life, decoded, in order."""

    def __init__(self, tables: Tables, mono: float, incarnation: int, **limits: Any) -> None:
        self.tables = tables
        self.entries: list[dict[str, Any]] = []
        self._done = 0
        super().__init__(
            leased=[
                LeasedJob(self.job(*key), lease.worker_id, lease.task_runner_id, lease.granted_at)
                for key, lease in sorted(tables.leases.items())
            ],
            lanes=tables.backlog.lanes(SHARD, 1 << 62),
            backlogs=tables.backlog.counts(SHARD),
            controls=[row for _, row in sorted(tables.controls.items())],
            gate_states=[row for _, row in sorted(tables.gate_states.items())],
            mono=mono,
            incarnation=incarnation,
            **limits,
        )
        self.settle()

    def job(self, tenant_id: str, job_id: str) -> Job:
        """A job as the store reads it: nobody else's object."""
        return copy(self.tables.jobs[tenant_id, job_id])

    def settle(self) -> None:
        """Play store and ledger until nothing is under way."""
        while self._done < len(self.commands):
            command = self.commands[self._done]
            self._done += 1
            match command:
                case Commit():
                    self._apply(command)
                case LoadLane():
                    found = self.tables.backlog.ready(command.lane, command.after, command.now_at)
                    self._ranked(
                        command.stamp, [row.key for row in islice(found, command.jobs_max)]
                    )
                case LoadDelayed():
                    due = self.tables.backlog.delayed(SHARD, command.after, command.jobs_max)
                    self._ranked(command.stamp, [(each.tenant_id, each.job_id) for each in due])
                case LoadExpiring():
                    due = self.tables.backlog.expiring(SHARD, command.after, command.jobs_max)
                    rows = [DueJob(each.at, each.tenant_id, each.job_id) for each in due]
                    self.send(DueLoaded(stamp=command.stamp, rows=rows))
                case LoadSubjects():
                    self.send(self.subjects(command))

    def wait(self, seconds: float) -> list[Any]:
        until = self.mono + seconds
        while (wakeup_at := self.core.wakeup_at) is not None and wakeup_at <= until:
            self.mono = max(self.mono, wakeup_at)
            self.send(Wake())
            self.settle()
        self.mono = until
        return []

    def explanation(self, job_id: str) -> Explanation:
        """The closed gates of a job of ``acme``."""
        self.send(Explain(ask_id=self.ask_id(), tenant_id="acme", job_ids=[job_id]))
        self.settle()
        (found,) = self.answers()[-1].jobs
        return found

    def _apply(self, commit: Commit) -> None:
        batch = CommitBatch(batch_id=str(commit.stamp), blocks=(), changes=(commit.changes,))
        refusal = refuse_or_none(self.tables, batch)
        assert refusal is None, refusal
        self.tables.apply(batch)
        lines = encode_entries(commit.changes.entries).splitlines()
        self.entries += [msgspec.json.decode(line) for line in lines]
        self.send(Committed(stamp=commit.stamp, first_seq=1))

    def subjects(self, command: LoadSubjects) -> SubjectsLoaded:
        tables, tenant_id = self.tables, command.tenant_id
        keys = [(tenant_id, job_id) for job_id in command.job_ids]
        run_id = command.run_id or tables.planned.tokens.get((tenant_id, command.run_token or ""))
        run = tables.planned.runs.get((tenant_id, run_id or ""))
        versions = {}
        wanted = command.document
        if wanted is not None:
            kind, name = wanted.kind, wanted.name
            versions = {
                key[3]: row
                for key, row in tables.planned.registry.items()
                if key[:3] == (tenant_id, kind, name)
            }
        return SubjectsLoaded(
            stamp=command.stamp,
            tenant_id=tenant_id,
            jobs={key[1]: self.job(*key) for key in keys if key in tables.jobs},
            answers={
                claim: rows[-1]
                for claim in command.claims.idempotency
                if (rows := tables.answers.get((tenant_id, *claim)))
            },
            run=None if run is None else run.record,
            newest=versions[max(versions)] if versions else None,
            version=versions.get(wanted.version or 0) if wanted is not None else None,
        )

    def _ranked(self, stamp: int, keys: list[tuple[str, str]]) -> None:
        rows = [Ranked(self.tables.backlog.rows[key].rank, self.job(*key)) for key in keys]
        self.send(RankedLoaded(stamp=stamp, rows=rows))
