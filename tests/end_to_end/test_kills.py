"""Thousands of jobs while engine, worker and database are killed, seen through one stream."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jobengine.sdk import job_request
from jobengine.sdk.feed import Event
from tests.end_to_end.processes import RunningEngine, Stage

JOBS = 6_000
_QUICK = "tests.end_to_end.tasks:quick"


class Auditor:
    """Follows every job by its events alone, and counts what must never be."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.states: dict[str, str] = {}
        self.attempts: Counter[str] = Counter()
        self.completed = 0

    def take(self, event: Event) -> None:
        assert event.id == str(self.last_seq + 1), "a gap or a repeat in the stream"
        self.last_seq += 1
        job = event.data["job"]
        if job.get("status") is None:
            return
        job_id, before, after = job["id"], job["from"], job["status"]
        assert self.states.get(job_id) == before, f"{job_id}: {before} → {after}"
        self.states[job_id] = after
        if after == "running":
            self.attempts[job_id] += 1
            assert job["attempt"] == self.attempts[job_id]
        self.completed += after == "completed"


def test_nothing_is_lost_and_nothing_runs_twice_at_once_whatever_is_killed(stage: Stage) -> None:
    engine = stage.engine()
    address = (
        *("--http", engine.http.removeprefix("http://")),
        *("--worker", engine.worker.removeprefix("ws://")),
    )
    running: list[RunningEngine] = [engine]
    workers = [stage.worker(engine, _QUICK), stage.worker(engine, _QUICK)]

    def kill_engine() -> None:
        running[-1].kill()
        running.append(stage.engine(*address))

    def kill_worker() -> None:
        workers.pop(0).kill()
        workers.append(stage.worker(engine, _QUICK))

    def kill_database() -> None:
        os.kill(_postmaster(stage.data), signal.SIGKILL)

    kills: dict[int, Callable[[], None]] = {
        600: kill_engine,
        1_800: kill_worker,
        3_000: kill_database,
        4_200: kill_engine,
        5_400: kill_worker,
    }
    auditor = Auditor()
    with engine.client() as client:
        jobs = [
            job_request("quick", {"n": number}, lease_seconds=5, max_retries=20)
            for number in range(JOBS)
        ]
        submitted = client.submit_many(jobs)
        assert submitted.created == JOBS
        for event in client.events(after=0):
            auditor.take(event)
            if auditor.completed == JOBS:
                break
            for count in [count for count in kills if count <= auditor.completed]:
                kills.pop(count)()
    assert not kills
    assert len(auditor.states) == JOBS
    assert set(auditor.states.values()) == {"completed"}


def _postmaster(data: Path) -> int:
    pid_file = data / "postgres" / "cluster" / "postmaster.pid"
    return int(pid_file.read_text().splitlines()[0])
