"""`jobengine serve`, as in production: a database and a login of its own, a key, a standby."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobengine.cli import main
from tests.end_to_end.processes import LOOPBACK, PATIENCE_S, Stage, wait_for
from tests.postgres_server import fresh_database, installed_binaries, running_server


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """One of the newest server, as its superuser."""
    newest = max(installed_binaries().items())[1]
    with running_server(newest) as server, fresh_database(server) as conninfo:
        yield conninfo


@pytest.fixture
def key(stage: Stage) -> Path:
    key = stage.directory / "key.pem"
    assert main(["token", "new-key", "--key-file", str(key)]) == 0
    return key


def test_a_superuser_is_refused_and_told_what_to_make(
    stage: Stage, database: str, key: Path
) -> None:
    refused = stage.run(*_serve(key), environ={"JOBENGINE_DATABASE_URL": database})
    assert refused.returncode == 1
    assert "is a superuser, which no policy binds: create one" in refused.stderr


def test_a_standby_waits_and_takes_over_when_the_engine_is_killed(
    stage: Stage, database: str, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    issue = ("token", "issue", "--key-file", str(key), "--tenant", "acme", "--role", "Orch.Admin")
    capsys.readouterr()
    assert main([*issue]) == 0
    token = capsys.readouterr().out.strip()
    migrated = stage.run("db", "migrate", environ={"JOBENGINE_DATABASE_URL": database})
    assert migrated.returncode == 0, migrated.stderr
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE node LOGIN IN ROLE jobengine_api, jobengine_ledger")
    environ = {"JOBENGINE_DATABASE_URL": make_conninfo(database, user="node")}
    first = stage.start(*_serve(key), environ=environ)
    first_url = first.announcement()["http"]
    standby = stage.start(*_serve(key), "--wait-database", "3600", environ=environ)
    wait_for(lambda: "another engine serves" in standby.log.read_text(), PATIENCE_S, "a standby")
    submitted = _call("POST", first_url, token, {"jobType": "scan"})
    assert submitted.status_code == 201, submitted.text
    first.kill()
    listed = _call("GET", standby.announcement()["http"], token)
    assert listed.status_code == 200, listed.text
    assert [one["state"] for one in listed.json()["items"]] == ["scheduled"]
    assert standby.terminate() == 0


def _serve(key: Path) -> tuple[str, ...]:
    return ("serve", "--key-file", str(key), "--output", "json", *LOOPBACK)


def _call(verb: str, url: str, token: str, body: dict[str, str] | None = None) -> httpx.Response:
    """A request of the tenant's about its jobs."""
    return httpx.request(
        verb,
        f"{url}/api/v1/jobengine/jobs",
        headers={"Authorization": f"Bearer {token}", "X-Stella-Tenant": "acme"},
        json=body,
        timeout=PATIENCE_S,
    )
