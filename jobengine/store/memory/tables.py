"""The memory store's tables, and the one change of them: a commit that was not refused.

I1  `backlog` and `leases` follow from a job's state and are touched by `apply` alone.

Not here: what a commit is refused for (`constraints`).
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

import attrs
import msgspec

from jobengine.domain.change import (
    ApiKeyRow,
    ArtifactRow,
    CommitBatch,
    ControlRow,
    DeadLetterRow,
    GateStateRow,
    IdempotencyRow,
    JobRow,
    LogRow,
    RedriveRow,
    RevocationRow,
    UniqueRow,
    WebhookRow,
)
from jobengine.domain.entry import NO_DATA, Block, Head
from jobengine.domain.job import Job, State
from jobengine.domain.redrive import UNFINISHED, Redrive, RedriveOrder, RedriveState
from jobengine.domain.stored_definitions import StoredDefinitions
from jobengine.domain.webhook import Webhook
from jobengine.domain.webhook_records import to_webhook
from jobengine.store.feeds import FeedCursor
from jobengine.store.memory.backlog import Backlog, JobKey, WaitingRow
from jobengine.store.memory.run_tables import RunTables
from jobengine.store.port import Lane, LogLines

__all__ = ["WAITING", "Lease", "Tables"]

WAITING = frozenset({State.PENDING, State.SCHEDULED})
_EMPTY = (b"", b"null")
_decode_order = msgspec.json.Decoder(RedriveOrder).decode


@attrs.frozen
class Lease:
    shard: int
    worker_id: str
    task_runner_id: str
    granted_at: int


@attrs.define(eq=False)
class Tables:
    heads: dict[str, Head] = attrs.field(factory=dict)
    blocks: defaultdict[str, list[Block]] = attrs.field(factory=lambda: defaultdict(list))
    jobs: dict[JobKey, Job] = attrs.field(factory=dict)
    job_ids: defaultdict[str, list[str]] = attrs.field(factory=lambda: defaultdict(list))
    """Ascending, by tenant."""
    run_jobs: defaultdict[tuple[str, str], list[str]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    """Job ids ascending, by tenant and run id."""
    backlog: Backlog = attrs.field(factory=Backlog)
    leases: dict[JobKey, Lease] = attrs.field(factory=dict)
    letters: dict[JobKey, DeadLetterRow] = attrs.field(factory=dict)
    """By tenant and dead letter id."""
    redrives: dict[tuple[str, str], Redrive] = attrs.field(factory=dict)
    """By tenant and redrive id."""
    artifacts: dict[tuple[str, str, int, str], ArtifactRow] = attrs.field(factory=dict)
    logs: defaultdict[JobKey, list[tuple[int, LogLines]]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    keys: dict[tuple[str, str], UniqueRow] = attrs.field(factory=dict)
    answers: dict[tuple[str, str, str], list[IdempotencyRow]] = attrs.field(factory=dict)
    """By tenant, key and path; oldest first."""
    credentials: dict[tuple[str, str, str], tuple[int, ApiKeyRow | RevocationRow]] = attrs.field(
        factory=dict
    )
    """By tenant, kind and id, with the position of the last change."""
    controls: dict[tuple[str, str, str], ControlRow] = attrs.field(factory=dict)
    """By tenant, kind and name."""
    gate_states: dict[tuple[str, str], GateStateRow] = attrs.field(factory=dict)
    feed_cursors: dict[tuple[str, str], FeedCursor] = attrs.field(factory=dict)
    """By tenant and feed; not touched by `apply`."""
    webhooks: dict[tuple[str, str], Webhook] = attrs.field(factory=dict)
    """By tenant and webhook id."""
    planned: RunTables = attrs.field(factory=RunTables)
    _definitions: StoredDefinitions = attrs.field(factory=StoredDefinitions)
    _log_position: int = 0
    _credential_position: int = 0

    def apply(self, batch: CommitBatch) -> None:
        """Make a commit that was not refused."""
        keys = self.keys_after(batch)
        assert keys is not None
        self.keys |= {key: row for key, row in keys.items() if row is not None}
        for key in [key for key, row in keys.items() if row is None]:
            self.keys.pop(key, None)
        for block in batch.blocks:
            self.heads[block.tenant_id] = Head(block.last_seq + 1, block.link)
            self.blocks[block.tenant_id].append(block)
        for change in batch.changes:
            for row in change.job_rows():
                self._apply_row(row)
            for letter in change.dead_letters:
                self._apply_letter(letter)
            for artifact in change.artifacts:
                name = (artifact.tenant_id, artifact.job_id, artifact.attempt, artifact.name)
                self.artifacts[name] = artifact
            self._apply_logs(change.logs, again=batch.again)
            for answer in change.idempotency:
                self._apply_answer(answer)
            for key_row in change.api_keys:
                self._apply_api_key(key_row)
            for revocation in change.revocations:
                self._apply_revocation(revocation)
            for redrive in change.redrives:
                self._apply_redrive(redrive)
            for control in change.controls:
                self._apply_control(control)
            for kept in change.gate_states:
                self._apply_gate_state(kept)
            for webhook in change.webhooks:
                self._apply_webhook(webhook)
            self.planned.apply(change)

    def keys_after(self, batch: CommitBatch) -> dict[tuple[str, str], UniqueRow | None] | None:
        """What becomes of the keys that a commit names; None where one is taken twice."""
        ats = {block.tenant_id: block.at for block in batch.blocks}
        after: dict[tuple[str, str], UniqueRow | None] = {}
        for row in chain.from_iterable(change.unique for change in batch.changes):
            key = (row.tenant_id, row.key)
            held = after.get(key, self.keys.get(key))
            ours = held is not None and held.job_id == row.job_id
            if row.dropped:
                after[key] = None if ours else held
                continue
            at = ats.get(row.tenant_id)
            over = held is None or (
                held.until_at is not None and at is not None and held.until_at <= at
            )
            if not (ours or over):
                return None
            after[key] = row
        return after

    def _new_job(self, row: JobRow) -> Job:
        assert row.created_at is not None
        text = bytes(row.definition)
        definition, like = self._definitions.read(text)
        return Job(
            job_id=row.job_id,
            tenant_id=row.tenant_id,
            definition=definition,
            definition_json=text,
            payload=bytes(row.payload) or b"null",
            created_at=row.created_at,
            like=like,
        )

    def _apply_row(self, row: JobRow) -> None:
        key = (row.tenant_id, row.job_id)
        if row.from_state is None:
            self.jobs[key] = self._new_job(row)
            insort(self.job_ids[row.tenant_id], row.job_id)
            if row.run_id is not None:
                insort(self.run_jobs[row.tenant_id, row.run_id], row.job_id)
        job = self.jobs[key]
        if row.from_state is not None and row.definition is not NO_DATA:
            job.definition_json = bytes(row.definition)
            job.definition, job.like = self._definitions.read(job.definition_json)
        if row.from_state is not None and row.payload is not NO_DATA:
            job.payload = bytes(row.payload)
        job.state = State(row.state)
        job.reason = row.reason
        job.attempt = row.attempt
        job.failures = row.failures
        job.crashes = row.crashes
        job.due_at = row.due_at
        job.scheduled_at = row.scheduled_at
        job.started_at = row.started_at
        job.finished_at = row.finished_at
        job.cancel_requested_at = row.cancel_requested_at
        job.cancel_reason = row.cancel_reason
        job.result = _kept(row.result, job.result)
        job.error = _kept(row.error, job.error)
        job.progress = _kept(row.progress, job.progress)
        job.seqs = (*job.seqs, *row.seqs)
        self._follow_state(key, row)

    def _follow_state(self, key: JobKey, row: JobRow) -> None:
        if row.state in WAITING:
            self.backlog.put(self._waiting_row(key, row))
        else:
            self.backlog.discard(key)
        if row.state != State.RUNNING:
            self.leases.pop(key, None)
        elif row.from_state != State.RUNNING:
            assert row.worker_id is not None
            assert row.task_runner_id is not None
            assert row.started_at is not None
            self.leases[key] = Lease(row.shard, row.worker_id, row.task_runner_id, row.started_at)

    def _waiting_row(self, key: JobKey, row: JobRow) -> WaitingRow:
        before = self.backlog.rows.get(key)
        if before is None:
            assert row.queue is not None
            assert row.job_type is not None
            shard = row.shard
            lane = Lane(row.tenant_id, row.queue, row.job_type, row.source_id or "")
        else:
            shard, lane = before.shard, before.lane
        return WaitingRow(
            key=key,
            shard=shard,
            lane=lane,
            state=row.state,
            rank=row.rank or 0,
            due_at=row.due_at,
            delayed=row.delayed,
            expires_at=row.expires_at,
        )

    def _apply_letter(self, row: DeadLetterRow) -> None:
        key = (row.tenant_id, row.dead_letter_id)
        if row.from_state is None:
            self.letters[key] = msgspec.structs.replace(row)
        else:
            letter = self.letters[key]
            letter.state = row.state
            letter.replayed_as = row.replayed_as or letter.replayed_as

    def _apply_logs(self, rows: Iterable[LogRow], *, again: bool) -> None:
        """Those that are there already are left out where they may be (``again``)."""
        given = [
            (
                (row.tenant_id, row.job_id),
                LogLines(attempt=row.attempt, at=row.at, lines=bytes(row.lines)),
            )
            for row in rows
        ]
        stored = [
            (key, lines)
            for key in dict.fromkeys(key for key, _ in given if again)
            for _, lines in self.logs.get(key, ())
        ]
        for key, lines in given:
            if (key, lines) in stored:
                stored.remove((key, lines))
            else:
                self._log_position += 1
                self.logs[key].append((self._log_position, lines))

    def _apply_answer(self, row: IdempotencyRow) -> None:
        """The first one to a request at an instant stays."""
        answers = self.answers.setdefault((row.tenant_id, row.key, row.path), [])
        if all(each.at != row.at for each in answers):
            insort(answers, row, key=lambda each: each.at)

    def _apply_redrive(self, row: RedriveRow) -> None:
        key = (row.tenant_id, row.redrive_id)
        if row.order is not NO_DATA:
            self.redrives[key] = Redrive(
                tenant_id=row.tenant_id,
                redrive_id=row.redrive_id,
                order=_decode_order(row.order),
                state=row.state or RedriveState.RUNNING,
                changed_at=row.changed_at or 0,
            )
            return
        before = self.redrives.get(key)
        if before is None:
            return
        given = {
            "state": row.state if before.state in UNFINISHED else None,
            "failed": row.failed,
            "after": None if row.after_at is None else (row.after_at, row.after_id),
            "last_error": row.last_error,
            "changed_at": row.changed_at,
        }
        self.redrives[key] = msgspec.structs.replace(
            before,
            replayed=before.replayed + row.replayed,
            **{name: value for name, value in given.items() if value is not None},
        )

    def _apply_api_key(self, row: ApiKeyRow) -> None:
        place = (row.tenant_id, "key", row.prefix)
        _, before = self.credentials.get(place, (0, None))
        if row.digest is None:
            if not isinstance(before, ApiKeyRow):
                return
            revoked_at = row.revoked_at if before.revoked_at is None else before.revoked_at
            row = msgspec.structs.replace(before, revoked_at=revoked_at)
        self._put_credential(place, msgspec.structs.replace(row))

    def _apply_revocation(self, row: RevocationRow) -> None:
        place = (row.tenant_id, "token", row.token_id)
        _, before = self.credentials.get(place, (0, None))
        if isinstance(before, RevocationRow):
            known = before.until_at is not None and row.until_at is not None
            until_at = max(before.until_at or 0, row.until_at or 0) if known else None
            row = msgspec.structs.replace(before, until_at=until_at)
        self._put_credential(place, msgspec.structs.replace(row))

    def _apply_control(self, row: ControlRow) -> None:
        if row.dropped:
            self.controls.pop((row.tenant_id, row.kind, row.name), None)
        else:
            self.controls[row.tenant_id, row.kind, row.name] = msgspec.structs.replace(row)

    def _apply_gate_state(self, row: GateStateRow) -> None:
        if row.body is NO_DATA or not bytes(row.body):
            self.gate_states.pop((row.tenant_id, row.name), None)
        else:
            self.gate_states[row.tenant_id, row.name] = msgspec.structs.replace(row)

    def _apply_webhook(self, row: WebhookRow) -> None:
        key = (row.tenant_id, row.webhook_id)
        before = self.webhooks.get(key)
        if row.dropped:
            self.webhooks.pop(key, None)
        elif row.revision == 1 if before is None else before.revision < row.revision:
            self.webhooks[key] = to_webhook(row)

    def _put_credential(self, place: tuple[str, str, str], row: ApiKeyRow | RevocationRow) -> None:
        self._credential_position += 1
        self.credentials[place] = (self._credential_position, row)


def _kept(document: msgspec.Raw, before: bytes | None) -> bytes | None:
    """A new document, or the one there was; JSON's null is none."""
    if document is NO_DATA or (new := bytes(document)) in _EMPTY:
        return before
    return new
