"""A draft: one tenant's change while it is being decided.

It walks jobs through the transition table, writing an entry for each step, and closes with one row
per job. Nothing here waits for the commit: the jobs in memory take their new state at once, and
nobody is told before the commit has returned.

I1  A step that the table does not hold raises; it is a programmer error, since every caller has
    asked the table before.
I2  ``spans`` stays aligned with ``rows``.
I3  ``waiting`` is by how many the jobs that wait grow with this change, as the store will count.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from jobengine.core.lease_shard.groups import Group, Runs
from jobengine.domain.change import ChangeSet, ControlRow, GateStateRow, JobRow
from jobengine.domain.control import ControlKind
from jobengine.domain.entry import NO_DATA, Entry, about
from jobengine.domain.instant import Moment
from jobengine.domain.job import Job, State, find_transition
from jobengine.domain.rank import rank_of
from jobengine.messages.lease_shard import Actor

__all__ = ["ENGINE", "Draft"]

_Raw = msgspec.Raw
# Bound once: an enum looks its members up by name each time.
_PENDING: Final = State.PENDING
_SCHEDULED: Final = State.SCHEDULED
_RUNNING: Final = State.RUNNING
_COMPLETED: Final = State.COMPLETED

_WAITING = (_PENDING, _SCHEDULED)
_ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)


ENGINE: Final = Actor("engine")
"""Who acts when nobody asked: grants, expiries, retries."""


class Draft:
    """``actor`` is who causes the change; ``at`` the instant that it is recorded under; ``alike``
    the jobs whose steps are written when it leaves; ``node_ends`` the jobs that end with it for
    good and are nodes of runs."""

    __slots__ = (
        "_ageing_us",
        "_first",
        "actor",
        "alike",
        "at",
        "changes",
        "node_ends",
        "shard",
        "waiting",
    )

    def __init__(
        self, tenant_id: str, shard: int, actor: Actor, now: Moment, ageing_us: int
    ) -> None:
        self.changes = ChangeSet(tenant_id=tenant_id)
        self.actor = actor
        self.at = now.at
        self.shard = shard
        self.waiting = 0
        self.alike: dict[Group, list[Job]] = {}
        self.node_ends: list[Job] = []
        self._ageing_us = ageing_us
        self._first = 0

    @property
    def empty(self) -> bool:
        changes = self.changes
        return not (
            self.alike or changes.entries or changes.logs or changes.idempotency or changes.unique
        )

    def beside(self) -> "Draft":
        """An empty one of the same tenant, cause and instant."""
        tenant_id, at = self.changes.tenant_id, Moment(0.0, self.at)
        return Draft(tenant_id, self.shard, self.actor, at, self._ageing_us)

    def note_alike(self, group: Group, jobs: Iterable[Job]) -> None:
        """These take the steps of their group when the draft leaves; in memory they have."""
        noted = self.alike.get(group)
        if noted is None:
            noted = self.alike[group] = []
        noted.extend(jobs)

    def create(self, job: Job) -> None:
        """The first entry of a job; more steps may follow before ``close``."""
        self._first = len(self.changes.entries)
        actor = self.actor
        self.changes.entries.append(
            Entry(
                actor=actor.subject,
                at=self.at,
                data=_Raw(job.definition_json),
                job=job.job_id,
                kind="job.created",
                reason_given=actor.reason,
                ticket=actor.ticket,
                to=_PENDING,
            )
        )

    def open(self) -> None:
        """Begin the steps of a job that exists already."""
        self._first = len(self.changes.entries)

    def step(
        self,
        job: Job,
        target: State,
        *,
        actor: str | None = None,
        reason: str | None = None,
        worker: Runs | None = None,
        span_us: int | None = None,
        error: bytes | None = None,
    ) -> None:
        """Move a job one transition on; ``attempt`` and ``failures`` are the caller's to count.
        ``worker`` is the session or the lease of who does it."""
        source = job.state
        row = find_transition(source, target)
        if row is None or (reason is not None and row.reasons and reason not in row.reasons):
            raise AssertionError(f"I1: {job.job_id} {source} → {target} ({reason})")
        entries = self.changes.entries
        given = self.actor
        entry = Entry(
            actor=actor or given.subject,
            at=self.at,
            attempt=job.attempt,
            from_=source,
            job=job.job_id,
            kind=row.event,
            reason=reason,
            reason_given=given.reason,
            span_us=span_us,
            ticket=given.ticket,
            to=target,
        )
        if worker is not None:
            _sign(entry, worker)
        if len(entries) == self._first:
            entry.about = about(job.definition)
        if error is not None:
            entry.error = _Raw(error)
        entries.append(entry)
        job.state = target
        job.reason = reason

    def start(self, job: Job, by: Runs, waited_us: int) -> None:
        """The step into ``running``, with the next attempt."""
        job.attempt += 1
        job.started_at = self.at
        job.finished_at = None
        self.step(job, _RUNNING, actor=ENGINE.subject, worker=by, span_us=waited_us)

    def waited_us(self, job: Job) -> int:
        """How long a job that starts now could have run already."""
        return max(0, self.at - max(job.due_at, job.scheduled_at or job.created_at))

    def complete(self, job: Job, by: Runs, result: bytes, ran_us: int) -> JobRow:
        """The last step of an attempt that went well, and the row after it."""
        job.finished_at = self.at
        job.result = result
        self.step(job, _COMPLETED, worker=by, span_us=ran_us)
        row = self.close(job, _RUNNING)
        row.result = _Raw(result)
        return row

    def ran_us(self, job: Job) -> int:
        return self.at - (job.started_at or self.at)

    def note(self, job: Job, kind: str, *, data: bytes = b"", worker: Runs | None = None) -> None:
        """Record something about a job that is no transition; ``worker`` as of a ``step``."""
        entries = self.changes.entries
        entry = Entry(
            about=about(job.definition) if len(entries) == self._first else None,
            actor=self.actor.subject,
            at=self.at,
            attempt=job.attempt,
            data=_Raw(data) if data else NO_DATA,
            job=job.job_id,
            kind=kind,
            reason_given=self.actor.reason,
            ticket=self.actor.ticket,
        )
        if worker is not None:
            _sign(entry, worker)
        entries.append(entry)

    def remark(self, kind: str, data: bytes) -> None:
        """Record something about the tenant that belongs to no job."""
        self.changes.entries.append(
            Entry(
                actor=self.actor.subject,
                at=self.at,
                data=_Raw(data),
                kind=kind,
                reason_given=self.actor.reason,
                ticket=self.actor.ticket,
            )
        )

    def keep_state(self, name: str, body: bytes | None) -> None:
        """Store what a gate has to remember, or forget it with None."""
        self.changes.gate_states.append(
            GateStateRow(
                tenant_id=self.changes.tenant_id,
                shard=self.shard,
                name=name,
                body=NO_DATA if body is None else _Raw(body),
            )
        )

    def control(self, kind: ControlKind, name: str, body: bytes | None, revision: int) -> None:
        """Store a control, or take it away with None."""
        self.changes.controls.append(
            ControlRow(
                tenant_id=self.changes.tenant_id,
                shard=self.shard,
                kind=kind,
                name=name,
                body=NO_DATA if body is None else _Raw(body),
                revision=revision,
                at=self.at,
                dropped=body is None,
            )
        )

    def close(
        self,
        job: Job,
        from_state: State | None,
        *,
        by: Runs | None = None,
    ) -> JobRow:
        """Write the row of a job after its steps; without ``from_state`` the job is new. ``by`` is
        who runs it, while it is running.

        The row is returned for what only some steps bring: result, error, progress.
        """
        definition = job.definition
        row = JobRow(
            tenant_id=job.tenant_id,
            shard=self.shard,
            job_id=job.job_id,
            state=job.state,
            reason=job.reason,
            attempt=job.attempt,
            due_at=job.due_at,
            scheduled_at=job.scheduled_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )
        if job.failures:
            row.failures = job.failures
            row.crashes = job.crashes
        if job.cancel_requested_at is not None:
            row.cancel_requested_at = job.cancel_requested_at
            row.cancel_reason = job.cancel_reason
        if from_state is None:
            row.definition = _Raw(job.definition_json)
            row.payload = _Raw(job.payload)
            row.created_at = job.created_at
            row.project_id = definition.project_id
            row.queue = definition.queue
            row.job_type = definition.job_type
            if definition.run_id is not None:
                row.run_id = definition.run_id
            if definition.source_id is not None:
                row.source_id = definition.source_id
        else:
            row.from_state = from_state
        if job.state is _RUNNING:
            if by is not None:
                row.worker_id = by.worker_id
                row.task_runner_id = by.task_runner_id
        elif job.state in _WAITING:
            self._place(row, job)
        self.waiting += (job.state in _WAITING) - (from_state in _WAITING)
        if definition.node_key is not None and job.state in _ENDED:
            self.node_ends.append(job)
        changes = self.changes
        changes.rows.append(row)
        changes.spans.append((self._first, len(changes.entries) - self._first))
        return row

    def _place(self, row: JobRow, job: Job) -> None:
        definition = job.definition
        row.queue = definition.queue
        row.job_type = definition.job_type
        row.source_id = definition.source_id
        row.rank = rank_of(job.due_at, definition.priority, self._ageing_us)
        row.delayed = job.state is _SCHEDULED and job.is_delayed(self.at)
        row.expires_at = definition.expires_at if job.attempt == 0 else None


def _sign(entry: Entry, worker: Runs) -> None:
    entry.worker = worker.worker_id
    if worker.task_runner_id != worker.worker_id:
        entry.runner = worker.task_runner_id or None
