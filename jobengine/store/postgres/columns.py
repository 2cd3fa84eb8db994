"""The job rows of a commit as columns, and the documents of all of them in one string of octets.

A row of JSON for each job would be read twice by the server, name by name. Most of what rows say is
the same in many of them, so rows that agree in everything but numbers and documents are a *group*:
what they agree in is said once, as JSON; ids and numbers travel as two arrays, documents as octets.
A group names its *lanes* by where they begin: element ``lane + k`` is of its k-th row, from 0. A
cohort is a group as it comes.

| lane | in | holds |
|---|---|---|
| ``i`` | ids | job ids |
| ``du sc sa fi ca rk ex c`` | numbers | the instants and the rank of these names; ABSENT for none |
| ``q`` | numbers | where a row's sequence numbers begin in numbers; behind it, where they end |
| ``d p rs er pg`` | numbers | where a document begins in the octets; behind it, where it ends |

I1  Places in arrays count from 1, those in octets from 0, as the server counts them.
I2  A lane that no row of the group needs is not sent; what it would say is null.
I3  An empty document stands for none, and so does JSON ``null`` as a result, error or progress.
I4  Lanes of one group that say the same may be one lane.
I5  Ids of jobs that were granted at one instant stand one behind the other, whatever their groups.

Not here: what becomes of leases (``leases.py``), what the server makes of it (``sql/commit.sql``).
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec

from jobengine.domain.change import ChangeSet, JobRow
from jobengine.domain.cohort import Cohort
from jobengine.domain.entry import NO_DATA
from jobengine.domain.job import State
from jobengine.store.postgres.leases import LeaseRow, LeaseRows, starts

__all__ = ["ABSENT", "JobColumns"]

ABSENT: Final = -(2**63)
_WAITING: Final = frozenset({State.PENDING, State.SCHEDULED})


class _Group(msgspec.Struct, omit_defaults=True):
    """The first fields are the first of ``_shared``, under the names of ``JobRow``."""

    t: str
    s: int
    st: str
    f: str | None
    re: str | None
    a: int
    fa: int
    cr: int
    cz: str | None
    dl: bool
    qu: str | None
    jt: str | None
    pr: str | None
    rn: str | None
    so: str | None
    n: int = 0
    i: int = 0
    q: int | None = None
    du: int | None = None
    sc: int | None = None
    sa: int | None = None
    fi: int | None = None
    ca: int | None = None
    rk: int | None = None
    ex: int | None = None
    c: int | None = None
    d: int | None = None
    p: int | None = None
    rs: int | None = None
    er: int | None = None
    pg: int | None = None


_LANES: Final = (
    "job_id", "seqs", "due_at", "scheduled_at", "started_at", "finished_at", "cancel_requested_at",
    "rank", "expires_at", "created_at", "definition", "payload", "result", "error", "progress",
)  # fmt: skip
_lane_values: Final = attrgetter(*_LANES)

Column: TypeAlias = Sequence[Any] | None
"""A value for each row of a group; None where none of them has one."""
_Columns: TypeAlias = tuple[JobRow, int, Mapping[str, Column]]
"""A model of the group's rows, how many they are, and what each says for itself."""


_NOBODY: Final = (None, None, None)
_OF_GRANT: Final = len(_NOBODY)


def _shared(row: JobRow) -> tuple[Any, ...]:
    """What the rows of a group agree in; behind the group's own fields who was granted them, and
    when."""
    granted = (row.worker_id, row.task_runner_id, row.started_at) if starts(row) else _NOBODY
    return (
        row.tenant_id, row.shard, row.state, row.from_state, row.reason, row.attempt, row.failures,
        row.crashes, row.cancel_reason, row.delayed, row.queue, row.job_type, row.project_id,
        row.run_id, row.source_id, *granted,
    )  # fmt: skip


def _instant(group: "_Columns") -> tuple[str, int]:
    """Brings groups that were granted at one instant together (I5)."""
    model = group[0]
    return (model.tenant_id, model.started_at or 0) if starts(model) else ("", 0)


