"""Commits: atomic, guarded by head and from-state, and followed by waiting and leases."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, DeadLetterRow, UniqueRow
from jobengine.domain.cohort import MARKED_TEXTS, Cohort
from jobengine.domain.entry import GENESIS, Entry, Head
from jobengine.domain.job import State
from jobengine.store.errors import HeadMovedError, StaleRowError, StatementRefusedError
from jobengine.store.port import DeadLetterFilter, Lane, Store
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    job_id,
    new_row,
)

ANY_LETTER = DeadLetterFilter()


async def everything(store: Store, *tenant_ids: str) -> object:
    """All that a commit may have left behind, as one comparable value."""
    return [
        [
            await store.heads([tenant_id]),
            await store.blocks(tenant_id, 0, 100, 1_000_000),
            await store.job_counts(tenant_id),
            [job.state for job in await store.jobs(tenant_id, [job_id(n) for n in range(20)])],
            len(await store.dead_letters(tenant_id, ANY_LETTER, None, 100)),
            (await store.claims(tenant_id, ["k1", "k2"], [], NOW)).holders.keys(),
        ]
        for tenant_id in tenant_ids
    ] + [[lease.job.job_id for lease in await store.leased(SHARD)]]


async def test_a_new_job_is_read_back_as_it_was_committed(store: Store, scribe: Scribe) -> None:
    payload = b'{"a":[1,2,{"b":"\xc3\xa4 \\" \\\\ \\n"}],"z":null}'
    await scribe.rows(
        new_row(1, "running", payload=payload, attempt=2, failures=1, crashes=1, reason="error")
    )
    job = await scribe.job(1)
    assert job.payload == payload
    assert job.definition_json == msgspec.json.encode(job.definition)
    assert (job.state, job.attempt, job.failures, job.crashes) == (State.RUNNING, 2, 1, 1)
    assert (job.reason, job.created_at, job.due_at, job.started_at) == ("error", NOW, NOW, NOW)
    assert (job.scheduled_at, job.finished_at, job.result, job.seqs) == (None, None, None, (1,))


@pytest.mark.parametrize("payload", [b"null", b'"text \\u0001 \\\\"', b"17", b"[]", b"true"])
async def test_a_payload_of_any_json_kind_keeps_its_bytes(
    store: Store, scribe: Scribe, payload: bytes
) -> None:
    await scribe.rows(new_row(1, payload=payload))
    assert (await scribe.job(1)).payload == payload


async def test_a_change_replaces_what_is_mutable_and_appends_sequence_numbers(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1, "running", progress=msgspec.Raw(b'{"done":1}'), reason="error"))
    job = await scribe.job(1)
    await scribe.rows(change_row(job, "completed", result=msgspec.Raw(b'{"ok":true}')))
    job = await scribe.job(1)
    assert (job.state, job.result, job.progress) == (State.COMPLETED, b'{"ok":true}', b'{"done":1}')
    assert (job.reason, job.finished_at, job.seqs) == (None, NOW, (1, 2))


async def test_documents_that_are_not_given_are_kept(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1, "running", error=msgspec.Raw(b'{"class":"E"}')))
    await scribe.rows(change_row(await scribe.job(1), "running", progress=msgspec.Raw(b"null")))
    job = await scribe.job(1)
    assert (job.error, job.progress, job.result) == (b'{"class":"E"}', None, None)


async def test_waiting_and_leases_follow_the_state_through_a_whole_life(
    store: Store, scribe: Scribe
) -> None:
    async def counts() -> tuple[int, int, int]:
        found = await store.job_counts(TENANT)
        return found[State.PENDING], found[State.SCHEDULED], found[State.RUNNING]

    await scribe.rows(new_row(1, "pending"))
    assert await counts() == (1, 0, 0)
    await scribe.rows(change_row(await scribe.job(1), "pending", expires_at=NOW + 5))
    assert [due.at for due in await store.expiring(SHARD, None, 10)] == [NOW + 5]
    await scribe.rows(change_row(await scribe.job(1), "scheduled"))
    assert await counts() == (0, 1, 0)
    assert await store.expiring(SHARD, None, 10) == []
    await scribe.rows(change_row(await scribe.job(1), "running"))
    assert await counts() == (0, 0, 1)
    (lease,) = await store.leased(SHARD)
    await scribe.rows(change_row(await scribe.job(1), "running", started_at=NOW, worker_id="w2"))
    assert [each.worker_id for each in await store.leased(SHARD)] == [lease.worker_id]
    await scribe.rows(change_row(await scribe.job(1), "scheduled"))
    assert await counts() == (0, 1, 0)
    await scribe.rows(change_row(await scribe.job(1), "running", worker_id="w3"))
    assert [each.worker_id for each in await store.leased(SHARD)] == ["w3"]
    await scribe.rows(change_row(await scribe.job(1), "failed"))
    assert await counts() == (0, 0, 0)
    await scribe.rows(change_row(await scribe.job(1), "scheduled"))
    await scribe.rows(change_row(await scribe.job(1), "cancelled"))
    assert await counts() == (0, 0, 0)
    assert await store.leased(SHARD) == []
    assert (await scribe.job(1)).seqs == tuple(range(1, 11))


async def test_a_change_of_a_job_that_runs_since_another_instant_is_stale(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1, "running"), new_row(2, "running"))
    before = await everything(store, TENANT)
    for state in ("completed", "running"):
        late = change_row(await scribe.job(1), state, started_at=NOW + 1)
        beside = change_row(await scribe.job(2), "completed")
        batch = scribe.batch(ChangeSet(tenant_id=TENANT, entries=[], rows=[beside, late]))
        with pytest.raises(StaleRowError) as raised:
            await store.commit(batch)
        assert (raised.value.tenant_id, raised.value.ids) == (TENANT, (job_id(1),))
        assert await everything(store, TENANT) == before


@pytest.mark.parametrize("beside", [(), (1,)])
async def test_a_grant_to_nobody_is_refused(
    store: Store, scribe: Scribe, beside: tuple[int, ...]
) -> None:
    """Also where others were granted at that instant before."""
    await scribe.rows(new_row(9), *(new_row(n, "running") for n in beside))
    before = await everything(store, TENANT)
    for name in ("worker_id", "task_runner_id"):
        nobody = msgspec.structs.replace(new_row(3, "running"), **{name: None})
        rows = [new_row(2, "running"), nobody, new_row(4, "running")]
        with pytest.raises(StatementRefusedError) as raised:
            await store.commit(scribe.batch(ChangeSet(tenant_id=TENANT, entries=[], rows=rows)))
        assert raised.value.sqlstate == "23502"
        assert await everything(store, TENANT) == before


async def test_a_head_that_is_elsewhere_fails_the_whole_commit(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1), new_row(2, tenant_id="other"))
    stale = scribe.batch(
        ChangeSet(tenant_id=TENANT, entries=[], rows=[new_row(3)]),
        ChangeSet(tenant_id="other", entries=[], rows=[new_row(4, tenant_id="other")]),
    )
    await scribe.rows(new_row(5, tenant_id="other"))
    before = await everything(store, TENANT, "other")
    with pytest.raises(HeadMovedError) as raised:
        await store.commit(stale)
    assert raised.value.tenant_ids == ("other",)
    assert await everything(store, TENANT, "other") == before


async def test_a_first_block_is_refused_when_there_is_one_already(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1))
    with pytest.raises(HeadMovedError):
        await Scribe(store).rows(new_row(2))
    assert len(await store.jobs(TENANT, [job_id(2)])) == 0


@pytest.mark.parametrize("head", [Head(1, b"\1" * 32), Head(2, GENESIS)])
async def test_a_ledger_starts_at_one_from_the_genesis_link(
    store: Store, scribe: Scribe, head: Head
) -> None:
    scribe.heads[TENANT] = head
    with pytest.raises(HeadMovedError) as raised:
        await scribe.rows(new_row(1))
    assert raised.value.tenant_ids == (TENANT,)
    assert await store.heads([TENANT]) == {}


async def test_a_right_number_with_a_wrong_link_is_a_moved_head(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1))
    scribe.heads[TENANT] = Head(2, b"\1" * 32)
    with pytest.raises(HeadMovedError):
        await scribe.rows(new_row(2))


async def test_a_stale_last_row_undoes_everything_before_it(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2, "running"), new_row(3, "running"))
    first, second, third = [await scribe.job(number) for number in (1, 2, 3)]
    await scribe.rows(change_row(third, "completed"))
    before = await everything(store, TENANT, "other")
    batch = scribe.batch(
        ChangeSet(
            tenant_id=TENANT,
            entries=[],
            rows=[
                new_row(9),
                change_row(first, "running"),
                change_row(second, "completed"),
                change_row(third, "failed"),
            ],
            dead_letters=[letter("d1")],
            unique=[UniqueRow(tenant_id=TENANT, key="k1", job_id=job_id(9))],
        ),
        ChangeSet(tenant_id="other", entries=[], rows=[new_row(10, tenant_id="other")]),
    )
    with pytest.raises(StaleRowError) as raised:
        await store.commit(batch)
    assert (raised.value.tenant_id, raised.value.ids) == (TENANT, (third.job_id,))
    assert await everything(store, TENANT, "other") == before


async def test_a_change_of_a_job_that_does_not_exist_is_stale(store: Store, scribe: Scribe) -> None:
    with pytest.raises(StaleRowError) as raised:
        await scribe.rows(change_row(new_row(1), "running"))
    assert raised.value.ids == (job_id(1),)
    assert await store.heads([TENANT]) == {}


async def test_a_job_is_created_once(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1))
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.rows(new_row(2), new_row(1, "running"))
    assert raised.value.constraint_name == "jobs_pkey"
    assert (await scribe.job(1)).state == State.SCHEDULED
    assert await store.jobs(TENANT, [job_id(2)]) == []


@pytest.mark.parametrize(
    ("fields", "constraint_name"),
    [
        ({"state": "scheduled", "rank": None}, "waiting_scheduled_has_a_rank"),
        ({"state": "running", "attempt": 0}, None),
        ({"state": "paused"}, "jobs_state_is_known"),
        ({"state": "running", "worker_id": None}, None),
    ],
)
async def test_a_row_that_breaks_an_invariant_is_refused(
    store: Store, scribe: Scribe, fields: dict[str, Any], constraint_name: str | None
) -> None:
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.rows(new_row(1), new_row(2, **fields))
    if constraint_name is not None:
        assert raised.value.constraint_name == constraint_name
    assert await store.heads([TENANT]) == {}


async def test_the_same_job_id_of_two_tenants_is_two_jobs(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(1, "running", tenant_id="other"))
    assert (await scribe.job(1)).state == State.SCHEDULED
    assert (await scribe.job(1, "other")).state == State.RUNNING
    lane = Lane(TENANT, "scans", "scan")
    assert [each.job.tenant_id for each in await store.ready(lane, None, NOW, 9, 9999)] == [TENANT]


async def test_tenants_with_awkward_names_are_kept_apart(store: Store, scribe: Scribe) -> None:
    names = ['a"b', "a\\b", "a,b", "{a}", "NULL", "ä€😀", " a ", "a'b"]
    await scribe.rows(*(new_row(1, "running", tenant_id=name) for name in names))
    for name in names:
        assert (await scribe.job(1, name)).tenant_id == name
    assert [each.job.tenant_id for each in await store.leased(SHARD)] == sorted(names)


def letter(dead_letter_id: str, **fields: Any) -> DeadLetterRow:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "dead_letter_id": dead_letter_id,
        "job_id": job_id(1),
        "job_type": "scan",
        "queue": "scans",
        "attempts": 4,
        "at": NOW,
    }
    return DeadLetterRow(**(given | fields))


async def test_the_rows_of_a_cohort_are_those_of_its_jobs(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1, "running"), new_row(2, "running"), new_row(9, "running"))
    model = change_row(new_row(1, "running"), "completed")
    cohort = Cohort.of(
        [Entry(actor="test", at=NOW, job=MARKED_TEXTS["job"], kind="job.completed")],
        model,
        fields={
            "job_id": [job_id(2), job_id(1)],
            "due_at": [NOW + 2, NOW + 1],
            "result": [msgspec.Raw(b'{"of":2}'), msgspec.Raw(b"null")],
        },
        texts={"job": [job_id(2).encode(), job_id(1).encode()]},
        marks=("job",),
    )
    assert cohort is not None
    cohort.first_seq = 4
    entries = [Entry(actor="test", at=NOW, kind="audit") for _ in range(3)]
    alone = change_row(new_row(9, "running"), "completed", seqs=[6], result=msgspec.Raw(b"9"))
    await scribe.write(ChangeSet(tenant_id=TENANT, entries=entries, rows=[alone], cohorts=[cohort]))
    jobs = [await scribe.job(number) for number in (1, 2, 9)]
    assert [(job.state, job.due_at, job.result, job.seqs) for job in jobs] == [
        ("completed", NOW + 1, None, (1, 5)),
        ("completed", NOW + 2, b'{"of":2}', (2, 4)),
        ("completed", NOW, b"9", (3, 6)),
    ]
    assert await store.leased(SHARD) == []
