"""What a commit is refused for, as the constraints and conditions of the database refuse it.

I1  Everything that a commit could fail for is looked at before anything is changed, so a refused
    commit leaves no trace.

Not here: the change itself (`tables`).
"""

from itertools import chain

from jobengine.domain.change import ChangeSet, CommitBatch, JobRow
from jobengine.domain.entry import GENESIS, NO_DATA, Head
from jobengine.domain.job import State
from jobengine.store.errors import HeadMovedError, StaleRowError, StatementRefused, StoreError
from jobengine.store.memory.tables import WAITING, Tables

__all__ = ["refuse_or_none"]


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
        if stale := (*_stale_jobs(tables, change), *_stale_letters(tables, change)):
            return StaleRowError(change.tenant_id, stale)
    for row in chain.from_iterable(change.rows for change in batch.changes):
        if refusal := _refuse_row(row):
            return refusal
    taken = _taken_key(tables, batch)
    return None if taken is None else _taken(taken)


def _taken_key(tables: Tables, batch: CommitBatch) -> str | None:
    """The primary key that a commit would break."""
    jobs = [
        (row.tenant_id, row.job_id)
        for row in chain.from_iterable(change.rows for change in batch.changes)
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
    answers = [
        (answer.tenant_id, answer.key, answer.path, answer.at)
        for answer in chain.from_iterable(change.idempotency for change in batch.changes)
    ]
    known = {
        (tenant_id, key, path, each.at)
        for tenant_id, key, path, _ in answers
        for each in tables.answers.get((tenant_id, key, path), ())
    }
    if len(set(answers)) < len(answers) or known.intersection(answers):
        return "idempotency_answers_pkey"
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
    return "unique_keys_pkey" if tables.keys_after(batch) is None else None


def _stale_jobs(tables: Tables, change: ChangeSet) -> list[str]:
    stale = []
    for row in change.rows:
        job = tables.jobs.get((row.tenant_id, row.job_id))
        if row.from_state is not None and (job is None or job.state != row.from_state):
            stale.append(row.job_id)
    return sorted(stale)


def _stale_letters(tables: Tables, change: ChangeSet) -> list[str]:
    stale = []
    for row in change.dead_letters:
        letter = tables.letters.get((row.tenant_id, row.dead_letter_id))
        if row.from_state is not None and (letter is None or letter.state != row.from_state):
            stale.append(row.dead_letter_id)
    return sorted(stale)


def _refuse_row(row: JobRow) -> StatementRefused | None:
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
        *((row.worker_id, row.task_runner_id, row.lease_us) if starts else ()),
        *((row.created_at, bytes(row.definition) or None) if row.from_state is None else ()),
    ]
    if None in needed:
        return StatementRefused("a column that must not be null is", sqlstate="23502")
    return None


def _taken(constraint_name: str) -> StatementRefused:
    return StatementRefused(
        "duplicate key value violates unique constraint",
        sqlstate="23505",
        constraint_name=constraint_name,
    )


def _broken(constraint_name: str) -> StatementRefused:
    return StatementRefused(
        "new row violates check constraint", sqlstate="23514", constraint_name=constraint_name
    )
