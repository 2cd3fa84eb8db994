"""Job rows as columns: what is said once, what is said for each, and what is not said at all."""

import itertools

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, JobRow
from jobengine.store.postgres.columns import ABSENT, JobColumns
from tests.store.conformance.scribe import NOW, TENANT, change_row, job_id, new_row


def columns(*rows: JobRow, octets_before: int = 0) -> JobColumns:
    return JobColumns([ChangeSet(tenant_id=TENANT, rows=list(rows))], octets_before)


def numbers(found: JobColumns, lane: int | None, count: int) -> list[int]:
    assert lane is not None
    return list(found.numbers[lane - 1 : lane - 1 + count])


def test_rows_that_differ_in_numbers_and_documents_alone_are_one_group() -> None:
    rows = [new_row(n, due_at=NOW + n, payload=b'{"n":%d}' % n, seqs=[n]) for n in (1, 2, 3)]
    found = columns(*rows, octets_before=10)
    (group,) = found.created
    assert not found.changed
    assert (group.n, group.i, found.ids) == (3, 1, [job_id(1), job_id(2), job_id(3)])
    assert numbers(found, group.du, 3) == [NOW + 1, NOW + 2, NOW + 3]
    octets = b" " * 10 + b"".join(found.documents)
    begins = numbers(found, group.p, 4)
    payloads = [octets[begin:end] for begin, end in itertools.pairwise(begins)]
    assert payloads == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


def test_rows_go_to_the_group_they_agree_with_wherever_they_stand() -> None:
    found = columns(new_row(1), new_row(2, "running"), new_row(3), new_row(4, "running"))
    assert [(group.st, group.n, group.i) for group in found.created] == [
        ("scheduled", 2, 1),
        ("running", 2, 3),
    ]
    assert found.ids == [job_id(number) for number in (1, 3, 2, 4)]


def test_what_no_row_of_a_group_says_has_no_lane_and_what_one_says_has_gaps() -> None:
    without, given = new_row(1), new_row(2, expires_at=NOW)
    (group,) = columns(without).created
    assert group.ex is None
    assert group.rs is None
    found = columns(without, given)
    assert numbers(found, found.created[0].ex, 2) == [ABSENT, NOW]


def test_lanes_that_say_the_same_are_one() -> None:
    (group,) = columns(new_row(1, due_at=NOW, created_at=NOW, scheduled_at=NOW)).created
    assert group.du == group.sc == group.c


def test_sequence_numbers_of_any_count_are_found_behind_where_they_begin() -> None:
    found = columns(new_row(1, seqs=[4, 5]), new_row(2, seqs=[]), new_row(3, seqs=[9]))
    begins = numbers(found, found.created[0].q, 4)
    assert [
        list(found.numbers[begin - 1 : end - 1]) for begin, end in itertools.pairwise(begins)
    ] == [[4, 5], [], [9]]


@pytest.mark.parametrize("name", ["result", "error", "progress"])
def test_a_null_says_nothing_but_as_a_payload(name: str) -> None:
    row = change_row(new_row(1, "running"), "completed", **{name: msgspec.Raw(b"null")})
    assert columns(row).documents == []
    assert columns(new_row(1, payload=b"null")).documents[1] == b"null"


def test_ids_of_one_instant_stand_together_whatever_their_groups() -> None:
    rows = [
        new_row(1, "running", reason="error"),
        new_row(2, "running", started_at=NOW + 1),
        new_row(3),
        change_row(new_row(4), "running", worker_id="w2", started_at=NOW),
        new_row(5, "running", attempt=2),
    ]
    found = columns(*rows)
    now, later = found.leases
    assert (now.at, now.n, now.e, now.b) == (NOW, 3, 0, [1, 2, 3])
    assert now.i is not None
    assert now.w is not None
    held = dict(zip(found.ids[now.i - 1 : now.i + 2], now.w, strict=True))
    assert held == {job_id(1): "w1", job_id(4): "w2", job_id(5): "w1"}
    assert (later.at, later.n, later.i) == (NOW + 1, 1, len(found.ids))


def test_what_ends_is_counted_by_the_instant_at_which_it_began() -> None:
    runs = [new_row(n, "running", started_at=NOW + n % 2) for n in range(5)]
    found = columns(*(change_row(row, "completed") for row in runs))
    assert [(row.at, row.n, row.e) for row in found.leases] == [(NOW, 0, 3), (NOW + 1, 0, 2)]
    assert columns(change_row(runs[0], "running", progress=msgspec.Raw(b"1"))).leases == []
