"""What a change weighs on its way to the store, in octets.

Counted are what can be large: documents of jobs, runs and registrations, log lines, answers; and
the entries at what one of them commonly takes. It is a few attributes for each row, and columns of
a cohort as a whole, so that it costs next to nothing beside the change itself.

Not here: how much a batch may weigh (``ledger``), which changes it holds (``commit_queue``).
"""

from typing import Final, NamedTuple

from jobengine.domain.change import ChangeSet
from jobengine.domain.cohort import Cohort

__all__ = ["Load", "octets_of"]

_OCTETS_AN_ENTRY: Final = 256
_DOCUMENTS: Final = ("definition", "payload", "result", "error", "progress")


class Load(NamedTuple):
    """What a batch carries, or may carry at most; ``requests`` counts changes."""

    entries: int
    octets: int
    requests: int


def octets_of(changes: ChangeSet, entries: int) -> int:
    """About as many as the change has in one commit; ``entries`` are its `entries_total`."""
    octets = entries * _OCTETS_AN_ENTRY
    for row in changes.rows:
        if row.from_state is None:
            octets += len(row.definition) + len(row.payload)
        else:
            octets += len(row.payload) + len(row.result) + len(row.error) + len(row.progress)
    for cohort in changes.cohorts:
        octets += _of_cohort(cohort)
    if changes.logs:
        octets += sum([len(log.lines) for log in changes.logs])
    if changes.idempotency:
        octets += sum([len(row.answer) for row in changes.idempotency])
    if changes.runs or changes.run_parts or changes.registry:
        octets += sum([len(run.inputs) + len(run.rolled) + len(run.pack) for run in changes.runs])
        octets += sum([len(part.body) for part in changes.run_parts])
        octets += sum([len(document.body) for document in changes.registry])
    return octets


def _of_cohort(cohort: Cohort) -> int:
    octets = 0
    for name in _DOCUMENTS:
        column = cohort.fields.get(name)
        if column is None:
            octets += cohort.size * len(getattr(cohort.row, name))
        else:
            octets += sum(map(len, column))
    return octets
