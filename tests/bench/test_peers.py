"""The benchmark of peers, at the size of a toy, with a peer of our own over a real server."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import attrs
import click
import pytest
import trio

from bench.harness.children import LoadProcess
from bench.harness.database import Database, embedded_database
from bench.harness.options import Options
from bench.peers import benchmark
from bench.peers.benchmark import PeersReport
from bench.peers.cases import CASES, PeersCase
from bench.peers.catalog import PEERS, Peer
from bench.peers.installation import REMEDY, Installation

ROOT = Path(__file__).resolve().parents[2]
TOY = PeersCase(jobs=80, backlog=60, rate=50, seconds=0.2, seconds_max=30)
SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@attrs.frozen
class Toys(Installation):
    """`pgqueuer` is a queue of our own, `oban` dies at once, the others are not there."""

    def version_of(self, peer: Peer) -> str | None:
        return "1.2.3" if peer.name in ("pgqueuer", "oban") else None

    def command(self, peer: Peer) -> list[str]:
        if peer.name == "oban":
            return [sys.executable, "-c", "raise SystemExit(7)"]
        return [sys.executable, "-m", "tests.bench.peer_driver"]


@pytest.fixture(scope="module")
def options() -> Iterator[Options]:
    """Options that name a running engine and its database."""
    scratch = Path(tempfile.mkdtemp(prefix="bench-test-"))
    scratch.chmod(0o711)
    data = scratch / "data"
    command = [*(sys.executable, "-m", "jobengine", "up", "--output", "json"), "--data", str(data)]
    command += ["--http", "127.0.0.1:0", "--worker", "127.0.0.1:0", "--log-level", "error"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            up = json.loads(process.stdout.readline())
            yield Options(
                rounds=1,
                url=up["http"],
                worker_url=up["worker"],
                token=up["token"],
                database_url=embedded_database(data).conninfo,
                allow_jobs=True,
            )
        finally:
            process.terminate()
    rmtree(scratch)


def pid_is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def databases_of_peers(options: Options) -> list[str]:
    assert options.database_url is not None
    with Database(options.database_url).connection() as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'jobengine\\_bench\\_%'"
        )
        return [str(name) for (name,) in found]


async def test_jobengine_and_the_peer_are_measured_in_turns_and_no_database_is_left(
    options: Options,
) -> None:
    cases = [case for case in CASES if case in ("end to end", "drain", "pick-up")]
    with trio.fail_after(300):
        report = await benchmark.run(
            options, TOY, names=["pgqueuer"], parts=cases, installation=Toys()
        )
    told = report.document()
    assert list(told["cases"]) == [
        f"{case}: {who}" for case in cases for who in ("jobengine", "pgqueuer")
    ]
    assert all(run["figure"] > 0 for run in told["runs"])
    assert not any(run.get("cut") for run in told["runs"])
    assert all(ratios["pgqueuer"] > 0 for ratios in told["ratios"].values())
    assert list(told["ratios"]) == cases
    assert told["versions"]["pgqueuer"] == "1.2.3"
    assert told["durability"] == SAFE
    assert databases_of_peers(options) == []


async def test_a_peer_that_is_not_installed_or_fails_is_named_and_the_others_go_on(
    options: Options,
) -> None:
    with trio.fail_after(300):
        report = await benchmark.run(
            options,
            TOY,
            names=["oban", "pgqueuer", "pg-boss"],
            parts=["bulk enqueue"],
            installation=Toys(),
        )
    assert report.settings["not_installed"] == {"pg-boss": REMEDY}
    assert report.settings["failed"] == {"oban": "the oban process ended with 7"}
    assert list(report.cases()) == ["bulk enqueue: jobengine", "bulk enqueue: pgqueuer"]
    assert databases_of_peers(options) == []


@attrs.frozen
class Failing(Toys):
    """Once its tables are made, whatever starts dies."""

    started: list[str] = attrs.field(factory=list)

    def command(self, peer: Peer) -> list[str]:
        self.started.append(peer.name)
        if len(self.started) == 1:
            return super().command(peer)
        return [sys.executable, "-c", "raise SystemExit(7)"]


async def test_what_a_peer_failed_in_is_not_tried_again_in_the_next_round(options: Options) -> None:
    toys = Failing()
    with trio.fail_after(300):
        report = await benchmark.run(
            attrs.evolve(options, rounds=3), TOY, names=["pgqueuer"],
            parts=["bulk enqueue"], installation=toys,
        )  # fmt: skip
    assert report.settings["failed"] == {
        "bulk enqueue: pgqueuer": "the pgqueuer process ended with 7"
    }
    assert [run["case"] for run in report.runs] == ["bulk enqueue: jobengine"] * 3
    assert len(toys.started) == 2
    assert databases_of_peers(options) == []


async def test_a_backlog_that_takes_too_long_is_cut_short_and_said_to_be(options: Options) -> None:
    case = attrs.evolve(TOY, backlog=200_000, seconds_max=0.2)
    with trio.fail_after(300):
        report = await benchmark.run(
            options, attrs.evolve(case, jobs=20_000), names=["pgqueuer"],
            parts=["end to end"], installation=Toys(),
        )  # fmt: skip
    cut = {run["case"]: run.get("cut", False) for run in report.runs}
    assert cut["end to end: pgqueuer"]
    assert databases_of_peers(options) == []


async def test_cancelled_it_leaves_neither_processes_nor_databases(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    listen = LoadProcess.listen

    async def noted(self: LoadProcess) -> None:
        started.append(self.pid)
        await listen(self)

    monkeypatch.setattr(LoadProcess, "listen", noted)
    forever = attrs.evolve(TOY, seconds=600)
    async with trio.open_nursery() as nursery:

        async def measure() -> None:
            await benchmark.run(
                options, forever, names=["pgqueuer"], parts=["pick-up"], installation=Toys()
            )

        nursery.start_soon(measure)
        with trio.fail_after(300):
            while len(started) < 3:  # noqa: ASYNC110 - a setup, then a worker and a producer
                await trio.sleep(0.02)
        assert databases_of_peers(options)
        nursery.cancel_scope.cancel()
    assert not [pid for pid in started if pid_is_there(pid)]
    assert databases_of_peers(options) == []


def test_a_database_in_use_before_marks_the_figures() -> None:
    report = PeersReport("peers", "figure", "jobs/s", {"not_installed": {}, "failed": {}}, SAFE, {})
    assert report.comparable
    report.caveats.append("the database held jobs before")
    assert report.durable
    assert not report.comparable


def test_a_ratio_is_above_one_where_jobengine_is_ahead() -> None:
    report = PeersReport("peers", "figure", "jobs/s", {}, SAFE, {})
    add: Any = benchmark.add_runs
    names = ["jobengine", "oban"]
    add(report, "drain", names, {"jobengine": {"figure": 300.0}, "oban": {"figure": 100.0}}, 0)
    add(report, "drain", names, {"jobengine": {"figure": 100.0}, "oban": {"figure": 100.0}}, 1)
    add(report, "pick-up", names, {"jobengine": {"figure": 1.0}, "oban": {"figure": 2.0}}, 0)
    assert report.ratios == {"drain": {"oban": 2.0}, "pick-up": {"oban": 2.0}}


async def test_an_unknown_peer_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(click.UsageError, match="no peer is named rabbit"):
        await benchmark.run(Options(), TOY, names=["rabbit"], installation=Toys())


def test_nothing_is_installed_in_an_empty_directory(tmp_path: Path) -> None:
    assert not any(Installation(tmp_path).version_of(peer) for peer in PEERS)
