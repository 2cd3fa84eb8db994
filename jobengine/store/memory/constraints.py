"""What a commit is refused for, as the constraints and conditions of the database refuse it.

I1  Everything that a commit could fail for is looked at before anything is changed, so a refused
    commit leaves no trace.

Not here: the change itself (`tables`).
"""

import re
from itertools import chain
from typing import Final

from jobengine.domain.change import (
    ChangeSet,
    CommitBatch,
    JobRow,
    RegistryRow,
    RunRow,
    WebhookRow,
)
from jobengine.domain.entry import GENESIS, NO_DATA, Head
from jobengine.domain.job import State
from jobengine.domain.run import ENDED, RunState
from jobengine.domain.webhook import WebhookState, Wrapping
from jobengine.store.errors import HeadMovedError, StaleRowError, StatementRefusedError, StoreError
from jobengine.store.memory.tables import WAITING, Tables

__all__ = ["refuse_or_none"]

_is_sha256: Final = re.compile(r"[0-9a-f]{64}").fullmatch


def refuse_or_none(tables: Tables, batch: CommitBatch) -> StoreError | None:
    """Why this commit fails as a whole, if it does."""
    moved = tuple(
        block.tenant_id
        for block in batch.blocks
        if tables.heads.get(block.tenant_id, Head(1, GENESIS))
        != Head(block.first_seq, block.previous)
    )
    if moved:
        return HeadMovedError(moved)
    for change in sorted(batch.changes, key=lambda change: change.tenant_id):
        if stale := (
            *_stale_jobs(tables, change),
            *_stale_letters(tables, change),
            *_stale_runs(tables, change),
        ):
            return StaleRowError(change.tenant_id, stale)
    for row in chain.from_iterable(change.job_rows() for change in batch.changes):
        if refusal := _refuse_row(row):
            return refusal
    for run in chain.from_iterable(change.runs for change in batch.changes):
        if refusal := _refuse_run(tables, run):
            return refusal
    for document in chain.from_iterable(change.registry for change in batch.changes):
        if refusal := _refuse_document(document):
            return refusal
    for webhook in chain.from_iterable(change.webhooks for change in batch.changes):
        if refusal := _refuse_webhook(webhook):
            return refusal
    taken = _taken_key(tables, batch)
    return None if taken is None else _taken(taken)


def _taken_key(tables: Tables, batch: CommitBatch) -> str | None:
    """The primary key that a commit would break."""
    jobs = [
        (row.tenant_id, row.job_id)
        for row in chain.from_iterable(change.job_rows() for change in batch.changes)
        if row.from_state is None
    ]
    if len(set(jobs)) < len(jobs) or any(key in tables.jobs for key in jobs):
        return "jobs_pkey"
    letters = [
        (letter.tenant_id, letter.dead_letter_id)
        for letter in chain.from_iterable(change.dead_letters for change in batch.changes)
        if letter.from_state is None
    ]
    if len(set(letters)) < len(letters) or any(key in tables.letters for key in letters):
        return "dead_letters_pkey"
    made = [
        row.prefix
        for row in chain.from_iterable(change.api_keys for change in batch.changes)
        if row.digest is not None
    ]
    prefixes = {name for _, kind, name in tables.credentials if kind == "key"} if made else set()
    if len(set(made)) < len(made) or prefixes.intersection(made):
        return "api_keys_prefix_is_one_keys"
    begun = [
        (row.tenant_id, row.redrive_id)
        for row in chain.from_iterable(change.redrives for change in batch.changes)
        if row.order is not NO_DATA
    ]
    if len(set(begun)) < len(begun) or any(key in tables.redrives for key in begun):
        return "redrives_pkey"
    if taken := _taken_by_runs(tables, batch):
        return taken
    return "unique_keys_pkey" if tables.keys_after(batch) is None else None


def _taken_by_runs(tables: Tables, batch: CommitBatch) -> str | None:
    planned = tables.planned
    runs, tokens = set(planned.runs), set(planned.tokens)
    for run in chain.from_iterable(change.runs for change in batch.changes):
        if run.from_state is None:
            if (run.tenant_id, run.run_id) in runs:
                return "runs_pkey"
            if (run.tenant_id, run.run_token) in tokens:
                return "runs_token_is_one_runs"
            runs.add((run.tenant_id, run.run_id))
            tokens.add((run.tenant_id, run.run_token or ""))
    parts = [
        (part.tenant_id, part.run_id)
        for part in chain.from_iterable(change.run_parts for change in batch.changes)
    ]
    if len(set(parts)) < len(parts):
        return "run_parts_pkey"
    documents = [
        (row.tenant_id, row.kind, row.name, row.version)
        for row in chain.from_iterable(change.registry for change in batch.changes)
        if row.digest is not None
    ]
    known = planned.registry
    if len(set(documents)) < len(documents) or any(place in known for place in documents):
        return "registry_pkey"
    return None


