"""Commands about who may ask: API keys, revocation, rotation, and which engine is believed."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from jobengine.auth.keys import key_id_of, load_key_ring, load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.http.tls import TlsFiles
from tests.auth.idp import AUDIENCE, ISSUER, Idp
from tests.cli.conftest import Done, Run
from tests.end_to_end.processes import (
    LOOPBACK,
    PATIENCE_S,
    RunningEngine,
    Stage,
    open_stage,
    wait_for,
)
from tests.http.certificates import Authority
from tests.http.opened import opened

SIGNED = ("--reason", "a test", "--ticket", "T-1")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage() as opened_stage:
        yield opened_stage


@pytest.fixture(scope="module")
def engine(stage: Stage) -> RunningEngine:
    return stage.engine()


@pytest.fixture
def cli(run: Run, engine: RunningEngine) -> Run:
    return partial(run, **engine.environ)


def document(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def issued(stage: Stage, subject: str = "tester") -> str:
    tokens = Tokens(load_or_create_key(stage.data / "key.pem"))
    return tokens.issue("demo", Scope, subject, 600, time.time_ns() // 1000)


def refused(cli: Run, bearer: str) -> bool:
    return cli("job", "list", JOBENGINE_TOKEN=bearer).exit_code == 2


def test_an_api_key_is_made_used_listed_and_revoked(cli: Run) -> None:
    scopes = ("--scope", "orch:submit", "--role", "Orch.Viewer")
    made = cli("apikey", "create", "--label", "nightly", *scopes, *SIGNED)
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    assert made.stdout.count("\n") == 1
    key_id = key.split("_")[1]
    submitted = cli("job", "submit", "scan", "--output", "json", JOBENGINE_TOKEN=key)
    assert document(submitted)["jobType"] == "scan"
    (listed,) = [
        each
        for each in document(cli("apikey", "list", "--output", "json"))
        if each["apiKeyId"] == key_id
    ]
    assert (listed["label"], set(listed["scopes"])) == ("nightly", {"orch:read", "orch:submit"})
    table = cli("apikey", "list").stdout
    assert key_id in table
    assert key not in table
    revoked = cli("apikey", "revoke", key_id, *SIGNED)
    assert revoked.exit_code == 0, revoked.stderr
    assert key_id in revoked.stdout
    assert refused(cli, key)
    again = document(cli("apikey", "revoke", key_id, *SIGNED, "--output", "json"))
    assert again["apiKeyId"] == key_id


def test_keys_are_listed_newest_first(cli: Run) -> None:
    labels = [f"many {n}" for n in range(3)]
    for label in labels:
        made = cli("apikey", "create", "--label", label, "--scope", "orch:read", *SIGNED)
        assert made.exit_code == 0, made.stderr
    found = [each["label"] for each in document(cli("apikey", "list", "--output", "json"))]
    assert [label for label in found if label.startswith("many")] == labels[::-1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("apikey", "create", "--label", "x", *SIGNED), 64, "at least one --scope or --role"),
        (("apikey", "create", "--label", "x", "--scope", "orch:all", *SIGNED), 64, "scopes"),
        (("apikey", "create", "--label", "x", "--scope", "orch:read"), 64, "--reason"),
        (("apikey", "revoke", "jek_aaaa_secret", *SIGNED), 64, "never by the key itself"),
        (("apikey", "revoke", "a" * 16, *SIGNED), 1, "NOT_FOUND"),
        (("token", "revoke", *SIGNED), 64, "name a TOKEN_ID"),
        (("token", "revoke", "id", "--bearer-file", "f", *SIGNED), 64, "name a TOKEN_ID"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    cli: Run, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    done = cli(*arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert said in done.stderr


def test_whoever_lacks_the_scope_makes_no_key(stage: Stage, cli: Run) -> None:
    tokens = Tokens(load_or_create_key(stage.data / "key.pem"))
    reader = tokens.issue("demo", [Scope.READ], "reader", 600, time.time_ns() // 1000)
    create = ("apikey", "create", "--label", "x", "--scope", "orch:read", *SIGNED)
    done = cli(*create, JOBENGINE_TOKEN=reader)
    assert done.exit_code == 2
    assert "orch:admin" in done.stderr


def test_a_token_is_revoked_by_its_file_and_is_not_sent(
    stage: Stage, cli: Run, tmp_path: Path
) -> None:
    token, kept = issued(stage), issued(stage)
    (tmp_path / "token").write_text(token + "\n")
    assert not refused(cli, token)
    done = cli("token", "revoke", "--bearer-file", tmp_path / "token", *SIGNED)
    assert done.exit_code == 0, done.stderr
    identity = Tokens(load_or_create_key(stage.data / "key.pem")).verify(
        token, time.time_ns() // 1000
    )
    assert done.stdout == f"{identity.token_id} is revoked\n"
    assert refused(cli, token)
    assert not refused(cli, kept)
    by_id = cli("token", "revoke", "some-id", *SIGNED, "--output", "json")
    assert document(by_id)["tokenId"] == "some-id"


def test_a_running_engine_takes_a_rotated_key_and_refuses_the_old_one_when_it_is_told_to(
    stage: Stage, cli: Run
) -> None:
    old = issued(stage)
    rotated = cli("token", "rotate-key", "--data", stage.data, "--overlap", "1h")
    assert rotated.exit_code == 0, rotated.stderr
    ring = load_key_ring(stage.data / "key.pem")
    assert rotated.stdout == f"{key_id_of(ring.signer.public_key())}\n"
    new = issued(stage)
    wait_for(lambda: not refused(cli, new), PATIENCE_S, "the new key")
    assert not refused(cli, old)
    done = cli("token", "rotate-key", "--data", stage.data, "--now")
    assert done.exit_code == 0, done.stderr
    newest = issued(stage)
    wait_for(lambda: not refused(cli, newest), PATIENCE_S, "the newest key")
    assert refused(cli, new)
    assert not refused(cli, old)


def test_a_token_on_the_command_line_goes_before_a_file_of_the_environment(
    cli: Run, engine: RunningEngine, stage: Stage, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(engine.token)
    bad.write_text("not-a-token")
    bad_file = {"JOBENGINE_TOKEN_FILE": str(bad)}
    ask = partial(cli, "job", "list")
    assert ask("--token", engine.token, **bad_file).exit_code == 0
    assert ask(**bad_file).exit_code == 2
    assert ask("--token-file", bad).exit_code == 2
    assert ask("--token", "not-a-token", "--token-file", good).exit_code == 0
    run_worker = ("worker", "run", "tests.end_to_end.tasks:worker", "--token", engine.token)
    stage.start(*run_worker, environ=engine.environ | bad_file)
    listed = partial(cli, "workers", "list", "--output", "json")
    wait_for(lambda: document(listed()), PATIENCE_S, "the worker")


def test_an_engine_believes_the_issuer_that_its_flags_name(run: Run, tmp_path: Path) -> None:
    idp, place = Idp(), tmp_path / "keys.jwks"
    place.write_bytes(idp.jwks())
    named = ("--jwks", str(place), "--issuer", ISSUER, "--audience", AUDIENCE)
    now_at = time.time_ns() // 1000
    with open_stage() as other:
        halves = other.run("up", *LOOPBACK, "--data", str(other.data), "--jwks", str(place))
        assert "missing: --issuer, --audience" in halves.stderr
        engine = other.engine(*LOOPBACK, *named, "--leeway", "200")
        environ = engine.environ | {"JOBENGINE_TOKEN": idp.token(now_at=now_at - 400 * 1_000_000)}
        assert run("job", "list", **environ).exit_code == 0
        environ["JOBENGINE_TOKEN"] = idp.token(now_at=now_at - 600 * 1_000_000)
        assert run("job", "list", **environ).exit_code == 2


async def test_commands_believe_the_authority_of_the_ca_file_and_no_other(
    run: Run, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign()
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    tls = TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=None)
    async with opened(tls=tls, verify=authority.trusted()) as node:
        environ = {
            "JOBENGINE_URL": node.doors.http_url,
            "JOBENGINE_TOKEN": node.headers()["Authorization"].removeprefix("Bearer "),
            "JOBENGINE_TENANT": "demo",
        }

        async def ask(ca_file: Path | None, *arguments: str) -> Done:
            more = {} if ca_file is None else {"JOBENGINE_CA_FILE": str(ca_file)}
            return await trio.to_thread.run_sync(lambda: run(*arguments, **environ, **more))

        for command in ("apikey", "job"):
            believed = await ask(authority.file, command, "list", "--output", "json")
            # The engine in this process logs to stdout, too.
            assert believed.exit_code == 0, believed.stderr
            assert believed.stdout.endswith("[]\n")
            for ca_file in (other.file, None):
                doubted = await ask(ca_file, command, "list")
                assert doubted.exit_code == 1
                assert "JOBENGINE_CA_FILE" in doubted.stderr
            unusable = await ask(tmp_path / "absent.pem", command, "list")
            assert unusable.exit_code == 1
            assert unusable.stderr == (
                f"jobengine: CA file {tmp_path}/absent.pem: No such file or directory\n"
            )
        revoked = await ask(authority.file, "token", "revoke", "some-id", *SIGNED)
        assert revoked.exit_code == 0, revoked.stderr
