"""Leaves out of a commit that is sent again what the first attempt has stored.

A commit without blocks moves no head, so nothing keeps it from taking effect twice. Most of what it
may hold can be written again without harm: keys, answers, artifacts and states are found by their
key. Rows of logs have no key of their own and are looked for by all they say.

I1  A row is left out once for each one that is stored, so rows that say the same all stay.

An attempt that is still under way would not be seen: it is over before this is asked.
"""

from collections import Counter
from typing import TypeAlias

import msgspec

from jobengine.domain.change import ChangeSet, CommitBatch, LogRow
from jobengine.store.postgres.refusal import Fetch

__all__ = ["without_stored"]

_Said: TypeAlias = tuple[str, str, int, int, bytes]


async def without_stored(batch: CommitBatch, fetch: Fetch) -> CommitBatch:
    """Raises `StoreUnavailableError` where the store cannot be asked; then nothing was sent."""
    logs = [row for change in batch.changes for row in change.logs]
    if not logs:
        return batch
    jobs = list(dict.fromkeys((row.tenant_id, row.job_id) for row in logs))
    rows = await fetch(
        "log_rows_stored",
        tenant_ids=[tenant_id for tenant_id, _ in jobs],
        job_ids=[job_id for _, job_id in jobs],
        ats=sorted({row.at for row in logs}),
    )
    stored: Counter[_Said] = Counter([(*said, bytes(lines)) for *said, lines in rows])
    changes = [_without(change, stored) for change in batch.changes]
    return msgspec.structs.replace(batch, changes=tuple(changes))


def _without(change: ChangeSet, stored: Counter[_Said]) -> ChangeSet:
    """Takes what it leaves out off ``stored``."""
    left: list[LogRow] = []
    for row in change.logs:
        said = (row.tenant_id, row.job_id, row.attempt, row.at, bytes(row.lines))
        if stored[said] > 0:
            stored[said] -= 1
        else:
            left.append(row)
    return msgspec.structs.replace(change, logs=left)
