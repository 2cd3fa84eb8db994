"""Jobs by id, by filter, by unique key; answers to requests."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import IdempotencyRow, UniqueRow
from jobengine.domain.instant import HOUR
from jobengine.domain.job import State
from jobengine.store.errors import StatementRefusedError
from jobengine.store.port import JobFilter, Store
from tests.store.conformance.scribe import (
    NOW,
    TENANT,
    Scribe,
    change_row,
    definition,
    job_id,
    new_row,
)


async def listed(store: Store, size: int, **wanted: Any) -> list[str]:
    """Ids of all pages of a filter."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = await store.job_list(TENANT, JobFilter(**wanted), after, size)
        assert len(page.jobs) <= size
        found += [job.job_id for job in page.jobs]
        if page.next_after is None:
            return found
        after = page.next_after


async def test_jobs_are_those_that_exist(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2), new_row(3, tenant_id="other"))
    wanted = [job_id(2), job_id(1), job_id(3), job_id(4), job_id(1), "no-id", ""]
    found = await store.jobs(TENANT, wanted)
    assert sorted(job.job_id for job in found) == [job_id(1), job_id(2)]
    assert await store.jobs(TENANT, []) == []


async def test_what_is_handed_out_is_the_callers_own(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1))
    job = await scribe.job(1)
    job.state = State.FAILED
    assert (await scribe.job(1)).state == State.SCHEDULED


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"states": frozenset({State.RUNNING})}, [2]),
        ({"states": frozenset({State.PENDING, State.RUNNING})}, [5, 2]),
        ({"states": frozenset({State.PENDING, State.FAILED})}, [5, 4]),
        ({"states": frozenset({State.COMPLETED})}, [3]),
        ({"job_type": "diff"}, [6, 2]),
        ({"job_type": "diff", "states": frozenset({State.SCHEDULED})}, [6]),
        ({"queue": "slow"}, [4]),
        ({"run_id": "r1"}, [1]),
        ({"source_id": "s1"}, [5]),
        ({"source_id": "s1", "states": frozenset({State.PENDING})}, [5]),
        ({"project_id": "web"}, [6]),
        ({"label": ("team", "blue")}, [5, 2]),
        ({"label": ("team", "blue"), "states": frozenset({State.RUNNING})}, [2]),
        ({"label": ("team", "red")}, []),
        ({"created_from_at": NOW + 4}, [6, 5, 4]),
        ({"created_from_at": NOW + 2, "created_before_at": NOW + 4}, [3, 2]),
        ({"states": frozenset({State.SCHEDULED}), "created_before_at": NOW + 4}, [1]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 50])
async def test_a_list_holds_what_matches_newest_first(
    store: Store, scribe: Scribe, wanted: dict[str, Any], expected: list[int], size: int
) -> None:
    blue = {"team": "blue", 'odd "name"': "x"}
    rows = [
        new_row(1, about=definition(run_id="r1")),
        new_row(2, "running", about=definition(job_type="diff", labels=blue)),
        new_row(3, "completed"),
        new_row(4, "failed", about=definition(queue="slow")),
        new_row(5, "pending", about=definition(source_id="s1", labels=blue)),
        new_row(6, about=definition(job_type="diff", project_id="web")),
        new_row(7, tenant_id="other"),
    ]
    for number, row in enumerate(rows, start=1):
        row.created_at = NOW + number
    await scribe.rows(*rows)
    assert await listed(store, size, **wanted) == [job_id(number) for number in expected]


async def test_counts_are_of_live_jobs_of_the_tenant(store: Store, scribe: Scribe) -> None:
    await scribe.rows(
        new_row(1), new_row(2), new_row(3, "running"), new_row(4, "completed"), new_row(5, "failed")
    )
    await scribe.rows(new_row(6, "pending", tenant_id="other"))
    assert await store.job_counts(TENANT) == {
        State.PENDING: 0,
        State.SCHEDULED: 2,
        State.RUNNING: 1,
    }


async def test_the_oldest_due_instant_is_that_of_a_scheduled_job_of_the_tenant(
    store: Store, scribe: Scribe
) -> None:
    assert await store.oldest_due(TENANT) is None
    rows = [
        new_row(1),
        new_row(2),
        new_row(3, "pending"),
        new_row(4, "running"),
        new_row(5, tenant_id="other"),
    ]
    for row, due_at in zip(rows, (NOW + 7, NOW + 4, NOW + 1, NOW + 2, NOW + 3), strict=True):
        row.due_at = due_at
    await scribe.rows(*rows)
    assert await store.oldest_due(TENANT) == NOW + 4


async def holders(store: Store, *keys: str, now_at: int = NOW) -> dict[str, str]:
    claims = await store.claims(TENANT, keys, [], now_at)
    return {key: job.job_id for key, job in claims.holders.items()}


def take(key: str, number: int, until_at: int | None = None) -> UniqueRow:
    return UniqueRow(tenant_id=TENANT, key=key, job_id=job_id(number), until_at=until_at)


def drop(key: str, number: int) -> UniqueRow:
    return UniqueRow(tenant_id=TENANT, key=key, job_id=job_id(number), dropped=True)


async def test_a_unique_key_is_held_until_it_is_dropped(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2))
    await scribe.aside(unique=[take("a", 1), take("b", 2)])
    assert await holders(store, "a", "b", "c") == {"a": job_id(1), "b": job_id(2)}
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(unique=[take("a", 2)])
    assert raised.value.constraint_name == "unique_keys_pkey"
    await scribe.aside(unique=[drop("a", 2)])
    assert await holders(store, "a") == {"a": job_id(1)}
    await scribe.aside(unique=[drop("a", 1)])
    assert await holders(store, "a", "b") == {"b": job_id(2)}
    await scribe.aside(unique=[take("a", 2)])
    assert await holders(store, "a") == {"a": job_id(2)}


