"""Commands that need no engine: their exit codes, what they print, what they refuse."""

import json
import stat
import sys
import textwrap
import time
from pathlib import Path

import click
import msgspec
import pytest

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.tokens import Tokens
from jobengine.cli.app import jobengine
from jobengine.cli.node_options import _FLAGS
from jobengine.cli.output import json_text
from tests.cli.conftest import Run
from tests.postgres_server import database, postgres_server

__all__ = ["database", "postgres_server"]


def _commands(group: click.Group, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found.extend(_commands(command, *path, name))
    return found


COMMANDS = _commands(jobengine)
SIGNED = ("--reason", "a test", "--ticket", "T-1")


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS]
)
def test_every_command_and_flag_explains_itself(
    path: tuple[str, ...], command: click.Command, run: Run
) -> None:
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["job", "list", "--state", "asleep"],
        ["job", "submit"],
        ["job", "submit", "scan", "--payload", "{"],
        ["job", "submit", "scan", "--label", "novalue"],
        ["job", "cancel", "some-job", "--reason", "because"],
        ["token", "issue", "--tenant", "acme"],
        ["token", "issue", "--tenant", "acme", "--scope", "orch:read", "--ttl", "soon"],
        ["worker", "run", "module"],
        ["job", "submit", "scan", "--wait", "-1"],
        ["job", "submit", "scan", "--wait", "nan"],
        ["job", "submit", "scan", "--delay", "inf"],
        ["job", "submit", "scan", "--delay", "1", "--not-before", "2026-12-24T18:00:00Z"],
        ["job", "submit", "scan", "--not-before", "2026-12-24"],
        ["job", "submit", "scan", "--queue", "no queue"],
        ["job", "submit", "scan", "--concurrency-limit", "3"],
        ["job", "submit-many", "no-such-file"],
        ["job", "list", "--label", "novalue"],
        ["deadletter", "list", "--state", "asleep"],
        ["deadletter", "redrive", "start", "--all", "--per-second", "nan", *SIGNED],
        ["throttle", "set", "--rpm", "nan", *SIGNED],
    ],
)
def test_what_is_asked_wrongly_ends_with_64_and_one_reason(arguments: list[str], run: Run) -> None:
    done = run(*arguments, JOBENGINE_TOKEN="any")
    assert done.exit_code == 64
    assert done.stderr.count("Error: ") == 1
    assert done.stdout == ""


def test_a_limit_without_its_key_names_the_key(run: Run) -> None:
    done = run("job", "submit", "scan", "--concurrency-limit", "3", JOBENGINE_TOKEN="any")
    assert "--concurrency-key" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["job", "cancel", "j", "--reason", "two\nlines", "--ticket", "t"], "--reason"),
        (["job", "submit", "scan", "--idempotency-key", "ü"], "--idempotency-key"),
        (["job", "list", "--tenant", "ü"], "--tenant or JOBENGINE_TENANT"),
        (["job", "list", "--token", "sec\nret"], "--token or JOBENGINE_TOKEN"),
        (["governance", "show", "--token", "secrét"], "--token or JOBENGINE_TOKEN"),
        (["job", "list", "--url", "nonsense"], "--url 'nonsense'"),
    ],
)
def test_what_no_request_can_carry_is_named_and_a_token_never_shown(
    arguments: list[str], option: str, run: Run
) -> None:
    done = run(*arguments, JOBENGINE_TOKEN="any")
    assert done.exit_code == 64
    [said] = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert said.startswith(f"jobengine: {option} ")
    assert "sec" not in said


def test_an_operation_without_reason_or_ticket_says_why_it_needs_them(run: Run) -> None:
    done = run("job", "cancel", "some-job", JOBENGINE_TOKEN="any")
    assert done.exit_code == 64
    assert "operations are audited" in done.stderr


def test_without_a_token_a_command_ends_with_2(run: Run) -> None:
    done = run("job", "list")
    assert done.exit_code == 2
    assert done.stderr.startswith("jobengine: no token")


def test_a_refusal_does_not_steer_the_terminal(run: Run) -> None:
    done = run("job", "list", "--token-file", "/nowhere/\x1b[2J")
    assert done.exit_code == 1
    assert done.stderr == "jobengine: /nowhere/�[2J: No such file or directory\n"


