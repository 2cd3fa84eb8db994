"""`jobengine sim`, in this process and in its children."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobengine.cli.failure import ExitCode
from jobengine.domain.redaction import Redactor
from jobengine.testing.sim.sources import code_stamp
from tests.cli.conftest import Run
from tests.end_to_end.processes import PATIENCE_S

QUICK = "jobs = 6\ntenants = 1\nworkers = 1\nreaders = 1\nruns = 0\nfaults_s = 10.0\n"


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    file = tmp_path / "quick.toml"
    file.write_text(QUICK)
    return file


def test_a_clean_batch_says_what_was_exercised_and_ends_well(run: Run, quick: Path) -> None:
    done = run("sim", "run", "--seeds", 3, "--first", 5, "--scenario", quick, "--output", "json")
    assert done.exit_code == ExitCode.OK
    told = json.loads(done.stdout)
    assert (told["runs"], told["failed"], told["violations"]) == (3, 0, [])
    assert told["code"] == code_stamp()
    assert told["coverage"]["sites"]["link.cut"]["chances"] > 0
    assert told["coverage"]["never"]
    assert told["simulatedPerReal"] > 1
    table = run("sim", "run", "--seeds", 1, "--scenario", quick, "--processes", 1).stdout
    assert "SITE" in table
    assert "never exercised: " in table
    assert "1 runs, 0 failed" in table


def test_a_trace_has_its_code_above_it_and_the_same_lines_every_time(run: Run, quick: Path) -> None:
    done = run("sim", "replay", "--seed", 3, "--scenario", quick)
    assert done.exit_code == ExitCode.OK
    head, *lines = done.stdout.splitlines()
    assert head == f"# seed 3, scenario quick, code {code_stamp()}"
    assert lines[-1] == "# clean"
    assert "CAUTION" not in done.stdout
    assert run("sim", "replay", "--seed", 3, "--scenario", quick).stdout == done.stdout
    some = run("sim", "replay", "--seed", 3, "--scenario", quick, "--grep", "said hello").stdout
    assert 0 < some.count("said hello") == done.stdout.count("said hello")
    assert "heard" not in some
    whole = run("sim", "replay", "--seed", 3, "--scenario", quick, "--ledger").stdout.splitlines()
    entries = [line for line in whole if line[13:].startswith("ledger ")]
    assert [line for line in whole if line not in entries] == done.stdout.splitlines()
    assert any("job.started" in line and ">running" in line for line in entries)
    instants = [float(line[:12]) for line in whole if not line.startswith("#")]
    assert instants == sorted(instants)


def test_a_violation_stands_at_the_end_of_its_trace_and_shrinks_to_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from jobengine.domain.redaction import Redactor\nRedactor.text = lambda self, text: text\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)
    told = tmp_path / "told.toml"
    told.write_text(QUICK + "sites = []\n")
    calm = ("--seed", 2, "--scenario", told, "--jobs", 12)
    done = run("sim", "replay", *calm)
    assert done.exit_code == ExitCode.ERROR
    assert done.stdout.splitlines()[-1].startswith("# VIOLATION: ")
    assert "R21" in done.stdout.splitlines()[-1]
    file = tmp_path / "secret.toml"
    shrunk = run(
        "sim", "shrink", *calm, "--tries", 3, "--save", file, "--caught", "a secret was told",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert shrunk.exit_code == ExitCode.ERROR
    again = run("sim", "replay", "--regression", file)
    assert again.exit_code == ExitCode.ERROR
    assert "CAUTION" not in again.stdout
    file.write_text(file.read_text().replace(code_stamp(), "0.0.1+000000000000"))
    assert "found with code 0.0.1+000000000000" in run("sim", "replay", "--regression", file).stdout


def test_bad_input_is_told_in_a_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("jbos = 3\n")
    unknown = run("sim", "run", "--scenario", file)
    assert (unknown.exit_code, unknown.stdout) == (ExitCode.USAGE, "")
    assert "jbos" in unknown.stderr
    missing = run("sim", "replay", "--seed", 1, "--scenario", "weather")
    assert missing.exit_code == ExitCode.USAGE
    assert "none of bulks, calm, crashes" in missing.stderr
    assert run("sim", "replay").exit_code == ExitCode.USAGE
    assert run("sim", "replay", "--seed", 1, "--grep", "(").exit_code == ExitCode.USAGE


def test_an_interrupted_batch_says_how_far_it_came_and_leaves_no_process(quick: Path) -> None:
    command = [sys.executable, "-m", "jobengine", "sim", "run", "--seeds", "100000"]
    with subprocess.Popen(
        [*command, "--scenario", str(quick), "--output", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        while len(children := children_of(process.pid)) < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.ERROR
    assert json.loads(said)["interrupted"] is True
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def children_of(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
