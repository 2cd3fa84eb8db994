"""Cohorts: jobs of one change that take the same steps, written as columns.

What a hundred alike jobs have to say differs in a few values. A cohort has the text of the entries
and the row of one *model* job, whose values are *marks*, and a column of each value. So a job costs
a few joins of octets, and no structs of its own.

I1  A cohort says byte for byte what the entries of its jobs would say one by one: its text is what
    the encoder wrote of the model's, divided at the marks.
I2  A text that cannot be divided at exactly the marks expected, because somebody's own text holds
    one, makes no cohort: `Cohort.of` returns None.
I3  Columns hold what was so when the change was decided, whatever becomes of the jobs.

Not here: which jobs are alike, and the steps of a model (``core/lease_shard/alike``).
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import attrs
import msgspec

from jobengine.domain.entry import Entry, encode_entries

if TYPE_CHECKING:
    from jobengine.domain.change import JobRow

__all__ = ["MARKED_DEFINITION", "MARKED_SPAN_US", "MARKED_TEXTS", "Cohort"]

MARKED_TEXTS: Final = {name: f"<~{name}~>" for name in ("job", "correlation", "digest")}
MARKED_DEFINITION: Final = b'"<~definition~>"'
MARKED_SPAN_US: Final = 888_000_000_000_000_000
_SEQ: Final = 888_000_000_000_000_001
"""Of the first entry; far above any sequence number, and any span in microseconds."""
_STEPS_MAX: Final = 4

_NAMES: Final = {
    **{mark.encode(): name for name, mark in MARKED_TEXTS.items()},
    MARKED_DEFINITION: "definition",
    b"%d" % MARKED_SPAN_US: "span",
    **{b"%d" % (_SEQ + step): f"seq{step}" for step in range(_STEPS_MAX)},
}
_at_marks: Final = re.compile(b"(%b)" % b"|".join(map(re.escape, _NAMES))).split


class _Divided(NamedTuple):
    """A text without its marks: what stands before, between and behind them, and their names."""

    parts: tuple[bytes, ...]
    names: tuple[str, ...]


@attrs.define(eq=False)
class Cohort:
    """``kinds``: of the entries of each job. ``row``: what is the same in all rows, ``fields`` the
    others of their values, by attribute of ``JobRow``, but for the sequence numbers: those begin
    with ``first_seq``, job by job, once the cohort is numbered."""

    at: int
    size: int
    kinds: tuple[str, ...]
    row: "JobRow"
    fields: Mapping[str, Sequence[Any]]
    _lines: _Divided
    _texts: dict[str, Sequence[bytes]]
    first_seq: int = 0

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        row: "JobRow",
        *,
        fields: Mapping[str, Sequence[Any]],
        texts: dict[str, Sequence[bytes]],
        marks: Sequence[str],
    ) -> Self | None:
        """The cohort whose model job has these entries and this row; None as I2 says.

        ``texts`` are the values in entries, as JSON or as the inside of a JSON string, by the name
        of their mark; ``marks`` the names in the order in which they stand in the entries, without
        the sequence number, which each entry has one of.
        """
        for step, entry in enumerate(entries):
            entry.seq = _SEQ + step
        found = _at_marks(encode_entries(entries))
        names = tuple([_NAMES[mark] for mark in found[1::2]])
        numbers = [name for name in names if name.startswith("seq")]
        if [name for name in names if name not in numbers] != list(marks) or numbers != [
            f"seq{step}" for step in range(len(entries))
        ]:
            return None
        return cls(
            at=entries[0].at,
            size=len(fields["job_id"]),
            kinds=tuple([entry.kind for entry in entries]),
            row=row,
            fields=fields,
            lines=_Divided(tuple(found[::2]), names),
            texts=texts,
        )

    @property
    def entries(self) -> int:
        return self.size * len(self.kinds)

    def lines(self) -> bytes:
        """The entries, once they are numbered, as ``encode_entries`` writes them."""
        steps, end = len(self.kinds), self.first_seq + self.entries
        columns = self._texts
        for step in range(steps):
            numbers = map(b"%d".__mod__, range(self.first_seq + step, end, steps))
            columns[f"seq{step}"] = list(numbers)
        first, *others = self._lines.parts
        woven: list[Any] = [repeat(first)]
        for name, part in zip(self._lines.names, others, strict=True):
            woven += (columns[name], repeat(part))
        return b"".join(chain.from_iterable(zip(*woven, strict=False)))

    def rows(self) -> "list[JobRow]":
        """The row of each job by itself, once the entries are numbered."""
        names, steps = list(self.fields), len(self.kinds)
        return [
            msgspec.structs.replace(
                self.row,
                seqs=list(range(first, first + steps)),
                **dict(zip(names, values, strict=True)),
            )
            for first, *values in zip(
                range(self.first_seq, self.first_seq + self.entries, steps),
                *self.fields.values(),
                strict=True,
            )
        ]