async def test_a_key_goes_from_hand_to_hand_within_one_commit(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1), new_row(2), new_row(3))
    await scribe.aside(unique=[take("a", 1)])
    await scribe.aside(unique=[drop("a", 1), take("a", 2)])
    assert await holders(store, "a") == {"a": job_id(2)}
    await scribe.aside(unique=[drop("a", 2), take("a", 3), drop("a", 3)])
    assert await holders(store, "a") == {}
    await scribe.aside(unique=[take("a", 1), drop("a", 1), take("a", 2)])
    assert await holders(store, "a") == {"a": job_id(2)}
    with pytest.raises(StatementRefusedError):
        await scribe.aside(unique=[take("b", 1), take("b", 2)])
    with pytest.raises(StatementRefusedError):
        await scribe.aside(unique=[drop("a", 1), take("a", 3)])
    assert await holders(store, "a", "b") == {"a": job_id(2)}


async def test_a_key_held_for_a_window_is_free_when_it_is_over(
    store: Store, scribe: Scribe
) -> None:
    await scribe.rows(new_row(1), new_row(2))
    await scribe.aside(unique=[take("a", 1, until_at=NOW + 10)])
    assert await holders(store, "a", now_at=NOW + 9) == {"a": job_id(1)}
    assert await holders(store, "a", now_at=NOW + 10) == {}
    with pytest.raises(StatementRefusedError):
        await scribe.aside(at=NOW + 9, unique=[take("a", 2)])
    await scribe.aside(at=NOW + 10, unique=[take("a", 2)])
    assert await holders(store, "a", now_at=NOW + 20) == {"a": job_id(2)}


def answer(key: str, path: str, at: int = NOW, tenant_id: str = TENANT) -> IdempotencyRow:
    body = msgspec.Raw(b'{"status":201,"at":%d}' % at)
    return IdempotencyRow(
        tenant_id=tenant_id, key=key, path=path, body_digest="d", answer=body, at=at
    )


async def test_an_answer_is_found_by_key_and_path_for_24_hours(
    store: Store, scribe: Scribe
) -> None:
    await scribe.aside(idempotency=[answer("k", "/jobs"), answer("k", "/runs"), answer("l", "/")])
    await scribe.aside("other", idempotency=[answer("m", "/jobs", tenant_id="other")])
    asked = [("k", "/jobs"), ("k", "/"), ("l", "/"), ("m", "/jobs"), ("l", "/")]
    claims = await store.claims(TENANT, [], asked, NOW + 24 * HOUR - 1)
    assert claims.answers == {
        ("k", "/jobs"): answer("k", "/jobs"),
        ("l", "/"): answer("l", "/"),
    }
    assert (await store.claims(TENANT, [], asked, NOW + 24 * HOUR)).answers == {}
    await scribe.aside(idempotency=[answer("k", "/jobs", NOW + 25 * HOUR)], at=NOW + 25 * HOUR)
    claims = await store.claims(TENANT, [], asked, NOW + 25 * HOUR)
    assert claims.answers == {("k", "/jobs"): answer("k", "/jobs", NOW + 25 * HOUR)}


async def test_an_answer_is_stored_once(store: Store, scribe: Scribe) -> None:
    await scribe.aside(idempotency=[answer("k", "/jobs")])
    for again in ([answer("k", "/jobs")], [answer("l", "/"), answer("l", "/")]):
        await scribe.aside(idempotency=again)
    asked = [("k", "/jobs"), ("l", "/")]
    claims = await store.claims(TENANT, [], asked, NOW)
    assert claims.answers == {each: answer(*each) for each in asked}


async def test_answers_are_kept_for_24_hours_and_then_dropped(store: Store, scribe: Scribe) -> None:
    await scribe.aside(idempotency=[answer("k", "/jobs")])
    asked = [("k", "/jobs")]
    await store.drop_over(NOW + 23 * HOUR)
    await store.prepare(NOW + 48 * HOUR)
    assert (await store.claims(TENANT, [], asked, NOW + 23 * HOUR)).answers
    await store.drop_over(NOW + 48 * HOUR)
    await store.drop_over(NOW + 48 * HOUR)
    assert (await store.claims(TENANT, [], asked, NOW + 23 * HOUR)).answers == {}


async def test_a_change_and_its_answer_are_one(store: Store, scribe: Scribe) -> None:
    await scribe.rows(new_row(1))
    job = await scribe.job(1)
    await scribe.rows(change_row(job, "cancelled"))
    with pytest.raises(StatementRefusedError):
        await scribe.aside(
            rows=[new_row(1)], idempotency=[answer("k", "/jobs")], unique=[take("a", 1)]
        )
    claims = await store.claims(TENANT, ["a"], [("k", "/jobs")], NOW)
    assert (claims.holders, claims.answers) == ({}, {})


@pytest.mark.parametrize("size", [1, 2, 50])
async def test_a_list_of_running_jobs_passes_over_those_that_ran_beside_them(
    store: Store, scribe: Scribe, size: int
) -> None:
    await scribe.rows(*(new_row(n, "running", about=definition(queue="q")) for n in range(1, 8)))
    ended = [change_row(await scribe.job(n), "completed") for n in (2, 3, 6, 7)]
    await scribe.rows(*ended, change_row(await scribe.job(5), "scheduled"))
    running, live = frozenset({State.RUNNING}), frozenset({State.RUNNING, State.SCHEDULED})
    assert await listed(store, size, states=running) == [job_id(n) for n in (4, 1)]
    assert await listed(store, size, states=live) == [job_id(n) for n in (5, 4, 1)]
    assert (await store.job_counts(TENANT))[State.RUNNING] == 2
