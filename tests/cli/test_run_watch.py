"""A run is watched across an engine that is busy, and read no oftener than it changes."""

import json
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import Run
from tests.cli.test_run_views import graph, node, run_view
from tests.sdk.test_client import BASE, Door, door, url

__all__ = ["door", "url"]

BUSY = (503, {"Retry-After": "0"}, {"error": {"code": "STORE_UNAVAILABLE", "message": "away"}})
LATER = (429, {"Retry-After": "0"}, {"error": {"code": "RATE_LIMITED", "message": "later"}})
SIGNAL: dict[str, Any] = {
    "runId": "r1",
    "firstSignal": {"type": "queued", "stage": "s", "step": "a", "message": "queued", "at": "t"},
    "summaryEtag": 'W/"1"',
}
TRIES = 3


def plain(view: Any) -> Any:
    return json.loads(msgspec.json.encode(view))


def read(door: Door, state: str, *, signal: bool = True) -> None:
    """What one reading of the run gets."""
    if signal:
        door.on("/runs/r1/first-signal", (200, {}, SIGNAL))
    door.on("/runs/r1", (200, {}, plain(run_view(state=state))))
    ended = state if state == "completed" else "running"
    door.on("/runs/r1/dag", (200, {}, plain(graph([node("a", 0, ended)]))))


def said(kind: str, data: dict[str, Any]) -> list[str]:
    return [f"event: {kind}", f"data: {json.dumps(data)}", ""]


def asked(door: Door) -> int:
    return sum(path == f"{BASE}/runs/r1" for _, path, _, _ in door.asked)


@pytest.mark.parametrize("refusal", [BUSY, LATER])
def test_a_watch_outlives_an_engine_that_is_busy(
    door: Door, url: str, run: Run, refusal: tuple[int, dict[str, str], Any]
) -> None:
    read(door, "running", signal=False)
    door.on("/runs/r1/first-signal", *[refusal] * TRIES)
    read(door, "completed")
    done = run("run", "watch", "r1", JOBENGINE_URL=url, JOBENGINE_TOKEN="t")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("run r1 completed: 1 completed")


def test_a_refusal_that_waiting_cannot_mend_ends_a_watch(door: Door, url: str, run: Run) -> None:
    read(door, "running", signal=False)
    door.on(
        "/runs/r1/first-signal", (401, {}, {"error": {"code": "X", "message": "who?\x1b[2J\nyou"}})
    )
    done = run("run", "watch", "r1", JOBENGINE_URL=url, JOBENGINE_TOKEN="t")
    assert done.exit_code == 2
    assert done.stderr.startswith("jobengine: who?�[2J�you (X)")


def test_the_first_signal_of_the_stream_is_shown(door: Door, url: str, run: Run) -> None:
    told = SIGNAL | {"firstSignal": SIGNAL["firstSignal"] | {"message": "a began\x1b"}}
    job = {"id": "job-a", "attempt": 1, "status": "completed"}
    door.streams = [
        [
            *said("first_signal", told),
            *said("log", {"jobId": "job-b", "attempt": 1, "text": "hi"}),
            *said("job.completed", {"occurredAt": "2026-11-22T12:00:18.000Z", "job": job}),
            *said("run.completed", {"data": {}}),
        ]
    ]
    read(door, "running", signal=False)
    read(door, "running")
    read(door, "completed")
    done = run("run", "watch", "r1", JOBENGINE_URL=url, JOBENGINE_TOKEN="t")
    assert done.exit_code == 0, done.stderr
    assert "first signal: a began�" in done.stdout
    assert asked(door) == 3
