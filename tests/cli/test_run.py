"""Runs and DAGs from the command line, against a real engine with a real worker."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Done, Run
from tests.end_to_end.processes import RunningEngine, Stage, open_stage, wait_for

SIGNED = ("--reason", "a test", "--ticket", "T-1")
JSON = ("--output", "json")
WAIT_S = 60.0


@pytest.fixture(scope="module")
def engine(engine: RunningEngine, stage: Stage) -> RunningEngine:
    """With a worker."""
    stage.worker(engine, "tests.end_to_end.tasks:worker")
    return engine


def _document(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def _square(key: str, number: Any, *after: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "jobType": "square", "dependsOn": after, "payload": {"number": number}} | {
        "maxRetries": 0, **more,
    }  # fmt: skip


def _written(path: Path, **document: Any) -> Path:
    file = path / "run.json"
    file.write_text(json.dumps(document))
    return file


def _open(cli: Run, run_id: str, key: str) -> None:
    """Wait until a node waits for the outside."""
    wait_for(
        lambda: any(
            node["key"] == key and node.get("open")
            for node in _document(cli("run", "dag", run_id, *JSON))["nodes"]
        ),
        WAIT_S,
        f"{key} being open",
    )


def test_a_run_is_submitted_watched_and_looked_at(cli: Run, tmp_path: Path) -> None:
    jobs = [_square("a", 3), _square("b", "${results.a.square}", "a", template=True)]
    file = _written(tmp_path, runToken="look", jobs=jobs)
    watched = cli("run", "submit", file, "--watch")
    assert watched.exit_code == 0, watched.stderr
    first, *_, last = watched.stdout.splitlines()
    assert first.endswith((" look is pending", " look is running"))
    assert " completed: 2 completed in " in last
    run_id = first.split()[1]
    shown = _document(cli("run", "submit", file, *JSON))
    assert (shown["runId"], shown["state"]) == (run_id, "completed")
    assert "ended     2 completed, 0 failed, 0 cancelled" in cli("run", "show", run_id).stdout
    rows = cli("run", "dag", run_id).stdout.splitlines()
    assert rows[1].split()[:6] == ["0", "*", "a", "job", "square", "completed"]
    assert rows[2].split()[-1] == "a"
    assert '"a" -> "b"' in cli("run", "dag", run_id, "--format", "dot").stdout
    chart = cli("run", "gantt", run_id).stdout.splitlines()
    assert len(chart) == 4
    assert "█" in chart[1]
    assert cli("run", "watch", run_id).exit_code == 0
    listed = _document(cli("run", "list", "--state", "completed", *JSON))
    assert run_id in [one["runId"] for one in listed]
    record = cli("run", "record", run_id)
    assert record.stdout.count("completed") == 3
    exported = cli("run", "export", "--from", "2020-01-01T00:00:00Z").stdout.splitlines()
    assert run_id in [json.loads(line)["runId"] for line in exported]


def test_an_approval_is_given_or_refused(cli: Run, tmp_path: Path) -> None:
    jobs = [{"key": "ok", "kind": "approval", "message": "go?"}, _square("a", 2, "ok")]
    for token, act, state, code in (
        ("gate-1", "approve", "completed", 0),
        ("gate-2", "reject", "failed", 1),
    ):
        file = _written(tmp_path, jobs=jobs)
        run_id = _document(cli("run", "submit", file, "--run-token", token, *JSON))["runId"]
        _open(cli, run_id, "ok")
        assert f"state     {state}" in cli("run", act, run_id, "ok", *SIGNED).stdout
        watched = cli("run", "watch", run_id)
        assert watched.exit_code == code
        assert watched.stdout.splitlines()[-1].startswith(f"run {run_id} {state}: ")
        assert cli("run", act, run_id, "ok", *SIGNED).exit_code == 3


def test_what_failed_is_run_again_with_results_kept(cli: Run, tmp_path: Path) -> None:
    jobs = [_square("a", 2), _square("b", {"no": "number"}, "a"), _square("c", 1, "b")]
    file = _written(tmp_path, runToken="fails", jobs=jobs)
    watched = cli("run", "submit", file, "--watch", *JSON)
    assert watched.exit_code == 1
    *changes, ended = [json.loads(line) for line in watched.stdout.splitlines()]
    assert ended["state"] == "failed"
    assert ("b", "failed") in [(one.get("key"), one["state"]) for one in changes]
    run_id = ended["runId"]
    assert "failed    b: TypeError" in cli("run", "show", run_id).stdout
    again = _document(cli("run", "retry-failed", run_id, *SIGNED, *JSON))
    assert again["replayOf"] == run_id
    assert cli("run", "watch", again["runId"]).exit_code == 1
    assert "completed (kept)" in cli("run", "dag", again["runId"]).stdout
    options = ("--run-token", "fails-whole", *SIGNED, *JSON)
    whole = _document(cli("run", "replay-from", run_id, "a", *options))
    assert whole["runToken"] == "fails-whole"
    assert cli("run", "watch", whole["runId"]).exit_code == 1


def test_a_run_is_extended_and_cancelled(cli: Run, tmp_path: Path) -> None:
    jobs = [{"key": "ok", "kind": "approval"}, {"key": "heard", "kind": "callback"}]
    file = _written(tmp_path, runToken="grows", jobs=jobs)
    run_id = _document(cli("run", "submit", file, *JSON))["runId"]
    _open(cli, run_id, "heard")
    growth = tmp_path / "more.json"
    growth.write_text(json.dumps({"jobs": [_square("more", 2, "ok")]}))
    assert "added  1 jobs" in cli("run", "extend", run_id, growth).stdout
    [heard] = _document(cli("run", "callbacks", run_id, *JSON))
    assert heard["key"] == "heard"
    assert heard["callbackUrl"].startswith("http://")
    assert cli("run", "cancel", run_id, *SIGNED).exit_code == 0
    assert cli("run", "watch", run_id).exit_code == 1
    assert _document(cli("run", "show", run_id, *JSON))["state"] == "cancelled"


def test_a_dag_is_registered_run_and_disabled(cli: Run, tmp_path: Path) -> None:
    inputs = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    file = _written(tmp_path, dagId="squares", inputs=inputs, jobs=[_square("a", "${inputs.n}")])
    made = _document(cli("dag", "register", file, *JSON))
    assert (made["dagId"], made["version"], made["state"]) == ("squares", 1, "enabled")
    begin = ("run", "submit", "--dag", "squares", "--run-token")
    assert cli(*begin, "dag-1", "--input", "n=4", "--watch").exit_code == 0
    refused = cli(*begin, "dag-2", "--input", "n=four")
    assert refused.exit_code == 64
    assert "INPUTS_INVALID" in refused.stderr
    assert cli("dag", "disable", "squares", 1, *SIGNED).exit_code == 0
    assert "VERSION_DISABLED" in cli(*begin, "dag-3", "--input", "n=4").stderr
    assert "disabled" in cli("dag", "list").stdout
    assert cli("dag", "enable", "squares", 1, *SIGNED).exit_code == 0
    shown = cli("dag", "show", "squares").stdout
    assert "state    enabled" in shown
    assert shown.splitlines()[-1].split()[:3] == ["a", "job", "square"]
    assert cli("dag", "show", "nothing").exit_code == 1


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('{"jobs": [{"key": "a"}]}', "needs jobType - at `$.jobs[0]`"),
        ('{"jobs": []}', "needs jobs, or a dagId"),
        ('{"jobs": [{"key": "a", "jobType": "x", "retries": 1}]}', "unknown field `retries`"),
    ],
)
def test_a_file_that_is_no_run_is_refused_by_name_and_place(
    run: Run, tmp_path: Path, document: str, why: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(document)
    done = run("run", "submit", file, JOBENGINE_TOKEN="t")
    assert done.exit_code == 64
    assert str(file) in done.stderr
    assert why in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name a FILE"),
        (("x.json", "--dag", "d"), "name a FILE"),
        (("nowhere.json",), "No such file"),
        (("--dag", "d", "--input", "no-value"), "write NAME=VALUE"),
        (("x.json", "--version", "1"), "name it with --dag"),
    ],
)
def test_what_is_asked_for_in_two_ways_or_none_is_refused(
    run: Run, arguments: tuple[str, ...], why: str
) -> None:
    done = run("run", "submit", *arguments, JOBENGINE_TOKEN="t")
    assert done.exit_code == 64
    assert why in done.stderr


def test_what_the_engine_refuses_of_a_graph_names_the_place(cli: Run, tmp_path: Path) -> None:
    file = _written(tmp_path, jobs=[_square("a", 1, "b"), _square("b", 1, "a")])
    refused = cli("run", "submit", file)
    assert refused.exit_code == 64
    assert "RUN_INVALID" in refused.stderr
    assert cli("run", "show", "no-such-run").exit_code == 1


def test_a_watch_goes_on_when_the_engine_restarts(run: Run, tmp_path: Path) -> None:
    with open_stage() as stage:
        engine = stage.engine()
        http, door = (url.partition("://")[2] for url in (engine.http, engine.worker))
        file = _written(tmp_path, runToken="long", jobs=[{"key": "ok", "kind": "approval"}])
        begun = _document(run("run", "submit", file, *JSON, **engine.environ))
        run_id = begun["runId"]
        watching = stage.start("run", "watch", run_id, environ=engine.environ)
        wait_for(lambda: "open" in watching.stdout.read_text(), WAIT_S, "the open approval")
        assert engine.terminate() == 0
        again = stage.engine("--http", http, "--worker", door)
        assert run("run", "approve", run_id, "ok", *SIGNED, **again.environ).exit_code == 0
        assert watching.popen.wait(WAIT_S) == 0
        last = watching.stdout.read_text().splitlines()[-1]
        assert last.startswith(f"run {run_id} completed: 1 completed in ")