class JobColumns:
    """Built for one commit. ``octets_before`` are in front of the documents in what is sent.
    ``wait`` says whether any job waits before or after it."""

    def __init__(self, changes: Iterable[ChangeSet], octets_before: int = 0) -> None:
        self.ids: list[str] = []
        self.numbers: array[int] = array("q")
        self.documents: list[bytes] = []
        self.created: list[_Group] = []
        self.changed: list[_Group] = []
        self.wait = False
        self._leases = LeaseRows()
        self._octets = octets_before
        self._known: list[tuple[Sequence[Any], int]] = []
        rows: list[JobRow] = []
        groups: list[_Columns] = []
        for change in changes:
            rows += change.rows
            for cohort in change.cohorts:
                if _is_group(cohort):
                    groups.append((cohort.row, cohort.size, _of_cohort(cohort)))
                else:
                    rows += cohort.rows()
        groups += [(alike[0], len(alike), _of_rows(alike)) for alike in _grouped(rows)]
        for group in sorted(groups, key=_instant):
            self._add(*group)

    @property
    def leases(self) -> list[LeaseRow]:
        return self._leases.rows

    def _add(self, model: JobRow, count: int, columns: Mapping[str, Column]) -> None:
        """A group of ``count`` rows that share what ``model`` says; ``columns`` theirs."""
        self._known = []
        number, document = self._number_lane, self._document_lane
        group = _Group(*_shared(model)[:-_OF_GRANT])
        group.n, group.i = count, len(self.ids) + 1
        if starts(model):
            self._leases.granted(model, count, group.i)
        elif model.from_state == State.RUNNING != model.state:
            self._leases.ended(model, columns["started_at"] or (None,) * count)
        self.ids += columns["job_id"] or ()
        group.q = self._sequence_lane(columns["seqs"] or ())
        group.du = number(columns["due_at"])
        group.sc = number(columns["scheduled_at"])
        group.sa = number(columns["started_at"])
        group.fi = number(columns["finished_at"])
        group.ca = number(columns["cancel_requested_at"])
        group.rk = number(columns["rank"])
        group.ex = number(columns["expires_at"])
        group.c = number(columns["created_at"])
        group.d = document(columns["definition"])
        group.p = document(columns["payload"])
        group.rs = document(columns["result"], empty=b"null")
        group.er = document(columns["error"], empty=b"null")
        group.pg = document(columns["progress"], empty=b"null")
        self.wait = self.wait or group.st in _WAITING or group.f in _WAITING
        (self.created if group.f is None else self.changed).append(group)

    def _number_lane(self, column: Column) -> int | None:
        """Lanes of one group that say the same are one."""
        if column is None:
            return None
        if column[0] is None and column.count(None) == len(column):
            return None
        for known, lane in self._known:
            if known == column:
                return lane
        lane = len(self.numbers) + 1
        try:
            numbers = array("q", column)
        except TypeError:
            numbers = array("q", [ABSENT if each is None else each for each in column])
        self.numbers.extend(numbers)
        self._known.append((column, lane))
        return lane

    def _sequence_lane(self, column: Sequence[Sequence[int]]) -> int:
        lane = len(self.numbers) + 1
        first = lane + len(column) + 1
        self.numbers.extend(accumulate(map(len, column), initial=first))
        self.numbers.extend(chain.from_iterable(column))
        return lane

    def _document_lane(self, column: Column, empty: bytes = b"") -> int | None:
        if column is None:
            return None
        if column[0] is NO_DATA and column.count(NO_DATA) == len(column):
            return None
        documents = list(map(bytes, column))
        if empty and empty in documents:
            documents = [b"" if each == empty else each for each in documents]
            if not any(documents):
                return None
        lane = len(self.numbers) + 1
        self.numbers.extend(accumulate(map(len, documents), initial=self._octets))
        self._octets = self.numbers[-1]
        self.documents += documents
        return lane


def _is_group(cohort: Cohort) -> bool:
    fields = cohort.fields.keys()
    return fields <= set(_LANES) and not (starts(cohort.row) and "started_at" in fields)


def _of_rows(rows: Sequence[JobRow]) -> dict[str, Column]:
    return dict(zip(_LANES, zip(*map(_lane_values, rows), strict=True), strict=True))


def _of_cohort(cohort: Cohort) -> dict[str, Column]:
    fixed = zip(_LANES, _lane_values(cohort.row), strict=True)
    columns: dict[str, Column] = {
        name: None if value is None or value is NO_DATA else (value,) * cohort.size
        for name, value in fixed
    }
    steps, first = len(cohort.kinds), cohort.first_seq
    starts = range(first, first + cohort.entries, steps)
    columns["seqs"] = [range(start, start + steps) for start in starts]
    columns.update(cohort.fields)
    return columns


def _grouped(rows: Iterable[JobRow]) -> Iterable[list[JobRow]]:
    """By what they share, in the order in which groups begin; rows keep theirs."""
    groups: dict[tuple[Any, ...], list[JobRow]] = {}
    before: tuple[Any, ...] = ()
    group: list[JobRow] = []
    for row in rows:
        shared = _shared(row)
        if shared != before:
            group = groups.setdefault(shared, [])
            before = shared
        group.append(row)
    return groups.values()
