"""`jobengine db url`, `dump` and `restore`: the embedded database is found and comes back."""

import json
import shutil
import stat
from pathlib import Path

import pytest
import trio

from jobengine.store.embedded import Binaries, EmbeddedServerError, dump
from tests.cli.conftest import Run
from tests.end_to_end.processes import RunningEngine, Stage


@pytest.fixture
def data(home: tuple[RunningEngine, Path]) -> Path:
    """The data directory of the engine that runs."""
    return home[1].parent


def test_the_database_of_a_running_engine_is_told_and_examined(run: Run, data: Path) -> None:
    told = run("db", "url", "--data", data)
    as_json = json.loads(run("db", "url", "--data", data, "--output", "json").stdout)
    url = told.stdout.strip()
    assert as_json["url"] == url
    assert Path(as_json["programs"], "postgres").is_file()
    assert run("db", "status", "--database-url", url).exit_code == 0
    checks = json.loads(run("db", "doctor", "--database-url", url, "--output", "json").stdout)
    assert [each["check"] for each in checks if each["verdict"] == "fail"] == []


def test_a_dump_is_restored_and_its_jobs_are_there_again(
    run: Run, cli: Run, engine: RunningEngine, data: Path, stage: Stage
) -> None:
    file, other = stage.directory / "backup.dump", stage.directory / "other"
    job = json.loads(cli("job", "submit", "kept", "--output", "json").stdout)
    dumped = run("db", "dump", file, "--data", data, "--output", "json")
    assert json.loads(dumped.stdout) == {
        "file": str(file),
        "sizeBytes": file.stat().st_size,
        "data": str(data),
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("db", "restore", file, "--data", other).exit_code == 0
    for name in ("key.pem", "key.pem.vault"):
        shutil.copy(data / name, other)
    again = stage.engine(data=other)
    environ = {**engine.environ, "JOBENGINE_URL": again.http}
    found = run("job", "show", job["jobId"], "--output", "json", **environ)
    assert json.loads(found.stdout) == job
    again.terminate()
    gone = run("db", "url", "--data", other)
    assert gone.exit_code == 1
    assert f"no engine runs a database in {other}" in gone.stderr


def test_a_dump_takes_the_place_of_nothing(run: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "there.dump"
    file.write_text("mine")
    refused = run("db", "dump", file, "--data", data)
    assert refused.exit_code == 1
    assert f"{file} exists already" in refused.stderr
    refused = run("db", "restore", file, "--data", data)
    assert refused.exit_code == 1
    assert f"{data / 'postgres'} exists already" in refused.stderr
    assert file.read_text() == "mine"
    nowhere = run("db", "dump", tmp_path / "no" / "x", "--data", data)
    assert "x cannot be written (No such file or directory)" in nowhere.stderr


def test_a_dump_that_is_damaged_leaves_no_database_behind(run: Run, stage: Stage) -> None:
    file, other = stage.directory / "damaged.dump", stage.directory / "empty"
    file.write_text("PGDMP")
    refused = run("db", "restore", file, "--data", other)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("jobengine: pg_restore failed: ")
    assert names_in(other) == []


def test_the_commands_for_the_embedded_database_refuse_another(run: Run, tmp_path: Path) -> None:
    refused = run("db", "dump", tmp_path / "x", JOBENGINE_DATABASE_URL="postgresql://db/x")
    assert refused.exit_code == 64
    assert "database_url names another" in refused.stderr


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


def program(directory: Path, script: str) -> Binaries:
    path = directory / "pg_dump"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Binaries(directory, 18, "18.0")


async def test_a_long_dump_tells_where_it_is_and_leaves_nothing_when_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobengine.store.embedded.backup._TELL_S", 0.01)
    script = "echo 'pg_dump: dumping contents of table \"jobs\"' >&2; exec sleep 60"
    binaries, target = program(tmp_path, script), tmp_path / "x.dump"
    told: list[str] = []
    async with trio.open_nursery() as nursery:

        def tell(step: str) -> None:
            told.append(step)
            if "jobs" in step:
                nursery.cancel_scope.cancel()

        nursery.start_soon(dump, binaries, "", target, tell)
    assert told[-1].endswith('s: dumping contents of table "jobs"')
    assert names_in(tmp_path) == ["pg_dump"]


async def test_a_dump_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    script = "echo 'pg_dump: error: wrong\npg_dump: detail: server 18, pg_dump 15' >&2; exit 1"
    with pytest.raises(EmbeddedServerError, match=r"^pg_dump failed: wrong; server 18, pg_dump 15"):
        await dump(program(tmp_path, script), "", tmp_path / "x.dump", print)
    assert names_in(tmp_path) == ["pg_dump"]
