"""Every benchmark, at the size of a toy: that it runs, what it prints, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from bench.harness.database import embedded_database
from tests.bench.processes import alive, in_full_swing, until

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"name", "settings", "durability", "versions", "runs", "median", "min", "max"}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

WITHIN_S = 120
"""How long anything may take before it is held for lost, on the slowest of machines."""

SHARED = {
    "throughput": ["--jobs", "300", "--warm-up", "50"],
    "throughput over http": ["--jobs", "300", "--warm-up", "50", "--via", "http"],
    "enqueue": ["--jobs", "200"],
    "pickup": ["--rate", "50", "--seconds", "0.5"],
    "streams": [
        *("--readers", "3", "--burst", "20", "--steady-readers", "3", "--rate", "100"),
        *("--seconds", "0.3", "--jobs", "120"),
    ],
}
OWN = {
    "throughput with limits": ["--jobs", "300", "--warm-up", "50", "--limits"],
    "store_limit": ["--jobs", "300", "--warm-up", "100"],
    "fairness": ["--rate", "20", "--seconds", "0.5", "--ratio", "10", "--batch", "20"],
    "idle": ["--workers", "5", "--seconds", "0.5", "--beat-s", "0.2"],
    "memory": ["--jobs", "500"],
    "recovery": ["--seconds", "1", "--rate", "200", "--batch", "10"],
}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory that the account of an embedded server may pass, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="bench-test-"))
    path.chmod(0o711)
    yield path
    rmtree(path)


@pytest.fixture(scope="module")
def engine(scratch: Path) -> Iterator[list[str]]:
    """Options that name a running engine and its database."""
    data = scratch / "shared"
    command = [*(sys.executable, "-m", "jobengine", "up", "--output", "json"), "--data", str(data)]
    command += ["--http", "127.0.0.1:0", "--worker", "127.0.0.1:0", "--log-level", "error"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        up = json.loads(process.stdout.readline())
        try:
            yield [
                *("--url", up["http"], "--worker-url", up["worker"], "--token", up["token"]),
                *("--database-url", embedded_database(data).conninfo),
            ]
        finally:
            process.terminate()


def bench(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", name.split(maxsplit=1)[0], *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return last


@pytest.mark.parametrize("name", SHARED)
def test_a_benchmark_measures_an_engine_that_is_named(name: str, engine: list[str]) -> None:
    told = document(bench(name, "--rounds", "1", "--allow-jobs", *engine, *SHARED[name]))
    assert told.keys() >= FIELDS
    assert told["durability"] == DURABLE
    assert told["runs"]
    # A lease may overtake the ack that its wait is counted from, never the submit.
    figure = "p50_since_sent_ms" if name == "pickup" else told["figure"]
    assert all(run[figure] >= 0 for run in told["runs"])


@pytest.mark.parametrize("name", OWN)
def test_a_benchmark_starts_an_engine_of_its_own(name: str) -> None:
    told = document(bench(name, "--rounds", "1", *OWN[name]))
    assert told.keys() >= FIELDS
    assert told["durability"] == DURABLE
    assert all(run[told["figure"]] >= 0 for run in told["runs"])
    assert sum(run.get("lost", 0) for run in told["runs"]) == 0


def test_a_database_that_holds_jobs_is_left_alone_unless_asked(engine: list[str]) -> None:
    given = ("--rounds", "1", "--jobs", "20", "--case", "websocket 100", *engine)
    document(bench("enqueue", "--allow-jobs", *given))
    done = bench("enqueue", *given)
    assert done.returncode != 0
    assert "holds jobs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_benchmark_leaves_no_process(number: int, scratch: Path) -> None:
    command = [sys.executable, "-m", "bench", "pickup", "--rate", "20", "--seconds", "600"]
    environ = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            started = until(lambda: in_full_swing(process.pid), WITHIN_S)
            process.send_signal(number)
            code = process.wait(WITHIN_S)
        finally:
            process.kill()
    assert code == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    until(lambda: not alive(started), WITHIN_S)
    left = list(scratch.glob("jobengine-bench-*"))
    assert bool(left) == (number == signal.SIGKILL)
    for path in left:
        rmtree(path)
