"""Names what a refused commit was about.

The statement only says that heads (JE001) or rows (JE002) were not as the batch has them. It kept
nothing, so asking again tells which: with the reads below, on the way of an error alone.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from jobengine.domain.change import CommitBatch
from jobengine.domain.entry import GENESIS, Head
from jobengine.store.errors import (
    HeadMovedError,
    StaleRowError,
    StatementRefusedError,
    StoreError,
    StoreUnavailableError,
)

__all__ = ["explain"]


class Fetch(Protocol):
    """The rows of a named statement."""

    def __call__(self, name: str, **parameters: Any) -> Awaitable[list[tuple[Any, ...]]]: ...


async def explain(
    error: StatementRefusedError, batch: CommitBatch, fetch: Fetch
) -> StoreError | None:
    """The refusal that the error stands for; None where it is something else.

    It names nobody where the store cannot be asked, or its rows have moved on meanwhile.
    """
    try:
        if error.sqlstate == "JE001":
            return HeadMovedError(await _moved(batch, fetch))
        if error.sqlstate == "JE002":
            return StaleRowError(*await _stale(batch, fetch))
    except StoreUnavailableError:
        return HeadMovedError() if error.sqlstate == "JE001" else StaleRowError()
    return None


async def _moved(batch: CommitBatch, fetch: Fetch) -> tuple[str, ...]:
    tenant_ids = [block.tenant_id for block in batch.blocks]
    rows = await fetch("ledger_heads", tenant_ids=tenant_ids)
    heads = {tenant_id: Head(next_seq, link) for tenant_id, next_seq, link in rows}
    return tuple(
        block.tenant_id
        for block in batch.blocks
        if heads.get(block.tenant_id, Head(1, GENESIS)) != Head(block.first_seq, block.previous)
    )


async def _stale(batch: CommitBatch, fetch: Fetch) -> tuple[str, tuple[str, ...]]:
    """The first tenant with stale rows, and their ids: jobs, dead letters, runs."""
    for change in sorted(batch.changes, key=lambda change: change.tenant_id):
        rows = [row for row in change.job_rows() if row.from_state is not None]
        job_ids = [row.job_id for row in rows]
        states = [row.from_state for row in rows]
        letter_ids, letter_states = _columns(
            (letter.dead_letter_id, letter.from_state)
            for letter in change.dead_letters
            if letter.from_state is not None
        )
        run_ids, run_states = _columns(
            (run.run_id, run.from_state) for run in change.runs if run.from_state is not None
        )
        tenant_id = change.tenant_id
        jobs = await fetch(
            "job_states",
            tenant_id=tenant_id,
            job_ids=job_ids,
            states=states,
            starts_at=[row.started_at or 0 for row in rows],
        )
        letters = await fetch(
            "dead_letter_states",
            tenant_id=tenant_id,
            dead_letter_ids=letter_ids,
            states=letter_states,
        )
        runs = await fetch("run_states", tenant_id=tenant_id, run_ids=run_ids, states=run_states)
        if stale := tuple(each for (each,) in (*jobs, *letters, *runs)):
            return tenant_id, stale
    return "", ()


def _columns(pairs: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    states: list[str] = []
    for each, state in pairs:
        ids.append(each)
        states.append(state)
    return ids, states
