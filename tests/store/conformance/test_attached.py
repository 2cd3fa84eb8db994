"""What hangs on jobs: dead letters, artifacts, logs; and how the store is."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.change import ArtifactRow, DeadLetterRow, DeadLetterState, LogRow
from jobengine.domain.instant import DAY
from jobengine.store.errors import StaleRowError, StatementRefusedError
from jobengine.store.log_pages import goes_on
from jobengine.store.port import DeadLetterFilter, LogLines, Store
from jobengine.wire.fields import INT64_MAX
from tests.store.conformance.scribe import NOW, TENANT, Scribe, job_id

OPEN = frozenset({DeadLetterState.OPEN})


def letter(name: str, **fields: Any) -> DeadLetterRow:
    given: dict[str, Any] = {
        "tenant_id": TENANT,
        "dead_letter_id": name,
        "job_id": job_id(1),
        "job_type": "scan",
        "queue": "scans",
        "attempts": 4,
        "at": NOW,
    }
    return DeadLetterRow(**(given | fields))


async def ids(store: Store, size: int = 1, **wanted: Any) -> list[str]:
    found: list[str] = []
    after: tuple[int, str] | None = None
    while page := await store.dead_letters(TENANT, DeadLetterFilter(**wanted), after, size):
        found += [each.dead_letter_id for each in page]
        assert page[-1].at is not None
        after = (page[-1].at, page[-1].dead_letter_id)
    return found


async def test_a_dead_letter_is_read_back_whole(store: Store, scribe: Scribe) -> None:
    given = letter(
        "d1",
        class_="Timeout",
        signature="abc",
        error=msgspec.Raw(b'{"class":"Timeout"}'),
        worker_id="w1",
    )
    await scribe.aside(dead_letters=[given])
    found = await store.dead_letter(TENANT, "d1")
    assert found is not None
    assert found == given
    assert await store.dead_letter(TENANT, "d2") is None
    assert await store.dead_letter("other", "d1") is None


async def test_dead_letters_come_newest_first_by_filter(store: Store, scribe: Scribe) -> None:
    await scribe.aside(
        dead_letters=[
            letter("d1", at=NOW + 5),
            letter("d2", at=NOW + 9, queue="slow"),
            letter("d3", at=NOW + 5, class_="E", signature="s"),
            letter("d4", at=NOW + 5, job_type="diff", state=DeadLetterState.DISCARDED),
        ]
    )
    for size in (1, 3):
        assert await ids(store, size) == ["d2", "d4", "d3", "d1"]
        assert await ids(store, size, states=OPEN) == ["d2", "d3", "d1"]
        assert await ids(store, size, states=OPEN, queue="slow") == ["d2"]
        assert await ids(store, size, states=OPEN | {DeadLetterState.DISCARDED}) == [
            "d2",
            "d4",
            "d3",
            "d1",
        ]
    assert await ids(store, class_="E") == ["d3"]
    assert await ids(store, signature="s", states=OPEN) == ["d3"]
    assert await ids(store, job_type="diff") == ["d4"]
    assert await ids(store, job_type="none") == []


async def test_a_dead_letter_is_resolved_once(store: Store, scribe: Scribe) -> None:
    await scribe.aside(dead_letters=[letter("d1", class_="E"), letter("d2")])
    resolved = DeadLetterRow(
        tenant_id=TENANT,
        dead_letter_id="d1",
        job_id=job_id(1),
        from_state=DeadLetterState.OPEN,
        state=DeadLetterState.REPLAYED,
        replayed_as=job_id(2),
    )
    await scribe.aside(dead_letters=[resolved])
    found = await store.dead_letter(TENANT, "d1")
    assert found is not None
    assert (found.state, found.replayed_as, found.class_) == ("replayed", job_id(2), "E")
    assert await ids(store, states=OPEN) == ["d2"]
    with pytest.raises(StaleRowError) as raised:
        await scribe.aside(dead_letters=[resolved, letter("d3")])
    assert (raised.value.tenant_id, raised.value.ids) == (TENANT, ("d1",))
    assert await store.dead_letter(TENANT, "d3") is None


async def test_a_dead_letter_is_written_once(store: Store, scribe: Scribe) -> None:
    await scribe.aside(dead_letters=[letter("d1")])
    with pytest.raises(StatementRefusedError) as raised:
        await scribe.aside(dead_letters=[letter("d2"), letter("d1", class_="E")])
    assert raised.value.constraint_name == "dead_letters_pkey"
    assert await ids(store) == ["d1"]


async def test_a_dead_letter_can_be_opened_again(store: Store, scribe: Scribe) -> None:
    await scribe.aside(dead_letters=[letter("d1", state=DeadLetterState.RETRIED)])
    await scribe.aside(dead_letters=[letter("d1", from_state=DeadLetterState.RETRIED)])
    assert await ids(store, states=OPEN) == ["d1"]


def artifact(name: str, attempt: int = 1, at: int = NOW, **fields: Any) -> ArtifactRow:
    given = {"tenant_id": TENANT, "job_id": job_id(1)} | fields
    return ArtifactRow(name=name, attempt=attempt, at=at, **given)


async def test_artifacts_come_by_attempt_instant_and_name(store: Store, scribe: Scribe) -> None:
    rows = [
        artifact("b", 2),
        artifact("b", at=NOW + 1, uri="s3://b", digest="ab", mime="text/plain", size_bytes=5),
        artifact("c"),
        artifact("a"),
        artifact("z", job_id=job_id(2)),
        artifact("z", tenant_id="other"),
    ]
    await scribe.aside(artifacts=rows)
    found = await store.artifacts(TENANT, job_id(1))
    assert found == [rows[3], rows[2], rows[1], rows[0]]
    assert await store.artifacts(TENANT, "no-id") == []


async def test_an_artifact_named_again_is_replaced(store: Store, scribe: Scribe) -> None:
    await scribe.aside(artifacts=[artifact("a", size_bytes=1), artifact("a", size_bytes=2)])
    assert await store.artifacts(TENANT, job_id(1)) == [artifact("a", size_bytes=2)]
    await scribe.aside(artifacts=[artifact("a", size_bytes=3)])
    assert await store.artifacts(TENANT, job_id(1)) == [artifact("a", size_bytes=3)]


async def test_log_lines_come_in_the_order_they_were_committed(
    store: Store, scribe: Scribe
) -> None:
    def log(text: str, number: int = 1) -> LogRow:
        lines = msgspec.Raw(b'[{"text":"%s"}]' % text.encode())
        return LogRow(tenant_id=TENANT, job_id=job_id(number), attempt=1, at=NOW, lines=lines)

    await scribe.aside(logs=[log("a"), log("x", 2), log("b")])
    await scribe.aside(logs=[log("c")])
    found: list[LogLines] = []
    after = 0
    while page := await store.logs(TENANT, job_id(1), after, 2):
        assert len(page) <= 2
        assert [position for position, _ in page] == sorted(position for position, _ in page)
        found += [lines for _, lines in page]
        after = page[-1][0]
    assert [each.lines for each in found] == [
        b'[{"text":"a"}]',
        b'[{"text":"b"}]',
        b'[{"text":"c"}]',
    ]
    assert await store.logs(TENANT, "no-id", 0, 2) == []
    back = await store.logs_back(TENANT, job_id(1), INT64_MAX, 2)
    assert [each.lines for _, each in back] == [b'[{"text":"c"}]', b'[{"text":"b"}]']
    (first,) = await store.logs_back(TENANT, job_id(1), back[-1][0], 2)
    assert first[1] == found[0]
    assert await store.logs_back(TENANT, job_id(1), first[0], 2) == []
    assert await store.logs_back(TENANT, "no-id", INT64_MAX, 2) == []


async def test_log_lines_stop_with_the_row_that_reaches_the_bytes_asked_for(
    store: Store, scribe: Scribe
) -> None:
    sizes = [50, 50, 60, 900, 40]
    texts = [b'["%b"]' % ("\u00e9" * (size // 2 - 2)).encode() for size in sizes]
    await scribe.aside(
        logs=[
            LogRow(tenant_id=TENANT, job_id=job_id(1), attempt=1, at=NOW, lines=msgspec.Raw(text))
            for text in texts
        ]
    )
    assert [len(text) for text in texts] == sizes

    async def read(after: int, rows_max: int, bytes_max: int) -> list[tuple[int, LogLines]]:
        return list(await store.logs(TENANT, job_id(1), after, rows_max, bytes_max))

    for bytes_max, rows in [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3), (161, 4), (9_999, 5)]:
        found = await read(0, 9, bytes_max)
        assert [row.lines for _, row in found] == texts[:rows]
        assert goes_on(found, 9, bytes_max) is (sum(sizes[:rows]) >= bytes_max)
    third = (await read(0, 9, 9_999))[2][0]
    assert [row.lines for _, row in await read(third, 9, 1)] == [texts[3]]
    assert len(await read(0, 2, 9_999)) == 2
    for bytes_max, rows in [(1, 1), (40, 1), (41, 2), (940, 2), (941, 3), (9_999, 5)]:
        back = await store.logs_back(TENANT, job_id(1), INT64_MAX, 9, bytes_max)
        assert [row.lines for _, row in back] == texts[: -rows - 1 : -1]


async def test_log_lines_go_by_whole_days_once_their_day_is_too_old(
    store: Store, scribe: Scribe
) -> None:
    def log(at: int) -> LogRow:
        lines = msgspec.Raw(b'[{"text":"%d"}]' % at)
        return LogRow(tenant_id=TENANT, job_id=job_id(1), attempt=1, at=at, lines=lines)

    day_at = NOW // DAY * DAY
    instants = [day_at, day_at + DAY - 1, day_at + DAY, day_at + 2 * DAY]
    await store.prepare(NOW)
    await scribe.aside(logs=[log(at) for at in instants])

    async def left() -> list[int]:
        return [row.at for _, row in await store.logs(TENANT, job_id(1), 0, 9)]

    await store.drop_logs(day_at + DAY - 1)
    assert await left() == instants
    position = (await store.logs(TENANT, job_id(1), 0, 1))[0][0]
    await store.drop_logs(day_at + DAY)
    assert await left() == instants[2:]
    assert [row.at for _, row in await store.logs(TENANT, job_id(1), position, 9)] == instants[2:]
    await store.drop_logs(day_at + DAY)
    await scribe.aside(logs=[log(day_at + DAY + 1)])
    assert await left() == [*instants[2:], day_at + DAY + 1]


async def test_a_store_that_is_in_order_is_ready(store: Store) -> None:
    health = await store.health()
    assert (health.ready, health.detail) == (True, "")
