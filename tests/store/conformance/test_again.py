"""Commits that move no head, sent again though they took effect: what they hold is stored once."""

from typing import Any

import msgspec
import pytest

from jobengine.core.ledger import LedgerCore, LedgerLimits
from jobengine.domain.change import ChangeSet, CommitBatch, IdempotencyRow, LogRow
from jobengine.domain.instant import Moment
from jobengine.messages.ledger import (
    Append,
    BatchCommitted,
    BatchUnavailable,
    Confirm,
    HeadsLoaded,
    LoadHeads,
    Write,
)
from jobengine.messages.wake import Wake
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe, job_id


def answer(key: str, body: bytes = b'{"status":200}', at: int = NOW) -> IdempotencyRow:
    return IdempotencyRow(
        tenant_id=TENANT, key=key, path="/jobs", body_digest="d", answer=msgspec.Raw(body), at=at
    )


def log(text: str, number: int = 1, at: int = NOW, attempt: int = 1) -> LogRow:
    lines = msgspec.Raw(msgspec.json.encode([{"text": text}]))
    return LogRow(tenant_id=TENANT, job_id=job_id(number), attempt=attempt, at=at, lines=lines)


def batch(*changes: ChangeSet, again: bool = False) -> CommitBatch:
    return CommitBatch(batch_id="", blocks=(), changes=changes, again=again)


async def texts(store: Store, number: int = 1) -> list[str]:
    rows = await store.logs(TENANT, job_id(number), 0, 99)
    return [line["text"] for _, row in rows for line in msgspec.json.decode(row.lines)]


async def stored(store: Store, key: str) -> bytes:
    claims = await store.claims(TENANT, [], [(key, "/jobs")], NOW)
    return bytes(claims.answers[key, "/jobs"].answer)


@pytest.mark.parametrize("again", [False, True])
async def test_an_answer_that_is_sent_again_is_stored_once_and_the_first_one_stays(
    store: Store, again: bool
) -> None:
    await store.commit(batch(ChangeSet(tenant_id=TENANT, idempotency=[answer("a")])))
    both = [answer("a", b'{"status":500}'), answer("b")]
    await store.commit(batch(ChangeSet(tenant_id=TENANT, idempotency=both), again=again))
    assert await stored(store, "a") == b'{"status":200}'
    assert await stored(store, "b") == b'{"status":200}'


async def test_log_lines_that_are_sent_again_are_stored_once(store: Store) -> None:
    first = ChangeSet(tenant_id=TENANT, logs=[log("a"), log("ö"), log("a"), log("c", 2)])
    await store.commit(batch(first))
    await store.commit(batch(first, again=True))
    assert await texts(store) == ["a", "ö", "a"]
    assert await texts(store, 2) == ["c"]


async def test_of_log_lines_sent_again_those_that_are_not_stored_are(store: Store) -> None:
    await store.commit(batch(ChangeSet(tenant_id=TENANT, logs=[log("a"), log("b")])))
    more = [log("a"), log("a"), log("a", at=NOW + 1), log("b", attempt=2), log("b"), log("x", 2)]
    first, second = more[:3], more[3:]
    changes = [ChangeSet(tenant_id=TENANT, logs=logs) for logs in (first, second)]
    await store.commit(batch(*changes, again=True))
    assert await texts(store) == ["a", "b", "a", "a", "b"]
    assert await texts(store, 2) == ["x"]


async def test_log_lines_that_say_the_same_are_stored_each_time_they_are_new(store: Store) -> None:
    for _ in range(2):
        await store.commit(batch(ChangeSet(tenant_id=TENANT, logs=[log("a")])))
    assert await texts(store) == ["a", "a"]


async def test_log_lines_beside_entries_are_stored_with_them(store: Store, scribe: Scribe) -> None:
    await scribe.aside(logs=[log("a")])
    await store.commit(batch(ChangeSet(tenant_id=TENANT, logs=[log("a"), log("b")]), again=True))
    assert await texts(store) == ["a", "b"]


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_commit_whose_answer_was_lost_is_confirmed_and_what_it_holds_stored_once(
    store: Store, lost: int
) -> None:
    """The ledger's own way, where no heads can settle it."""
    core, now_s = LedgerCore(LedgerLimits()), 0.0
    changes = ChangeSet(tenant_id=TENANT, idempotency=[answer("a")], logs=[log("a")])
    commands: list[Any] = list(
        core.handle(Append(life=1, sender=0, stamp=5, changes=changes), Moment(now_s, NOW))
    )
    confirmed = []
    while commands or core.wakeup_at is not None:
        if not commands:
            now_s = core.wakeup_at or now_s
            commands = list(core.handle(Wake(), Moment(now_s, NOW)))
        command = commands.pop(0)
        told: Any = None
        match command:
            case LoadHeads(stamp=stamp, tenant_ids=ids):
                told = HeadsLoaded(stamp=stamp, tenant_ids=ids, heads=await store.heads(ids))
            case Write(stamp=stamp):
                await store.commit(command.batch)
                lost -= 1
                told = BatchCommitted(stamp=stamp)
                if lost >= 0:
                    told = BatchUnavailable(stamp=stamp, unknown=True, why="lost")
            case Confirm(stamp=stamp):
                confirmed.append(stamp)
        if told is not None:
            commands += core.handle(told, Moment(now_s, NOW))
    assert confirmed == [5]
    assert await stored(store, "a") == b'{"status":200}'
    assert await texts(store) == ["a"]