def _stale_runs(tables: Tables, change: ChangeSet) -> list[str]:
    stale = []
    for row in change.runs:
        run = tables.planned.runs.get((row.tenant_id, row.run_id))
        if row.from_state is not None and (run is None or run.record.state != row.from_state):
            stale.append(row.run_id)
    return sorted(stale)


def _stale_jobs(tables: Tables, change: ChangeSet) -> list[str]:
    stale = []
    for row in change.job_rows():
        job = tables.jobs.get((row.tenant_id, row.job_id))
        if row.from_state is not None and (
            job is None
            or job.state != row.from_state
            or (job.state == State.RUNNING and job.started_at != row.started_at)
        ):
            stale.append(row.job_id)
    return sorted(stale)


def _stale_letters(tables: Tables, change: ChangeSet) -> list[str]:
    stale = []
    for row in change.dead_letters:
        letter = tables.letters.get((row.tenant_id, row.dead_letter_id))
        if row.from_state is not None and (letter is None or letter.state != row.from_state):
            stale.append(row.dead_letter_id)
    return sorted(stale)


def _refuse_row(row: JobRow) -> StatementRefusedError | None:
    """What the constraints of the schema say about a job's row alone."""
    starts = row.state == State.RUNNING and row.from_state != State.RUNNING
    if row.state not in frozenset(State):
        return _broken("jobs_state_is_known")
    if row.state == State.RUNNING and (row.attempt < 1 or row.started_at is None):
        return _broken("jobs_running_has_an_attempt")
    if row.state == State.SCHEDULED and row.rank is None:
        return _broken("waiting_scheduled_has_a_rank")
    enters = row.state in WAITING and row.from_state not in WAITING
    needed = [
        *((row.queue, row.job_type) if enters or row.from_state is None else ()),
        *((row.worker_id, row.task_runner_id) if starts else ()),
        *((row.created_at, bytes(row.definition) or None) if row.from_state is None else ()),
    ]
    if None in needed:
        return _null()
    return None


def _refuse_run(tables: Tables, row: RunRow) -> StatementRefusedError | None:
    """What the constraints of the schema say about a run as the row leaves it."""
    before = tables.planned.runs.get((row.tenant_id, row.run_id))
    was = None if row.from_state is None or before is None else before.record
    if was is None and None in (row.run_token, row.created_at, row.created_by):
        return _null()
    started_at = row.started_at if was is None else row.started_at or was.started_at
    finished_at = row.finished_at if was is None else row.finished_at or was.finished_at
    return _first_broken(
        (row.state in ENDED and finished_at is None, "runs_ended_at_an_instant"),
        (row.nodes + (0 if was is None else was.nodes) < 0, "runs_nodes_are_not_negative"),
        (row.state == RunState.RUNNING and started_at is None, "runs_running_has_started"),
        (row.shard < 0, "runs_shard_is_not_negative"),
        (row.state not in frozenset(RunState), "runs_state_is_known"),
    )


def _refuse_document(row: RegistryRow) -> StatementRefusedError | None:
    if row.digest is None:
        return None
    if None in (row.created_at, row.created_by, bytes(row.body) or None):
        return _null()
    return _first_broken(
        (_is_sha256(row.digest) is None, "registry_digest_is_a_sha256"),
        (row.version < 1, "registry_version_counts"),
    )


def _refuse_webhook(row: WebhookRow) -> StatementRefusedError | None:
    if row.dropped:
        return None
    return _first_broken(
        (row.revision < 1, "webhooks_revision_counts"),
        (row.state not in set(WebhookState), "webhooks_state_is_known"),
        (row.wrapping not in set(Wrapping), "webhooks_wrapping_is_known"),
    )


def _first_broken(*checks: tuple[bool, str]) -> StatementRefusedError | None:
    return next((_broken(name) for is_broken, name in checks if is_broken), None)


def _null() -> StatementRefusedError:
    return StatementRefusedError("a column that must not be null is", sqlstate="23502")


def _taken(constraint_name: str) -> StatementRefusedError:
    return StatementRefusedError(
        "duplicate key value violates unique constraint",
        sqlstate="23505",
        constraint_name=constraint_name,
    )


def _broken(constraint_name: str) -> StatementRefusedError:
    return StatementRefusedError(
        "new row violates check constraint", sqlstate="23514", constraint_name=constraint_name
    )
