"""What the jobs of a run have logged and named, read for the whole run."""

import msgspec

from jobengine.domain.change import ArtifactRow, JobRow, LogRow
from jobengine.store.port import Store
from tests.store.conformance.scribe import NOW, TENANT, Scribe, definition, job_id, new_row
from tests.store.conformance.test_runs import begun, run_id


def _job(number: int, key: str, run: int = 1) -> JobRow:
    does = definition(run_id=run_id(run), node_key=key)
    return new_row(number, state="running", about=does)


def _log(number: int, text: str) -> LogRow:
    lines = msgspec.Raw(b'[{"text":"%s"}]' % text.encode())
    return LogRow(tenant_id=TENANT, job_id=job_id(number), attempt=1, at=NOW, lines=lines)


def _artifact(number: int, name: str, attempt: int = 1) -> ArtifactRow:
    return ArtifactRow(
        tenant_id=TENANT, job_id=job_id(number), attempt=attempt, name=name, uri="u:/", at=NOW
    )


async def _two_runs(scribe: Scribe) -> None:
    """Jobs 1 (`b`) and 2 (`a`) are of run 1, job 3 is of run 2, job 4 of none."""
    await scribe.aside(runs=[begun(1), begun(2)])
    jobs = [_job(1, "b"), _job(2, "a"), _job(3, "a", run=2), new_row(4, state="running")]
    await scribe.rows(*jobs)


async def test_lines_of_a_run_come_in_the_order_they_were_committed(
    store: Store, scribe: Scribe
) -> None:
    await _two_runs(scribe)
    await scribe.aside(logs=[_log(1, "b1"), _log(2, "a1"), _log(3, "x"), _log(4, "y")])
    await scribe.aside(logs=[_log(1, "b2")])
    found, after = list[tuple[str, bytes]](), 0
    while page := await store.run_logs(TENANT, run_id(1), after, 2):
        assert len(page) <= 2
        found += [(row.job_id, bytes(row.lines)) for _, row in page]
        after = page[-1][0]
    assert found == [
        (job_id(1), b'[{"text":"b1"}]'),
        (job_id(2), b'[{"text":"a1"}]'),
        (job_id(1), b'[{"text":"b2"}]'),
    ]
    size = len(b'[{"text":"b1"}]')
    for bytes_max, rows in [(1, 1), (size, 1), (size + 1, 2), (9_999, 3)]:
        page = await store.run_logs(TENANT, run_id(1), 0, 9, bytes_max)
        assert [(row.job_id, bytes(row.lines)) for _, row in page] == found[:rows]
    assert await store.run_logs(TENANT, "no-id", 0, 2) == []
    assert await store.run_logs("globex", run_id(1), 0, 2) == []


async def test_artifacts_of_a_run_come_by_key_attempt_and_name(
    store: Store, scribe: Scribe
) -> None:
    await _two_runs(scribe)
    named = [(1, "z", 1), (1, "a", 2), (2, "z", 1), (2, "a", 1), (3, "x", 1), (4, "y", 1)]
    await scribe.aside(artifacts=[_artifact(*each) for each in named])
    found, after = list[tuple[str, int, str]](), None
    while page := await store.run_artifacts(TENANT, run_id(1), after, 3):
        assert len(page) <= 3
        found += [(key, row.attempt, row.name) for key, row in page]
        after = found[-1]
    assert found == [("a", 1, "a"), ("a", 1, "z"), ("b", 1, "z"), ("b", 2, "a")]
    assert await store.run_artifacts("globex", run_id(1), None, 3) == []


async def test_an_artifact_of_a_run_is_read_back_whole(store: Store, scribe: Scribe) -> None:
    await _two_runs(scribe)
    row = _artifact(1, "z")
    await scribe.aside(artifacts=[row])
    assert await store.run_artifacts(TENANT, run_id(1), None, 3) == [("b", row)]
