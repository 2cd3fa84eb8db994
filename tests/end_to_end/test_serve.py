"""`jobengine serve`, as in production: a database and a login of its own, a key, a standby."""

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from tests.end_to_end.processes import LOOPBACK, Running, Stage, wait_for
from tests.postgres_server import fresh_database, installed_binaries, running_server


def test_a_standby_waits_and_takes_over_when_the_engine_is_killed(stage: Stage) -> None:
    key = str(stage.directory / "key.pem")
    assert stage.run("token", "new-key", "--key-file", key).returncode == 0
    issue = ("token", "issue", "--key-file", key, "--tenant", "acme", "--role", "Orch.Admin")
    token = stage.run(*issue).stdout.strip()
    newest = max(installed_binaries().items())[1]
    with running_server(newest) as server, fresh_database(server) as conninfo:
        serve = ("serve", "--key-file", key, "--output", "json", *LOOPBACK)
        refused = stage.run(*serve, environ={"JOBENGINE_DATABASE_URL": conninfo})
        assert refused.returncode == 1
        assert "is a superuser, which no policy binds: create one" in refused.stderr
        migrated = stage.run("db", "migrate", environ={"JOBENGINE_DATABASE_URL": conninfo})
        assert migrated.returncode == 0, migrated.stderr
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("CREATE ROLE node LOGIN IN ROLE jobengine_api, jobengine_ledger")
        environ = {"JOBENGINE_DATABASE_URL": make_conninfo(conninfo, user="node")}
        first = stage.start(*serve, environ=environ)
        first_url = first.announcement()["http"]
        standby = stage.start(*serve, "--wait-database", "30", environ=environ)
        wait_for(lambda: "another engine serves" in standby.log.read_text(), 20, "a standby")
        job = stage.run(
            *("job", "submit", "scan", "--url", first_url, "--tenant", "acme", "--output", "json"),
            environ={"JOBENGINE_TOKEN": token},
        )
        assert job.returncode == 0, job.stderr
        first.kill()
        found = _jobs(standby, token)
        assert [one["state"] for one in found] == ["scheduled"]
        assert standby.terminate() == 0


def _jobs(engine: Running, token: str) -> list[dict[str, str]]:
    """What the engine lists for the tenant, once it serves."""
    answer = httpx.get(
        f"{engine.announcement()['http']}/api/v1/jobengine/jobs",
        headers={"Authorization": f"Bearer {token}", "X-Stella-Tenant": "acme"},
    )
    assert answer.status_code == 200, answer.text
    items: list[dict[str, str]] = answer.json()["items"]
    return items
