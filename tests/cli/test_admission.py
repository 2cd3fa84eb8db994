"""Commands about sources, limits and explanations, against a real engine."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Done, Run

SIGNED = ("--reason", "a test", "--ticket", "T-1")
JSON = ("--output", "json")


def said(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def cells(done: Done, name: str) -> str:
    """The value of a field, as shown to people."""
    assert done.exit_code == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).strip()


def test_a_source_is_registered_changed_slowed_and_taken_away(cli: Run) -> None:
    made = cli(
        "source", "create", "osv", "--type", "advisories", "--host", "api.osv.example",
        "--rpm", "60", "--burst", "5", "--auth-ref", "env:OSV", "--capability", "batch", *SIGNED,
    )  # fmt: skip
    assert cells(made, "rate") == "60 a minute, burst 5"
    assert cells(made, "auth ref") == "env:OSV"
    changed = said(
        cli("source", "set", "osv", "--weight", 3, "--clear", "auth-ref", *SIGNED, *JSON)
    )
    assert (changed["weight"], changed["revision"], "authRef" in changed) == (3, 2, False)
    stale = cli("source", "set", "osv", "--weight", 4, "--revision", 1, *SIGNED)
    assert stale.exit_code == 3
    assert "REVISION_MISMATCH" in stale.stderr
    table = cli("source", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["SOURCE", "TYPE", "HOST"]
    assert table[1].split()[:3] == ["osv", "advisories", "api.osv.example"]
    slowed = cli("source", "throttle", "osv", "--per-second", "0.5", *SIGNED)
    assert cells(slowed, "throttle") == "30 a minute, burst 1"
    assert cells(cli("source", "show", "osv"), "throttle") == "30 a minute, burst 1"
    assert "30 a minute, burst 1" in cli("source", "list").stdout
    assert cells(cli("source", "bucket", "osv"), "in force") == "30 a minute"
    assert cells(cli("source", "throttle", "osv", "--lift", *SIGNED), "throttle") == "none"
    assert cells(cli("source", "pause", "osv", *SIGNED), "paused") == "yes"
    assert cells(cli("source", "show", "osv"), "state") == "paused"
    assert cells(cli("source", "resume", "osv", *SIGNED), "paused") == "no"
    bucket = cli("source", "bucket", "osv")
    assert cells(bucket, "bucket") == "host:api.osv.example"
    assert cells(bucket, "tokens") == "5"
    learned = cli("source", "bucket", "osv", "--learned", "30", "--pin", *SIGNED)
    assert cells(learned, "learned") == "30 a minute"
    forgotten = cli("source", "bucket", "osv", "--forget", *SIGNED)
    assert cells(forgotten, "learned") == "forgotten"
    assert cells(cli("source", "delete", "osv", *SIGNED), "source") == "osv"
    assert cli("source", "show", "osv").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("source", "set", "osv", *SIGNED),
        ("source", "create", "a", "--type", "t", "--host", "h", "--burst", "1", *SIGNED),
        ("source", "throttle", "osv", *SIGNED),
        ("source", "throttle", "osv", "--rpm", "1", "--lift", *SIGNED),
        ("source", "bucket", "osv", "--learned", "1"),
        ("source", "bucket", "osv", "--pin"),
        ("source", "pause", "osv", "--reason", "r"),
        ("quota", "create", "q", "--max-active", "1"),
        ("quota", "create", "q", "--type", "a", "--project", "b", "--reason", "r"),
        ("throttle", "set", "--reason", "r"),
        ("blackout", "create", "b", *SIGNED),
        ("blackout", "create", "b", "--cron", "0 0 * * *", *SIGNED),
        ("source", "create", "a", "--type", "t", "--host", "http://h", *SIGNED),
        ("quota", "create", "q", "--reason", "r"),
    ],
)
def test_what_is_asked_wrongly_ends_with_64(cli: Run, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments).exit_code == 64


def test_a_quota_is_set_up_listed_and_taken_away(cli: Run) -> None:
    made = cli("quota", "create", "night", "--type", "scan", "--max-active", 2, "--reason", "r")
    assert (cells(made, "of"), cells(made, "at once")) == ("job_type scan", "2")
    arguments = ("--max-per-hour", 50, "--clear", "max-active", "--reason", "r")
    changed = said(cli("quota", "set", "night", *arguments, *JSON))
    assert (changed["maxPerHour"], "maxActive" in changed) == (50, False)
    assert cells(cli("quota", "pause", "night", "--reason", "r"), "state") == "paused"
    row = cli("quota", "list").stdout.splitlines()[1].split()
    assert row == ["night", "job_type", "scan", "0", "-", "0", "50", "0", "paused"]
    assert cells(cli("quota", "resume", "night", "--reason", "r"), "state") == "active"
    assert cells(cli("quota", "show", "night"), "an hour") == "50"
    assert cells(cli("quota", "delete", "night", "--reason", "r"), "quota") == "night"


def test_a_quota_that_only_pauses_is_resumed_and_says_that_it_has_no_limits(cli: Run) -> None:
    made = cli("quota", "create", "stop", "--project", "alpha", "--paused", "--reason", "r")
    assert cells(made, "state") == "paused"
    assert cells(cli("quota", "resume", "stop", "--reason", "r"), "state") == "no limits"
    assert cli("quota", "list").stdout.splitlines()[1].rstrip().endswith("no limits")
    assert cells(cli("quota", "pause", "stop", "--reason", "r"), "state") == "paused"
    limited = cli("quota", "set", "stop", "--max-active", 2, "--reason", "r")
    assert (cells(limited, "state"), cells(limited, "at once")) == ("paused", "2")
    assert cells(cli("quota", "resume", "stop", "--reason", "r"), "state") == "active"


def test_rates_and_weights_are_set_listed_and_taken_away(cli: Run) -> None:
    put = cli("throttle", "set", "--type", "scan", "--rpm", 120, "--reason", "r")
    assert (cells(put, "of"), cells(put, "rate")) == ("job_type scan", "120 a minute, burst 2")
    assert "120 a minute" in cli("throttle", "list").stdout
    gone = cli("throttle", "remove", "--type", "scan", "--reason", "r")
    assert cells(gone, "rate") == "none"
    assert said(cli("throttle", "list", *JSON)) == []
    assert cells(cli("weight", "set", "scan", 5, "--reason", "r"), "weight") == "5"
    assert [one["weight"] for one in said(cli("weight", "list", *JSON))] == [5]
    assert cli("weight", "set", "scan", 1, "--reason", "r").exit_code == 0
    assert said(cli("weight", "list", *JSON)) == []


def test_a_breaker_is_forced_and_released(cli: Run) -> None:
    cli("source", "create", "b1", "--type", "t", "--host", "h", "--rpm", 1, *SIGNED)
    assert cells(cli("breaker", "open", "b1", *SIGNED), "position") == "forced_open"
    assert "forced_open" in cli("breaker", "list").stdout
    assert cells(cli("breaker", "close", "b1", *SIGNED), "position") == "forced_closed"
    assert cells(cli("breaker", "release", "b1", *SIGNED), "position") == "closed"


def test_a_blackout_is_set_up_previewed_and_taken_away(cli: Run) -> None:
    made = cli(
        "blackout", "create", "night", "--cron", "0 22 * * *", "--seconds", 28_800,
        "--zone", "Europe/Berlin", "--window", "2998-01-01T00:00:00Z", "2998-01-02T00:00:00Z",
        *SIGNED,
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert "0 22 * * * (Europe/Berlin) for 28800 s" in made.stdout
    windows = cli("blackout", "preview", "night", "--count", 3).stdout.splitlines()
    assert len(windows) == 4
    assert "night" in cli("blackout", "list").stdout
    assert cells(cli("blackout", "show", "night"), "reason") == "a test"
    gone = cli("blackout", "delete", "night", "--force", *SIGNED)
    assert cells(gone, "blackout") == "night"
    wrong = cli("blackout", "create", "x", "--cron", "0 0 * * *", "--seconds", 60,
                "--zone", "Mars/Olympus", *SIGNED)  # fmt: skip
    assert wrong.exit_code == 64
    assert "Mars/Olympus" in wrong.stderr


def test_pauses_are_explained_and_lifted(cli: Run) -> None:
    assert cells(cli("pause", "queue", "slow", *SIGNED), "of") == "queue slow"
    assert cells(cli("pause", "tenant", *SIGNED), "paused") == "yes"
    assert len(said(cli("pause", "list", *JSON))) == 2
    job_id = said(cli("job", "submit", "scan", "--queue", "slow", *JSON))["jobId"]
    shown = cli("job", "explain", job_id)
    assert cells(shown, "state") == "scheduled"
    assert cells(shown, "position") == "1"
    assert "queue:slow is paused; resume it" in shown.stdout
    assert "with an operator resuming it" in shown.stdout
    kinds = [gate["gate"] for gate in said(cli("job", "explain", job_id, *JSON))["gates"]]
    assert kinds == ["paused", "paused", "no_worker"]
    queue = cli("queue", "explain", "slow").stdout
    assert "paused tenant, paused queue:slow, no_worker slow" in queue
    assert cli("queue", "explain", "nothing").stdout == "nothing waits in nothing\n"
    assert cells(cli("resume", "tenant", *SIGNED), "paused") == "no"
    assert cells(cli("resume", "queue", "slow", *SIGNED), "paused") == "no"
    assert said(cli("pause", "list", *JSON)) == []
