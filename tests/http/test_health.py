import pytest
import trio

from jobengine import __version__
from jobengine.http.routes import health
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import StoreHealth
from tests.http.conftest import Rest


def url(rest: Rest, path: str) -> str:
    return f"http://127.0.0.1:{rest.port}{path}"


async def test_probes_and_metrics_need_no_token(rest: Rest) -> None:
    rest.client.headers.clear()
    live = await rest.client.get(url(rest, "/livez"))
    assert (live.status_code, live.json()) == (200, {"state": "alive"})
    ready = await rest.client.get(url(rest, "/readyz"))
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    names = [check["name"] for check in ready.json()["checks"]]
    assert names == ["database", "migrations", "ledger", "load"]
    metrics = await rest.client.get(url(rest, "/metrics"))
    assert metrics.text == "jobengine_up 1\n"
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for answer in (live, ready, metrics):
        assert answer.headers["X-JobEngine-Version"] == __version__


async def unready(rest: Rest) -> dict[str, str]:
    """The details of a 503, by the name of the check."""
    answer = await rest.client.get(url(rest, "/readyz"))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    body = answer.json()
    assert body["ready"] is False
    return {one["path"]: one["message"] for one in body["error"]["details"]}


async def test_a_database_that_is_away_is_not_ready_and_requests_are_told_to_come_again(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailableError("connection refused")

    for method in ("health", "jobs", "job_list", "heads"):
        monkeypatch.setattr(rest.engine.store, method, away)
    assert (await unready(rest))["database"] == "connection refused"
    for path in ("/jobs", "/stream/events"):
        answer = await rest.client.get(path)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "STORE_UNAVAILABLE"
        assert answer.headers["Retry-After"]


async def test_a_database_that_does_not_answer_is_not_waited_for(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest.engine.store, "health", trio.sleep_forever)
    monkeypatch.setattr(health, "_HEALTH_S", 0.05)
    assert "database" in await unready(rest)


async def test_a_database_without_a_free_connection_is_away_and_says_why(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> StoreHealth:
        why = "no connection within 1.5 s: too many clients already"
        return StoreHealth(ready=False, server_version="", schema_version=0, detail=why)

    monkeypatch.setattr(rest.engine.store, "health", full)
    details = await unready(rest)
    assert "too many clients" in details["database"]
    assert details["migrations"] == "unknown: the database does not answer"


async def test_missing_migrations_are_not_ready(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def behind() -> StoreHealth:
        return StoreHealth(
            ready=False, server_version="18.6", schema_version=1, detail="2 migrations to apply"
        )

    monkeypatch.setattr(rest.engine.store, "health", behind)
    assert await unready(rest) == {"migrations": "2 migrations to apply"}


async def test_a_ledger_that_cannot_commit_is_not_ready_and_submits_get_503(rest: Rest) -> None:
    ledger = rest.engine.gateway.ledger
    ledger.away_since_mono = rest.engine.clock.moment().mono - 7
    ledger.why = "no space left on device"
    told = (await unready(rest))["ledger"]
    assert "since 7." in told
    assert told.endswith(": no space left on device")
    answer = await rest.client.post("/jobs", json={"jobType": "a"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
