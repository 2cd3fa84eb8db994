"""Processes that die: nothing is lost, and nothing runs under two owners."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from jobengine.sdk import Client, JobRequest, job_request
from jobengine.wire.jobs import HistoryItem
from tests.end_to_end.processes import PATIENCE_S, Stage, wait_for

_WORKER = "tests.end_to_end.tasks:worker"
_LEGAL = {
    (None, "scheduled"),
    (None, "pending"),
    ("pending", "scheduled"),
    ("scheduled", "running"),
    ("running", "completed"),
    ("running", "scheduled"),
    ("running", "failed"),
    ("failed", "scheduled"),
}


def test_an_engine_killed_amid_work_goes_on_where_it_was(stage: Stage) -> None:
    engine = stage.engine()
    witnesses = stage.directory / "witnesses"
    witnesses.touch()
    stage.worker(engine, _WORKER, JOBENGINE_DEMO_WITNESSES=str(witnesses))
    with engine.client() as client:
        submitted = client.submit_many(_squares(60, seconds=0.1))
        job_ids = [str(item.job_id) for item in submitted.items]
        wait_for(lambda: _count(witnesses, "finished") >= 10, PATIENCE_S, "some finished jobs")
        engine.kill()
        assert _count(witnesses, "finished") < 60
        again = stage.engine(
            *("--http", engine.http.removeprefix("http://")),
            *("--worker", engine.worker.removeprefix("ws://")),
        )
        assert again.http == engine.http
        for job_id in job_ids:
            assert client.wait(job_id, PATIENCE_S).state == "completed"
        _audit(client, job_ids, witnesses)


def test_the_jobs_of_a_killed_worker_are_done_by_another(stage: Stage) -> None:
    engine = stage.engine()
    witnesses = stage.directory / "witnesses"
    witnesses.touch()
    environ = {"JOBENGINE_DEMO_WITNESSES": str(witnesses)}
    doomed = stage.worker(engine, _WORKER, **environ)
    with engine.client() as client:
        submitted = client.submit_many(_squares(4, seconds=1.5))
        job_ids = [str(item.job_id) for item in submitted.items]
        wait_for(lambda: _count(witnesses, "started") == 4, PATIENCE_S, "four attempts")
        doomed.kill()
        stage.worker(engine, _WORKER, **environ)
        for job_id in job_ids:
            job = client.wait(job_id, PATIENCE_S)
            assert (job.state, job.attempt, job.crashes) == ("completed", 2, 1)
            reasons = [item.reason for item in client.history(job_id) if item.from_ == "running"]
            assert reasons == ["lease_expired", None]
        _audit(client, job_ids, witnesses)


def _squares(count: int, *, seconds: float) -> list[JobRequest]:
    return [
        job_request(
            "square",
            {"number": number, "seconds": seconds},
            lease_seconds=3,
            backoff={"kind": "fixed", "baseSeconds": 0},
        )
        for number in range(count)
    ]


def _audit(client: Client, job_ids: Iterable[str], witnesses: Path) -> None:
    """Every history is an unbroken legal chain, and no attempt was started twice or unasked."""
    granted = Counter[tuple[str, str]]()
    for job_id in job_ids:
        history = client.history(job_id)
        _require_legal(history)
        granted.update((job_id, str(item.attempt)) for item in history if item.to == "running")
    assert max(granted.values()) == 1
    started = Counter(
        (job_id, attempt)
        for what, job_id, attempt, _ in map(str.split, witnesses.read_text().splitlines())
        if what == "started"
    )
    assert max(started.values()) == 1
    assert started.keys() <= granted.keys()


def _require_legal(history: list[HistoryItem]) -> None:
    assert history[0].from_ is None
    assert {(item.from_, item.to) for item in history} <= _LEGAL
    for before, after in pairwise(history):
        assert after.from_ == before.to
        assert after.seq > before.seq
        assert after.attempt == before.attempt + (after.to == "running")
    assert [item.to for item in history].count("completed") == 1


def _count(witnesses: Path, what: str) -> int:
    return witnesses.read_text().count(f"{what} ")
