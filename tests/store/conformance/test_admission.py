"""What admission keeps: controls, what gates remember, backlogs, and places in a lane."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, ControlRow, GateStateRow
from jobengine.domain.control import ControlKind
from jobengine.domain.entry import NO_DATA
from jobengine.store.port import Lane, Store
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)

LANE = Lane(TENANT, "scans", "scan", "osv")


def control(
    name: str,
    body: bytes = b'{"host":"a.example"}',
    *,
    kind: ControlKind = "source",
    tenant_id: str = TENANT,
    revision: int = 1,
    **fields: Any,
) -> ControlRow:
    return ControlRow(
        tenant_id=tenant_id,
        shard=fields.pop("shard", SHARD),
        kind=kind,
        name=name,
        body=msgspec.Raw(body) if body else NO_DATA,
        revision=revision,
        at=NOW,
        **fields,
    )


def remembered(
    name: str, body: bytes = b"", *, tenant_id: str = TENANT, shard: int = SHARD
) -> GateStateRow:
    kept = msgspec.Raw(body) if body else NO_DATA
    return GateStateRow(tenant_id=tenant_id, shard=shard, name=name, body=kept)


async def states(store: Store, shard: int = SHARD) -> list[tuple[str, str, bytes]]:
    return [(row.tenant_id, row.name, bytes(row.body)) for row in await store.gate_states(shard)]


async def test_a_shard_reads_every_control_of_its_tenants_in_order(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(controls=[control("osv"), control("a", kind="quota"), control("nvd")])
    await scribe.aside("globex", controls=[control("osv", tenant_id="globex")])
    await scribe.aside("initech", controls=[control("osv", tenant_id="initech", shard=9)])
    found = [(row.tenant_id, row.kind, row.name) for row in await store.controls(SHARD)]
    assert found == [
        (TENANT, "quota", "a"),
        (TENANT, "source", "nvd"),
        (TENANT, "source", "osv"),
        ("globex", "source", "osv"),
    ]
    assert await store.controls(SHARD + 1) == []


async def test_a_control_is_read_back_as_it_was_written(store: Store, scribe: Scribe) -> None:
    body = '{"host":"ä.example","weight":3}'.encode()
    await scribe.aside(controls=[control("osv", body)])
    row = await store.control(TENANT, "source", "osv")
    assert row is not None
    assert (bytes(row.body), row.revision, row.at, row.shard) == (body, 1, NOW, SHARD)
    assert not row.dropped
    assert await store.control(TENANT, "quota", "osv") is None
    assert await store.control("globex", "source", "osv") is None


async def test_the_last_change_of_a_control_counts_and_a_dropped_one_is_gone(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(controls=[control("osv"), control("nvd")])
    await scribe.aside(controls=[control("osv", b'{"host":"b.example"}', revision=2)])
    await scribe.aside(controls=[control("nvd", b"", revision=2, dropped=True)])
    row = await store.control(TENANT, "source", "osv")
    assert row is not None
    assert (bytes(row.body), row.revision) == (b'{"host":"b.example"}', 2)
    assert await store.control(TENANT, "source", "nvd") is None
    assert [each.name for each in await store.controls(SHARD)] == ["osv"]


async def test_of_the_changes_of_one_control_in_one_commit_the_last_counts(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(
        controls=[
            control("kept"),
            control("kept", b"", revision=2, dropped=True),
            control("kept", b'{"host":"c.example"}', revision=3),
            control("gone"),
            control("gone", b"", revision=2, dropped=True),
        ]
    )
    (row,) = await store.controls(SHARD)
    assert (row.name, bytes(row.body), row.revision) == ("kept", b'{"host":"c.example"}', 3)


async def test_controls_are_listed_by_name_a_page_at_a_time(store: Store, scribe: Scribe) -> None:
    names = ["b", "B", "a-1", "é", "a"]
    await scribe.aside(controls=[control(name) for name in names])
    await scribe.aside(controls=[control("z", kind="pause")])
    found: list[str] = []
    while page := await store.control_list(TENANT, "source", found[-1] if found else "", 2):
        assert len(page) <= 2
        found += [row.name for row in page]
    assert found == sorted(names)
    assert await store.control_list("globex", "source", "", 10) == []


async def test_what_gates_remember_is_replaced_and_forgotten(store: Store, scribe: Scribe) -> None:
    await scribe.aside(gate_states=[remembered("rate:host:a", b'{"at":1}'), remembered("b", b"{}")])
    await scribe.aside("globex", gate_states=[remembered("b", b"{}", tenant_id="globex")])
    await scribe.aside(gate_states=[remembered("rate:host:a", b'{"at":2}'), remembered("b")])
    await scribe.aside(gate_states=[remembered("never there")])
    expected = [(TENANT, "rate:host:a", b'{"at":2}'), ("globex", "b", b"{}")]
    assert await states(store) == expected
    assert await states(store, SHARD + 1) == []


async def test_the_last_state_of_a_commit_counts_with_grants_as_well_as_alone(
    store: Store, scribe: Scribe
) -> None:
    def changes(*numbers: int, row: int | None = None) -> ChangeSet:
        kept = [remembered("a", b'{"at":%d}' % number) for number in numbers]
        rows = [] if row is None else [new_row(row)]
        return ChangeSet(tenant_id=TENANT, entries=[], rows=rows, gate_states=kept)

    await scribe.write(changes(1, 2, 3))
    assert await states(store) == [(TENANT, "a", b'{"at":3}')]
    await scribe.write(changes(6, 5, row=1))
    assert await states(store) == [(TENANT, "a", b'{"at":5}')]
    forgotten = changes(7, row=2)
    forgotten.gate_states.append(remembered("a"))
    await scribe.write(forgotten)
    assert await states(store) == []
    back = changes(8, row=3)
    back.gate_states.insert(0, remembered("a"))
    await scribe.write(back)
    assert await states(store) == [(TENANT, "a", b'{"at":8}')]


async def test_a_backlog_counts_what_waits_by_tenant(store: Store, scribe: Scribe) -> None:
    await scribe.rows(
        new_row(1),
        new_row(2, "pending"),
        new_row(3, due_at=NOW + 1, delayed=True),
        new_row(4, "running"),
        new_row(5, tenant_id="globex"),
        new_row(6, tenant_id="initech", shard=9),
        new_row(7, "completed", tenant_id="umbrella"),
    )
    assert await store.backlogs(SHARD) == {TENANT: 3, "globex": 1}
    assert await store.backlogs(9) == {"initech": 1}
    await scribe.rows(change_row(await scribe.job(5, "globex"), "cancelled", tenant_id="globex"))
    assert await store.backlogs(SHARD) == {TENANT: 3}


async def test_jobs_of_another_source_are_of_another_lane(store: Store, scribe: Scribe) -> None:
    await scribe.rows(
        new_row(1, about=definition(source_id="osv")),
        new_row(2, about=definition(source_id="nvd")),
        new_row(3),
    )
    assert sorted(await store.lanes(SHARD, NOW)) == [
        Lane(TENANT, "scans", "scan", ""),
        Lane(TENANT, "scans", "scan", "nvd"),
        LANE,
    ]
    found = await store.ready(LANE, None, NOW, 10, 10**9)
    assert [ranked.job.job_id for ranked in found] == [job_id(1)]


async def test_what_was_due_once_stays_due_when_the_clock_is_set_back(
    store: Store, scribe: Scribe
) -> None:
    osv = definition(source_id="osv")
    await scribe.rows(
        new_row(1, rank=1, about=osv, due_at=NOW),
        new_row(2, rank=2, about=osv, due_at=NOW, delayed=True),
        new_row(3, rank=3, about=osv, due_at=NOW),
    )
    earlier = NOW - 1_000_000
    assert await store.lanes(SHARD, earlier) == [LANE]
    found = await store.ready(LANE, None, earlier, 10, 10**9)
    assert [ranked.job.job_id for ranked in found] == [job_id(1), job_id(3)]
    assert await store.jobs_ahead(LANE, (3, job_id(3)), earlier, 10) == 1


async def test_a_job_that_waits_again_is_in_the_lane_of_its_source(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1, "running", about=definition(source_id="osv")))
    back = change_row(await scribe.job(1), "scheduled", attempt=1, source_id="osv")
    await scribe.rows(back)
    assert await store.lanes(SHARD, NOW) == [LANE]


@pytest.mark.parametrize(("place", "jobs_max", "ahead"), [(2, 10, 1), (4, 10, 3), (4, 2, 2)])
async def test_jobs_ahead_are_those_due_before_in_the_same_lane(
    store: Store, scribe: Scribe, place: int, jobs_max: int, ahead: int
) -> None:
    osv = definition(source_id="osv")
    await scribe.rows(
        *(new_row(number, rank=10 * (number // 2), about=osv) for number in range(1, 6)),
        new_row(6, rank=0, about=osv, due_at=NOW + 1, delayed=True),
        new_row(7, rank=0),
        new_row(8, "pending", about=osv),
    )
    key = (10 * (place // 2), job_id(place))
    assert await store.jobs_ahead(LANE, key, NOW, jobs_max) == ahead
    assert await store.jobs_ahead(Lane("globex", "scans", "scan", "osv"), key, NOW, 10) == 0