def test_documents_hold_no_control_as_it_is_and_say_the_same() -> None:
    said = {"by": "\x1b[2J \x9b2J\x7f é", "of": msgspec.Raw(b'{\n"a": 1}')}
    text = json_text(said)
    assert json.loads(text) == said | {"of": {"a": 1}}
    assert not any(letter in text for letter in "\x1b\x9b\x7f")


def test_an_engine_out_of_reach_is_named(run: Run) -> None:
    done = run("job", "list", "--url", "http://127.0.0.1:1", JOBENGINE_TOKEN="any")
    assert done.exit_code == 1
    assert done.stderr.startswith("jobengine: no engine answers at http://127.0.0.1:1")
    assert done.stderr.count("\n") == 1


def test_a_token_is_made_with_a_key_and_holds_what_was_asked_for(tmp_path: Path, run: Run) -> None:
    key_file = tmp_path / "key.pem"
    made = run("token", "new-key", "--key-file", key_file)
    assert (made.exit_code, made.stdout) == (0, f"{key_file}\n")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    again = run("token", "new-key", "--key-file", key_file)
    assert again.exit_code == 1
    assert "exists already" in again.stderr

    issue = ["token", "issue", "--key-file", key_file, "--tenant", "acme", "--ttl", "90m"]
    scopes = ["--scope", "orch:submit", "--role", "Orch.Viewer", "--subject", "ci"]
    issued = run(*issue, *scopes, "--output", "json")
    assert issued.exit_code == 0
    document = json.loads(issued.stdout)
    assert document["expiresInSeconds"] == 5400
    now_at = time.time_ns() // 1000
    identity = Tokens(load_or_create_key(key_file)).verify(document["token"], now_at)
    assert identity.tenants == {"acme"}
    assert identity.scopes == {"orch:submit", "orch:read"}
    assert identity.subject == "ci"
    assert 5390_000_000 < identity.expires_at - now_at <= 5400_000_000

    unknown = run(*issue, "--scope", "orch:everything")
    assert unknown.exit_code == 64
    assert "orch:everything" in unknown.stderr


def test_a_token_of_a_key_that_is_not_there_or_no_key_is_refused(tmp_path: Path, run: Run) -> None:
    issue = ["token", "issue", "--tenant", "acme", "--scope", "orch:read"]
    missing = run(*issue, "--data", tmp_path)
    assert missing.exit_code == 1
    assert f"there is no key file {tmp_path}/key.pem" in missing.stderr
    bad = tmp_path / "key.pem"
    bad.write_text("not a key")
    bad.chmod(0o600)
    assert "holds no unencrypted Ed25519 key" in run(*issue, "--data", tmp_path).stderr
    bad.chmod(0o644)
    assert f"chmod 600 {bad}" in run(*issue, "--data", tmp_path).stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_is_printed_for_a_shell(shell: str, run: Run) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_JOBENGINE_COMPLETE" in done.stdout


def test_config_show_tells_each_value_and_its_origin(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("shards = 4\n")
    environ = {"JOBENGINE_DATABASE_URL": "postgresql://u:hunter2@db/x", "JOBENGINE_SHARD": "1"}
    done = run("config", "show", "--config", file, "--http", "[::1]:9", **environ)
    assert done.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["shards"] == ["4", str(file)]
    assert rows["http"] == ["[::1]:9", "--http"]
    assert rows["database_url"][-1] == "JOBENGINE_DATABASE_URL"
    assert "hunter2" not in done.stdout
    assert "did you mean JOBENGINE_SHARDS?" in done.stderr
    as_json = json.loads(run("config", "show", "--output", "json", **environ).stdout)
    assert "hunter2" not in json.dumps(as_json)
    assert {"name", "environment", "value", "origin"} == as_json[0].keys()
    unset = json.loads(run("config", "show", "--output", "json").stdout)
    assert {row["name"]: row["value"] for row in unset}["database_url"] is None


def test_every_setting_that_flags_are_known_for_has_its_flag() -> None:
    flags = {parameter.name for _, command in COMMANDS for parameter in command.params}
    assert _FLAGS.keys() <= flags


def test_an_external_issuer_is_named_by_flags(run: Run) -> None:
    flags = {"jwks": "keys.json", "issuer": "https://idp", "audience": "us", "leeway_s": "60"}
    arguments = [part for name, value in flags.items() for part in (_flag(name), value)]
    done = run("config", "show", *arguments, JOBENGINE_ISSUER="https://other")
    assert done.exit_code == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert {name: rows[name] for name in flags} == {
        name: [value, _flag(name)] for name, value in flags.items()
    }


def _flag(setting: str) -> str:
    return f"--{setting.removesuffix('_s')}"


def test_a_bad_config_ends_every_command_with_one_line(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("shards = 0\n")
    for command in (["up"], ["serve"], ["config", "show"], ["db", "migrate"]):
        done = run(*command, "--config", file)
        assert done.exit_code == 64
        assert done.stderr == f"jobengine: {file}: shards: shards must be >= 1: 0\n"


def test_serve_assumes_neither_a_database_nor_a_key(tmp_path: Path, run: Run) -> None:
    neither = run("serve", "--data", tmp_path)
    assert neither.exit_code == 64
    assert "--embedded" in neither.stderr
    both = run("serve", "--data", tmp_path, "--embedded", "--database-url", "postgresql://x")
    assert "not both" in both.stderr
    keyless = run("serve", "--data", tmp_path, "--embedded")
    assert keyless.exit_code == 1
    assert "token new-key" in keyless.stderr


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path, run: Run) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    done = run("up", "--data", occupied / "data")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"jobengine: {occupied}/data cannot be made a data directory")
    assert done.stderr.count("\n") == 1


