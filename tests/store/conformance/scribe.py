"""Writes batches as the ledger would: numbered, chained, one block a tenant."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from jobengine.domain.change import ChangeSet, CommitBatch, JobRow
from jobengine.domain.entry import GENESIS, Block, Entry, Head, encode_entries, next_link
from jobengine.domain.instant import DAY
from jobengine.domain.job import Definition, Job
from jobengine.store.port import Store

NOW = 20_778 * DAY + 3_600_000_000
TENANT = "acme"
SHARD = 3


def job_id(number: int) -> str:
    """Ids that sort by number."""
    return str(uuid.UUID(int=0x0198_0000_0000_7000_8000_0000_0000_0000 + number))


def definition(**fields: Any) -> Definition:
    given = {"job_type": "scan", "queue": "scans", "payload_digest": "0" * 64} | fields
    return Definition(**given)


def new_row(
    number: int,
    state: str = "scheduled",
    *,
    tenant_id: str = TENANT,
    shard: int = SHARD,
    payload: bytes = b'{"n":1}',
    about: Definition | None = None,
    **fields: Any,
) -> JobRow:
    """The row of a new job, complete for its state."""
    about = about or definition()
    given: dict[str, Any] = {
        "tenant_id": tenant_id,
        "shard": shard,
        "job_id": job_id(number),
        "state": state,
        "queue": about.queue,
        "job_type": about.job_type,
        "project_id": about.project_id,
        "run_id": about.run_id,
        "source_id": about.source_id,
        "definition": msgspec.Raw(msgspec.json.encode(about)),
        "payload": msgspec.Raw(payload),
        "created_at": NOW,
        "due_at": NOW,
    }
    return JobRow(**(given | _of_state(state) | fields))


def change_row(job: JobRow | Job, state: str, **fields: Any) -> JobRow:
    """A change of a job that is as `job` says."""
    given: dict[str, Any] = {
        "tenant_id": job.tenant_id,
        "shard": getattr(job, "shard", SHARD),
        "job_id": job.job_id,
        "state": state,
        "from_state": str(job.state),
        "attempt": job.attempt,
        "due_at": job.due_at,
        "started_at": job.started_at,
    }
    if state in ("pending", "scheduled"):
        about = job.definition if isinstance(job, Job) else job
        given |= {"queue": about.queue, "job_type": about.job_type}
    return JobRow(**(given | _of_state(state) | fields))


def _of_state(state: str) -> dict[str, Any]:
    match state:
        case "scheduled":
            return {"rank": 100, "scheduled_at": NOW}
        case "running":
            return {
                "attempt": 1,
                "started_at": NOW,
                "worker_id": "w1",
                "task_runner_id": "default",
            }
        case "completed" | "failed" | "cancelled":
            return {"finished_at": NOW}
        case _:
            return {}


class Scribe:
    """Keeps the heads of what it has written to one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.heads: dict[str, Head] = {}
        self.written: dict[str, list[Block]] = {}
        self._batches = 0

    def batch(self, *changes: ChangeSet, at: int = NOW) -> CommitBatch:
        """Number and chain; an entry for each row, or one for a change without rows."""
        blocks = []
        for change in sorted(changes, key=lambda change: change.tenant_id):
            head = self.heads.get(change.tenant_id, Head(1, GENESIS))
            seq = head.next_seq
            if not change.entries:
                for row in change.rows:
                    entry = Entry(actor="test", at=at, job=row.job_id, kind="job", to=row.state)
                    change.entries.append(entry)
                    row.seqs = [seq + len(change.entries) - 1]
                if not change.rows:
                    change.entries.append(Entry(actor="test", at=at, kind="audit"))
            for place, entry in enumerate(change.entries):
                entry.seq = seq + place
            body = encode_entries(change.entries)
            blocks.append(
                Block(
                    tenant_id=change.tenant_id,
                    first_seq=seq,
                    last_seq=seq + len(change.entries) - 1,
                    at=at,
                    previous=head.link,
                    link=next_link(head.link, body),
                    body=body,
                )
            )
        self._batches += 1
        return CommitBatch(
            batch_id=f"batch-{self._batches}", blocks=tuple(blocks), changes=tuple(changes)
        )

    def note(self, batch: CommitBatch) -> None:
        """A batch is known to be committed."""
        for block in batch.blocks:
            self.heads[block.tenant_id] = Head(block.last_seq + 1, block.link)
            self.written.setdefault(block.tenant_id, []).append(block)

    async def write(self, *changes: ChangeSet, at: int = NOW) -> CommitBatch:
        batch = self.batch(*changes, at=at)
        await self.store.commit(batch)
        self.note(batch)
        return batch

    async def rows(self, *rows: JobRow) -> None:
        """Commit rows, a change for each tenant among them."""
        tenants = dict.fromkeys(row.tenant_id for row in rows)
        await self.write(
            *(
                ChangeSet(
                    tenant_id=tenant_id,
                    entries=[],
                    rows=[row for row in rows if row.tenant_id == tenant_id],
                )
                for tenant_id in tenants
            )
        )

    async def aside(self, tenant_id: str = TENANT, at: int = NOW, **kinds: Sequence[Any]) -> None:
        """Commit rows of the side kinds, named as the fields of a ChangeSet."""
        fields: dict[str, Any] = {name: list(rows) for name, rows in kinds.items()}
        await self.write(ChangeSet(tenant_id=tenant_id, entries=[], **fields), at=at)

    async def job(self, number: int, tenant_id: str = TENANT) -> Job:
        (job,) = await self.store.jobs(tenant_id, [job_id(number)])
        return job
