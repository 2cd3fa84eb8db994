"""Redrives, the counts by which they are chosen, and priorities that are set anew."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import DeadLetterRow, DeadLetterState, RedriveRow
from jobengine.domain.redrive import Redrive, RedriveOrder
from jobengine.store.errors import StatementRefusedError
from jobengine.store.port import DeadLetterFilter, LetterGroup, Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe, change_row, definition, new_row
from tests.store.conformance.test_attached import letter

ORDER = RedriveOrder(created_at=NOW, created_by="ops", matched=3, queue="scans", spacing_us=100)
OPEN = frozenset({DeadLetterState.OPEN})


def begun(name: str, *, tenant_id: str = TENANT, state: str = "running") -> RedriveRow:
    return RedriveRow(
        tenant_id=tenant_id,
        redrive_id=name,
        state=state,
        changed_at=NOW,
        order=msgspec.Raw(msgspec.json.encode(ORDER)),
    )


def change(name: str, **fields: Any) -> RedriveRow:
    return RedriveRow(tenant_id=TENANT, redrive_id=name, **fields)


async def test_a_redrive_is_read_back_whole(store: Store, scribe: Scribe) -> None:
    await scribe.aside(redrives=[begun("r1")])
    whole = Redrive(tenant_id=TENANT, redrive_id="r1", order=ORDER, changed_at=NOW)
    assert await store.redrive(TENANT, "r1") == whole
    assert await store.redrive(TENANT, "r2") is None
    assert await store.redrive("other", "r1") is None


async def test_changes_of_one_commit_add_up_and_what_they_do_not_name_stays(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(redrives=[begun("r1"), begun("r2")])
    await scribe.aside(
        redrives=[
            change("r1", replayed=1),
            change("r1", replayed=1),
            change("r1", failed=1, after_at=NOW - 5, after_id="d5", last_error="gone"),
        ]
    )
    await scribe.aside(redrives=[change("r1", replayed=1, state="paused", changed_at=NOW + 9)])
    assert await store.redrive(TENANT, "r1") == Redrive(
        tenant_id=TENANT,
        redrive_id="r1",
        order=ORDER,
        state="paused",
        replayed=3,
        failed=1,
        after=(NOW - 5, "d5"),
        last_error="gone",
        changed_at=NOW + 9,
    )
    other = await store.redrive(TENANT, "r2")
    assert other is not None
    assert (other.replayed, other.state) == (0, "running")


@pytest.mark.parametrize("end", ["stopped", "completed"])
async def test_a_redrive_that_has_ended_stays_ended(store: Store, scribe: Scribe, end: str) -> None:
    await scribe.aside(redrives=[begun("r1")])
    await scribe.aside(redrives=[change("r1", state=end)])
    # The last replay may yet be on its way, and counts.
    await scribe.aside(redrives=[change("r1", state="running", replayed=1)])
    found = await store.redrive(TENANT, "r1")
    assert found is not None
    assert (found.state, found.replayed) == (end, 1)


async def test_a_redrive_begins_once(store: Store, scribe: Scribe) -> None:
    await scribe.aside(redrives=[begun("r1")])
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(redrives=[begun("r2"), begun("r1")])
    assert raised.value.constraint_name == "redrives_pkey"
    assert await store.redrive(TENANT, "r2") is None
    await scribe.aside(tenant_id="other", redrives=[begun("r1", tenant_id="other")])


async def test_redrives_are_listed_newest_first_and_the_unfinished_of_all_tenants_in_order(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(
        redrives=[begun("r1"), begun("r2", state="paused"), begun("r3", state="stopped")]
    )
    await scribe.aside(tenant_id="b", redrives=[begun("r0", tenant_id="b")])
    found: list[str] = []
    after: str | None = None
    while page := await store.redrives(TENANT, after, 2):
        found += [each.redrive_id for each in page]
        after = found[-1]
    assert found == ["r3", "r2", "r1"]
    unfinished: list[tuple[str, str]] = []
    while rows := await store.redrives_unfinished(unfinished[-1] if unfinished else None, 2):
        unfinished += [(each.tenant_id, each.redrive_id) for each in rows]
    assert unfinished == [(TENANT, "r1"), (TENANT, "r2"), ("b", "r0")]


async def test_dead_letters_are_counted_by_each_kind_of_value(store: Store, scribe: Scribe) -> None:
    def dead(name: str, at: int, signature: str | None = "s1", **fields: Any) -> DeadLetterRow:
        return letter(name, at=NOW + at, signature=signature, **fields)

    await scribe.aside(
        dead_letters=[
            dead("d1", 1, class_="timeout"),
            dead("d2", 2, class_="other", queue="slow"),
            dead("d3", 3, class_="timeout", state=DeadLetterState.DISCARDED),
            dead("d4", 4, "s2", job_type="diff"),
            dead("d5", 4, None),
            letter("d9", tenant_id="other", at=NOW, signature="s1"),
        ]
    )
    found = await store.dead_letter_groups(TENANT, DeadLetterFilter(), 100, 10)
    assert (found.looked_at, found.letters, found.open) == (5, 5, 4)
    assert [(each.value, each.letters, each.open) for each in found.by_state] == [
        ("open", 4, 4),
        ("discarded", 1, 0),
    ]
    assert [(each.value, each.letters) for each in found.by_class] == [
        ("", 2),
        ("timeout", 2),
        ("other", 1),
    ]
    assert [(each.value, each.letters) for each in found.by_job_type] == [("scan", 4), ("diff", 1)]
    assert [(each.value, each.letters) for each in found.by_queue] == [("scans", 4), ("slow", 1)]
    assert found.by_signature == [
        LetterGroup("s1", 3, 2, NOW + 1, NOW + 3, "d3"),
        LetterGroup("", 1, 1, NOW + 4, NOW + 4, "d5"),
        LetterGroup("s2", 1, 1, NOW + 4, NOW + 4, "d4"),
    ]
    top = await store.dead_letter_groups(TENANT, DeadLetterFilter(), 100, 1)
    assert [each.value for each in (*top.by_signature, *top.by_class)] == ["s1", ""]


async def test_counts_look_at_the_newest_letters_only_and_at_no_closed_ones_when_told_so(
    store: Store, scribe: Scribe
) -> None:
    nothing = await store.dead_letter_groups(TENANT, DeadLetterFilter(), 100, 10)
    assert (nothing.looked_at, nothing.letters, nothing.by_state) == (0, 0, [])
    await scribe.aside(
        dead_letters=[
            letter("d1", at=NOW + 1),
            letter("d2", at=NOW + 2, queue="slow"),
            letter("d3", at=NOW + 3, state=DeadLetterState.REPLAYED),
        ]
    )
    newest = await store.dead_letter_groups(TENANT, DeadLetterFilter(), 2, 10)
    assert (newest.looked_at, newest.letters, newest.open) == (2, 2, 1)
    wanted = DeadLetterFilter(states=OPEN)
    opened = await store.dead_letter_groups(TENANT, wanted, 2, 10)
    assert (opened.looked_at, opened.letters) == (2, 2)
    assert [each.value for each in opened.by_state] == ["open"]
    slow = DeadLetterFilter(states=OPEN, queue="slow", job_type="scan")
    found = await store.dead_letter_groups(TENANT, slow, 100, 10)
    assert (found.looked_at, found.letters) == (2, 1)
    assert [each.newest_id for each in found.by_signature] == ["d2"]
    closed = DeadLetterFilter(states=frozenset({DeadLetterState.REPLAYED}))
    found = await store.dead_letter_groups(TENANT, closed, 100, 10)
    assert (found.looked_at, found.letters, found.open) == (3, 1, 0)


async def test_a_waiting_job_takes_another_definition_and_rank_in_one_change(
    store: Store, scribe: Scribe
) -> None:
    row = new_row(1, rank=500)
    await scribe.rows(row)
    again = change_row(row, "scheduled", rank=7)
    again.definition = msgspec.Raw(msgspec.json.encode(definition(priority=9)))
    await scribe.rows(again)
    job = await scribe.job(1)
    assert (job.definition.priority, job.definition_json) == (9, bytes(again.definition))
    (lane,) = await store.lanes(row.shard, NOW)
    (ranked,) = await store.ready(lane, None, NOW, 10, 1 << 20)
    assert (ranked.rank, ranked.job.definition.priority) == (7, 9)
    await scribe.rows(change_row(job, "cancelled"))
    assert (await scribe.job(1)).definition.priority == 9
