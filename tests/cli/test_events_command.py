"""`jobengine events` and `jobengine job logs`, against a real engine."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from jobengine.cli.failure import ExitCode
from jobengine.cli.following import print_line
from jobengine.sdk import JobContext, Worker
from tests.cli.conftest import Run
from tests.end_to_end.processes import PATIENCE_S, STOP_S, RunningEngine, Stage, wait_for

SIGNED = ("--reason", "a test", "--ticket", "T-1")


def _submitted(cli: Run, *options: str) -> str:
    done = cli("job", "submit", *options, "--output", "json")
    assert done.exit_code == 0, done.stderr
    job_id: str = json.loads(done.stdout)["jobId"]
    return job_id


def _documents(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.fixture(scope="module")
def talker(engine: RunningEngine) -> Iterator[None]:
    """A worker in a thread that says two lines about each job of the type `talk`."""
    worker = Worker(engine.worker, engine.token, engine.tenant, capacity=1, drain_timeout_s=1.0)

    @worker.handler("talk")
    async def talk(job: JobContext) -> None:
        job.progress(12.5, "under  way")
        job.log.info("first\u2028line")
        job.log.warning("second line")

    thread = threading.Thread(target=trio.run, args=(worker.run_async,))
    thread.start()
    yield
    worker.drain()
    thread.join(20)


def test_events_are_a_line_each_and_narrowed_by_filters(cli: Run) -> None:
    job_id = _submitted(cli, "scan", "--hold")
    cli("job", "cancel", job_id, *SIGNED)
    cli("job", "submit", "other")
    ours = cli("events", "--after", "0", "--job-type", "scan", "--limit", "2")
    assert ours.exit_code == 0, ours.stderr
    created, cancelled = (line.split() for line in ours.stdout.splitlines())
    assert created[2:] == ["job.created", "scan", job_id, "pending"]
    assert cancelled[2:6] == ["job.cancelled", "scan", job_id, "pending→cancelled"]
    whole = cli(
        "events", "--after", "0", "--types", "job.cancelled,run.*", "--limit", "1",
        "--output", "json",
    )  # fmt: skip
    (event,) = _documents(whole.stdout)
    assert (event["schemaVersion"], event["eventType"]) == ("orch.event.v1", "job.cancelled")
    assert event["job"]["id"] == job_id


def test_events_of_a_run_are_those_of_its_jobs_too(cli: Run, tmp_path: Any) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"runToken": "t", "jobs": [{"key": "a", "jobType": "later"}]}))
    begun = cli("run", "submit", str(file), "--output", "json")
    run_id = json.loads(begun.stdout)["runId"]
    seen = cli("events", "--after", "0", "--run", run_id, "--limit", "2", "--output", "json")
    kinds = {event["eventType"] for event in _documents(seen.stdout)}
    assert kinds == {"run.created", "job.created"}
    table = cli("events", "--after", "0", "--types", "run.created", "--limit", "1")
    assert table.stdout.split()[2:] == ["run.created", run_id, "by", "developer"]


def test_ctrl_c_ends_following_without_a_fault(
    cli: Run, stage: Stage, engine: RunningEngine
) -> None:
    cli("job", "submit", "heard")
    following = stage.start("events", "--after", "0", "--output", "json", environ=engine.environ)
    wait_for(lambda: '"job.scheduled"' in following.stdout.read_text(), PATIENCE_S, "the events")
    following.popen.send_signal(signal.SIGINT)
    assert following.popen.wait(STOP_S) == ExitCode.OK
    assert following.log.read_text() == ""
    seqs = [event["seq"] for event in _documents(following.stdout.read_text())]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_log_is_followed_until_its_job_has_ended(
    cli: Run, engine: RunningEngine, talker: None
) -> None:
    job_id = _submitted(cli, "talk")
    done = cli("job", "logs", job_id, "--follow", "--output", "json")
    assert done.exit_code == 0, done.stderr
    progressed = ("events", "--after", "0", "--types", "job.progressed", "--limit", "1")
    assert cli(*progressed).stdout.endswith(f" {job_id} #1 12.5% under way\n")
    following = _documents(done.stdout)
    assert [(line["level"], line["text"]) for line in following] == [
        ("info", "first\u2028line"),
        ("warning", "second line"),
    ]
    assert {(line["jobId"], line["tenantId"]) for line in following} == {(job_id, engine.tenant)}
    rest = cli("job", "logs", job_id, "-f", "--after", following[0]["id"], "--output", "json")
    assert _documents(rest.stdout) == following[1:]
    stored = cli("job", "logs", job_id).stdout.splitlines()
    assert [line.split()[1:] for line in stored] == [
        ["#1", "info", "first�line"],
        ["#1", "warning", "second", "line"],
    ]
    assert len(json.loads(cli("job", "logs", job_id, "--output", "json").stdout)) == 2
    assert cli("job", "logs", job_id, "--tail", "1").stdout == stored[1] + "\n"
    assert cli("job", "logs", job_id, "--level", "warning").stdout == stored[1] + "\n"


def test_what_cannot_be_followed_ends_with_its_code(cli: Run, run: Run) -> None:
    nowhere = cli("events", "--run", "nope", "--after", "0")
    assert (nowhere.exit_code, nowhere.stdout) == (ExitCode.ERROR, "")
    assert "NOT_FOUND" in nowhere.stderr
    missing = cli("job", "logs", "0199d000-0000-7000-8000-000000000000", "--follow")
    assert (missing.exit_code, missing.stdout) == (ExitCode.ERROR, "")
    beyond = cli("events", "--after", "999999", "--limit", "1")
    assert beyond.exit_code == ExitCode.USAGE
    assert cli("job", "logs", "j", "--after", "1.0").exit_code == ExitCode.USAGE
    assert cli("job", "logs", "j", "-f", "--tail", "1").exit_code == ExitCode.USAGE
    away = run("events", JOBENGINE_URL="http://127.0.0.1:1", JOBENGINE_TOKEN="t")
    assert away.exit_code == ExitCode.ERROR
    assert "no engine answers" in away.stderr
    assert cli("events", JOBENGINE_TOKEN="nobody").exit_code == ExitCode.DENIED


def test_colour_is_for_terminals_and_control_characters_are_for_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[tuple[str, str | None]] = [("job.failed", "red"), ("\x1b[2Jbad", None)]
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_line(parts)
    assert capsys.readouterr().out == "job.failed �[2Jbad\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_line(parts)
    assert capsys.readouterr().out == "\x1b[31mjob.failed\x1b[0m �[2Jbad\n"
    monkeypatch.setenv("NO_COLOR", "1")
    print_line(parts)
    assert capsys.readouterr().out == "job.failed �[2Jbad\n"
