"""Commands that talk to an engine, against a real one."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from jobengine.cli.failure import ExitCode
from tests.cli.conftest import Done, Run
from tests.end_to_end.processes import PATIENCE_S, STOP_S, RunningEngine, Stage, wait_for

SIGNED = ("--reason", "a test", "--ticket", "T-1")


def _document(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def _submitted(cli: Run, *options: str) -> str:
    job_id: str = _document(cli("job", "submit", "scan", *options, "--output", "json"))["jobId"]
    return job_id


def test_a_job_is_submitted_with_all_that_was_said_of_it(cli: Run) -> None:
    options = ["--payload", '{"n": 1}', "--queue", "slow", "--priority", "9", "--max-retries", "0"]
    options += ["--label", "team=red", "--label", "ref=a=b", "--unique-key", "k1"]
    made = _document(cli("job", "submit", "scan", *options, "--output", "json"))
    assert made["payload"] == {"n": 1}
    assert (made["queue"], made["priority"], made["maxRetries"]) == ("slow", 9, 0)
    assert made["labels"] == {"team": "red", "ref": "a=b"}
    again = _document(cli("job", "submit", "scan", *options, "--output", "json"))
    assert again["jobId"] == made["jobId"]


def test_the_same_idempotency_key_answers_the_same_job(cli: Run) -> None:
    first = _submitted(cli, "--idempotency-key", "once")
    assert _submitted(cli, "--idempotency-key", "once") == first


def test_a_held_job_is_released_shown_and_cancelled_with_its_history(cli: Run) -> None:
    job_id = _submitted(cli, "--hold")
    assert _document(cli("job", "show", job_id, "--output", "json"))["state"] == "pending"
    assert _document(cli("job", "release", job_id, "--output", "json"))["state"] == "scheduled"
    cancelled = cli("job", "cancel", job_id, *SIGNED)
    assert cancelled.exit_code == 0
    assert "state     cancelled" in cancelled.stdout
    steps = _document(cli("job", "history", job_id, "--output", "json"))
    assert [step["to"] for step in steps] == ["pending", "scheduled", "cancelled"]
    as_table = cli("job", "history", job_id).stdout.splitlines()
    assert len(as_table) == 4
    assert as_table[0].split()[:4] == ["SEQ", "AT", "FROM", "TO"]


def test_what_the_state_of_a_job_does_not_allow_ends_with_3(cli: Run) -> None:
    job_id = _submitted(cli)
    refused = cli("job", "retry", job_id, *SIGNED)
    assert refused.exit_code == 3
    assert refused.stderr.startswith("jobengine: ")
    assert "ILLEGAL_TRANSITION" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_job_that_is_not_there_ends_with_1(cli: Run) -> None:
    missing = cli("job", "show", "00000000-0000-7000-8000-000000000000")
    assert missing.exit_code == 1
    assert "NOT_FOUND" in missing.stderr


def test_a_wait_that_is_over_ends_with_1(cli: Run) -> None:
    done = cli("job", "submit", "nobody.does.this", "--wait", "0.2", "--output", "json")
    assert done.exit_code == 1
    known = json.loads(done.stdout)
    assert known["state"] == "scheduled"
    waiting, over = done.stderr.splitlines()
    assert waiting == f"jobengine: waiting for job {known['jobId']}"
    assert over.endswith("is scheduled after 0.2 s")


def test_a_wait_that_is_interrupted_has_told_the_id(
    cli: Run, stage: Stage, engine: RunningEngine
) -> None:
    waiting = stage.start("job", "submit", "never", "--wait", "60", environ=engine.environ)
    told = wait_for(waiting.log.read_text, PATIENCE_S, "the id")
    waiting.popen.send_signal(signal.SIGINT)
    assert waiting.popen.wait(STOP_S) == ExitCode.ERROR
    job_id = told.split()[-1]
    assert _document(cli("job", "show", job_id, "--output", "json"))["jobType"] == "never"


def test_lists_are_filtered_and_cut(cli: Run) -> None:
    for _ in range(3):
        _submitted(cli, "--queue", "listed")
    listed = ("job", "list", "--queue", "listed", "--output", "json")
    assert len(_document(cli(*listed))) == 3
    assert len(_document(cli(*listed, "--limit", "2"))) == 2
    assert _document(cli(*listed, "--state", "failed")) == []
    assert len(_document(cli(*listed, "--state", "failed", "--state", "scheduled"))) == 3
    odd = _submitted(cli, "--queue", "listed", "--label", "k=a:b", "--project", "p", "--hold")
    for narrowed in (("--label", "k=a:b"), ("--project", "p")):
        assert [one["jobId"] for one in _document(cli(*listed, *narrowed))] == [odd]
    for empty in (
        ("--run", "none"), ("--source", "none"), ("--before", "2020-01-01T00:00:00Z"),
    ):  # fmt: skip
        assert _document(cli(*listed, *empty)) == []


def test_what_explains_a_job_is_shown(cli: Run) -> None:
    options = ["--delay", "3600", "--expires", "2100-01-01T01:00:00+01:00", "--project", "p"]
    options += ["--unique-key", "shown", "--concurrency-key", "c", "--queue", "shown"]
    shown = cli("job", "submit", "scan", *options).stdout
    fields = {line[:13].strip(): line[13:].strip() for line in shown.splitlines()}
    assert fields["expires"] == "2100-01-01T00:00:00.000Z"
    assert fields["not before"] > fields["created"]
    assert (fields["unique key"], fields["project"]) == ("shown", "p")
    assert fields["concurrency"] == "c, 1 at once"


def test_many_jobs_are_made_of_a_file_or_none(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "jobs.ndjson"
    file.write_text('{"jobType": "many", "payload": {"n": 1}}\n\n{"jobType": "many"}\n')
    made = cli("job", "submit-many", file, "--idempotency-key", "many-1")
    assert (made.exit_code, made.stdout.split()) == (
        0, ["created", "2", "existing", "0", "rejected", "0"],
    )  # fmt: skip
    again = _document(
        cli("job", "submit-many", file, "--idempotency-key", "many-1", "--output", "json")
    )
    assert len(again["items"]) == 2
    file.write_text('{"jobType": "many"}\n{"jobType": "many", "priority": 12}\n')
    wrong = cli("job", "submit-many", file)
    assert wrong.exit_code == 64
    assert f"{file}, line 2: " in wrong.stderr
    assert len(_document(cli("job", "list", "--type", "many", "--output", "json"))) == 2


def test_reasons_and_tickets_are_kept_as_they_are_written(cli: Run) -> None:
    job_id = _submitted(cli, "--hold")
    assert cli("job", "cancel", job_id, "--reason", "für", "--ticket", "Ü-1").exit_code == 0
    cancelled = _document(cli("job", "history", job_id, "--output", "json"))[-1]
    assert (cancelled["reasonGiven"], cancelled["ticket"]) == ("für", "Ü-1")


def test_only_a_held_job_is_released(cli: Run) -> None:
    refused = cli("job", "release", _submitted(cli))
    assert refused.exit_code == 3
    assert "is scheduled; only a held (pending) job can be released" in refused.stderr


def test_an_artifact_that_is_fetched_names_its_file(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("bytes")
    digest = _document(cli("artifact", "put", "in.txt", "--output", "json"))["digest"]
    name = digest.removeprefix("sha256:")
    assert f"file    {name}" in cli("artifact", "get", digest).stdout
    fetched = _document(cli("artifact", "get", digest, "--output", "json"))
    assert (fetched["file"], Path(name).read_text()) == (name, "bytes")


def test_what_a_tenant_wrote_does_not_steer_the_terminal(cli: Run) -> None:
    job_id = _submitted(cli, "--label", "evil=\x1b[2J")
    assert "\x1b" not in cli("job", "show", job_id).stdout


def test_dead_letters_are_reviewed_retried_replayed_and_discarded(
    cli: Run, engine: RunningEngine
) -> None:
    job_id = _submitted(cli, "--queue", "doomed", "--max-retries", "0")
    letter_id = _fail(engine, "doomed", job_id)
    shown = cli("deadletter", "show", letter_id)
    assert "broken: it does not work" in shown.stdout
    [listed] = [
        letter
        for letter in _document(cli("deadletter", "list", "--output", "json"))
        if letter["jobId"] == job_id
    ]
    assert listed["deadLetterId"] == letter_id
    lines = shown.stdout.splitlines()
    assert lines[lines.index("stack") + 1 :] == ["  Traceback:", "      at �[2Jhere"]
    narrowed = ("deadletter", "list", "--queue", "doomed", "--output", "json")
    assert len(_document(cli(*narrowed, "--state", "open", "--state", "retried"))) == 1
    assert _document(cli(*narrowed, "--state", "discarded")) == []
    assert _document(cli(*narrowed, "--class", "timeout")) == []
    unknown = cli("deadletter", "discard", f"{job_id}:4", *SIGNED)
    assert unknown.exit_code == 1
    assert "no dead letter" in unknown.stderr
    retried = cli("deadletter", "retry", letter_id, *SIGNED, "--output", "json")
    assert _document(retried)["jobId"] == job_id
    second = _fail(engine, "doomed", job_id)
    replayed = cli("deadletter", "replay", second, *SIGNED, "--output", "json")
    assert _document(replayed)["replayOf"] == job_id
    third = _fail(engine, "doomed", _document(replayed)["jobId"])
    discarded = cli("deadletter", "discard", third, *SIGNED, "--output", "json")
    assert _document(discarded)["state"] == "discarded"
    refused = cli("deadletter", "replay", third, *SIGNED)
    assert refused.exit_code == 3
    assert "is discarded already" in refused.stderr


def test_a_waiting_job_is_given_another_priority(cli: Run) -> None:
    job_id = _submitted(cli, "--hold")
    done = cli("job", "prioritize", job_id, "9", *SIGNED)
    assert done.exit_code == 0
    assert "priority  9" in done.stdout
    assert cli("job", "prioritize", job_id, "10", *SIGNED).exit_code == 64
    cli("job", "cancel", job_id, *SIGNED)
    refused = cli("job", "prioritize", job_id, "1", *SIGNED)
    assert refused.exit_code == 3
    assert "is cancelled; only a waiting job can be prioritised" in refused.stderr


def test_dead_letters_are_counted_and_redriven(cli: Run, engine: RunningEngine) -> None:
    for _ in range(2):
        _fail(engine, "sick", _submitted(cli, "--queue", "sick", "--max-retries", "0"))
    stats = _document(cli("deadletter", "stats", "--output", "json"))
    assert stats["byQueue"]["sick"] == 2
    assert any(
        line.split() == ["queue", "sick", "2", "-", "-", "-"]
        for line in cli("deadletter", "stats").stdout.splitlines()
    )
    summary = cli("deadletter", "summary", "--queue", "sick")
    assert "broken: it does not work" in summary.stdout
    start = ("deadletter", "redrive", "start", *SIGNED)
    assert cli(*start).exit_code == 64
    assert cli(*start, "--all", "--queue", "sick").exit_code == 64
    begun = _document(
        cli(*start, "--queue", "sick", "--per-second", "0.001", "--max", "2", "--output", "json")
    )
    redrive_id = begun["redriveId"]
    assert (begun["matched"], begun["max"]) == (2, 2)
    paused = cli("deadletter", "redrive", "pause", redrive_id, *SIGNED)
    assert "state       paused" in paused.stdout
    assert "filter      queue=sick" in paused.stdout
    again = cli("deadletter", "redrive", "pause", redrive_id, *SIGNED)
    assert again.exit_code == 3
    assert "it can become running, stopped" in again.stderr
    resumed = cli("deadletter", "redrive", "resume", redrive_id, *SIGNED, "--output", "json")
    assert _document(resumed)["state"] == "running"
    cli("deadletter", "redrive", "stop", redrive_id, *SIGNED)
    shown = _document(cli("deadletter", "redrive", "show", redrive_id, "--output", "json"))
    assert shown["state"] == "stopped"
    listed = cli("deadletter", "redrive", "list").stdout.splitlines()
    assert listed[1].split()[:2] == [redrive_id, "stopped"]


def test_attached_workers_are_listed_and_drained(
    cli: Run, engine: RunningEngine, stage: Stage
) -> None:
    worker = stage.worker(engine, "tests.end_to_end.tasks:worker")
    found = wait_for(
        lambda: _document(cli("workers", "list", "--output", "json")), 20, "the worker"
    )
    worker_id = found[0]["workerId"]
    assert found[0]["capacity"] == 4
    assert worker_id in cli("workers", "list").stdout
    assert "state        attached" in cli("workers", "show", worker_id).stdout
    drained = _document(cli("workers", "drain", worker_id, *SIGNED, "--output", "json"))
    assert (drained["draining"], drained["credit"]) == (True, 0)
    assert "state        draining" in cli("workers", "show", worker_id).stdout
    missing = cli("workers", "drain", "nobody", *SIGNED)
    assert missing.exit_code == 1
    assert "no such worker is attached here" in missing.stderr
    worker.kill()


def _fail(engine: RunningEngine, queue: str, job_id: str) -> str:
    """Take the job as a worker over plain HTTP, fail it for good; answers its dead letter."""
    import httpx

    with httpx.Client(
        base_url=f"{engine.http}/api/v1/jobengine",
        headers={"Authorization": f"Bearer {engine.token}", "X-Stella-Tenant": engine.tenant},
    ) as client:
        claim = {"workerId": "w", "queues": [queue], "max": 1, "waitSeconds": 5}
        [lease] = client.post("/worker/claim", json=claim).json()["leases"]
        assert lease["jobId"] == job_id
        error: dict[str, Any] = {
            "class": "broken",
            "message": "it does not work",
            "retryable": False,
        }
        error["stack"] = "Traceback:\n\tat \x1b[2Jhere\n"
        failed = client.post(
            f"/worker/leases/{lease['leaseId']}:fail",
            json={"token": lease["token"], "error": error},
        )
        assert failed.status_code == 200, failed.text

        def letters() -> list[str]:
            items = client.get("/deadletter", params={"state": "open"}).json()["items"]
            return [item["deadLetterId"] for item in items if item["jobId"] == job_id]

        found: str = wait_for(letters, PATIENCE_S, "the dead letter")[0]
        return found
