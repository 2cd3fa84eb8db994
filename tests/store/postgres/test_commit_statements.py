"""The statements that commit: each batch goes by the leanest that can store all of it."""

import random
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from jobengine.domain.change import ChangeSet, GateStateRow, JobRow, LogRow
from jobengine.domain.job import State
from jobengine.store.errors import HeadMovedError, StaleRowError
from jobengine.store.postgres.encode import commit_parameters
from jobengine.store.postgres.opening import open_postgres_store
from tests.store.conformance.scribe import (
    NOW,
    SHARD,
    TENANT,
    Scribe,
    change_row,
    job_id,
    new_row,
)

IDS = [job_id(number) for number in (1, 2, 3)]
LEAN = ("commit_created", "commit_changed", "commit_moved")


@pytest.fixture
async def scribe(migrated_database: str) -> AsyncIterator[Scribe]:
    """Of a tenant with a running job 1 and a waiting job 2."""
    async with open_postgres_store(
        migrated_database, dice=random.Random(1), commit_connections=1
    ) as store:
        scribe = Scribe(store)
        await scribe.rows(new_row(1, "running"), new_row(2))
        yield scribe


async def rows_of(scribe: Scribe, case: str) -> Sequence[JobRow]:
    started, ended = new_row(3, "running"), change_row(await scribe.job(1), "completed")
    granted = change_row(await scribe.job(2), "running")
    return {
        "commit_created": [started],
        "commit_changed": [ended],
        "commit_moved": [started, ended],
        "commit_jobs": [started, ended, granted],
    }[case]


def changes(rows: Sequence[JobRow]) -> ChangeSet:
    return ChangeSet(tenant_id=TENANT, entries=[], rows=list(rows))


@pytest.mark.parametrize("case", [*LEAN, "commit_jobs"])
async def test_jobs_are_stored_by_the_leanest_statement_that_holds_them(
    scribe: Scribe, case: str
) -> None:
    rows = await rows_of(scribe, case)
    batch = scribe.batch(changes(rows))
    assert commit_parameters(batch)[0] == case
    await scribe.store.commit(batch)
    scribe.note(batch)
    for row in rows:
        [job] = await scribe.store.jobs(TENANT, [row.job_id])
        assert job.state == row.state
    states = {job_id(1): State.RUNNING} | {row.job_id: row.state for row in rows}
    leased = {each.job.job_id for each in await scribe.store.leased(SHARD)}
    assert leased == {each for each, state in states.items() if state == State.RUNNING}


async def test_what_is_not_about_jobs_that_run_goes_by_a_statement_that_has_it(
    scribe: Scribe,
) -> None:
    bucket = GateStateRow(tenant_id=TENANT, shard=SHARD, name="rate:a", body=msgspec.Raw(b"{}"))
    lines = LogRow(tenant_id=TENANT, job_id=job_id(1), attempt=1, at=NOW, lines=msgspec.Raw(b"[]"))
    for change, name in (
        (ChangeSet(tenant_id=TENANT), "commit_changed"),
        (ChangeSet(tenant_id=TENANT, gate_states=[bucket]), "commit_jobs"),
        (ChangeSet(tenant_id=TENANT, logs=[lines]), "commit_all"),
        (ChangeSet(tenant_id="globex"), "commit_jobs"),
    ):
        batch = scribe.batch(change)
        assert commit_parameters(batch)[0] == name
        await scribe.store.commit(batch)
        scribe.note(batch)


@pytest.mark.parametrize("case", LEAN)
async def test_each_of_them_holds_to_the_head_of_the_ledger(scribe: Scribe, case: str) -> None:
    batch = scribe.batch(changes(await rows_of(scribe, case)))
    await scribe.write(ChangeSet(tenant_id=TENANT))
    with pytest.raises(HeadMovedError):
        await scribe.store.commit(batch)
    assert [job.state for job in await scribe.store.jobs(TENANT, IDS)] == ["running", "scheduled"]


@pytest.mark.parametrize("case", ["commit_changed", "commit_moved"])
async def test_those_that_change_jobs_hold_to_the_states_they_come_from(
    scribe: Scribe, case: str
) -> None:
    rows = await rows_of(scribe, case)
    await scribe.rows(change_row(await scribe.job(1), "completed"))
    heads = await scribe.store.heads([TENANT])
    with pytest.raises(StaleRowError):
        await scribe.store.commit(scribe.batch(changes(rows)))
    assert await scribe.store.heads([TENANT]) == heads
    assert [job.state for job in await scribe.store.jobs(TENANT, IDS)] == ["completed", "scheduled"]