def test_the_schema_is_shown_and_brought_up_to_date(database: str, run: Run) -> None:
    environ = {"JOBENGINE_DATABASE_URL": database}
    before = run("db", "status", "--output", "json", **environ)
    assert before.exit_code == 3
    states = {row["name"]: row["state"] for row in json.loads(before.stdout)}
    assert set(states.values()) == {"pending"}
    assert run("db", "migrate", **environ).stdout.count("applied ") == len(states)
    assert run("db", "migrate", **environ).stdout == "the schema is up to date\n"
    after = run("db", "status", **environ)
    assert after.exit_code == 0
    assert "pending" not in after.stdout


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://127.0.0.1:1/none", "the database does not answer"),
        ("no=connection=string", "this database cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_one_line(url: str, said: str, run: Run) -> None:
    done = run("db", "status", JOBENGINE_DATABASE_URL=url)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"jobengine: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["migrate", "status", "doctor"])
def test_a_command_for_a_database_that_is_not_named_is_a_wrong_command_line(
    verb: str, run: Run
) -> None:
    done = run("db", verb)
    assert done.exit_code == 64
    assert "name the database with --database-url" in done.stderr


def test_a_worker_that_cannot_be_found_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert "there is no module nowhere" in run("worker", "run", "nowhere:worker").stderr
    (tmp_path / "cli_test_tasks.py").write_text("worker = 3\n")
    wrong = run("worker", "run", "cli_test_tasks:worker")
    assert "cli_test_tasks:worker is of type int, not a jobengine.sdk.Worker" in wrong.stderr
    (tmp_path / "cli_test_idle.py").write_text(
        "from jobengine.sdk import Worker\n\nworker = Worker()\n"
    )
    nonsense = run("worker", "run", "cli_test_idle:worker", JOBENGINE_WORKER_URL="nonsense")
    assert nonsense.exit_code == 64
    assert nonsense.stderr.startswith("jobengine: 'nonsense' is no ws:// or wss:// URL")
    idle = run("worker", "run", "cli_test_idle:worker", JOBENGINE_WORKER_URL="ws://127.0.0.1:1")
    assert idle.exit_code == 1
    assert idle.stderr.startswith("jobengine: cli_test_idle:worker has no handlers")
    assert idle.stderr.count("\n") == 1
    absent = run("worker", "run", "cli_test_tasks:another")
    assert "cli_test_tasks:another is nothing" in absent.stderr
    (tmp_path / "cli_test_broken.py").write_text(
        textwrap.dedent("""\
        import a_module_that_is_not_installed
        """)
    )
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_installed"):
        run("worker", "run", "cli_test_broken:worker")


def test_the_demo_names_the_extra_that_it_needs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("jobengine.demo")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ["cyclonedx", *(name for name in sys.modules if name.startswith("cyclonedx."))]:
        monkeypatch.setitem(sys.modules, name, None)
    done = run("demo")
    assert done.exit_code == 1
    assert "the demo needs cyclonedx" in done.stderr
    assert "jobengine[demo,embedded]" in done.stderr
