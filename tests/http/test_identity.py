"""API keys, revocation, rotation and external issuers, through the doors of a node."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from jobengine.auth.issuers import ExternalIssuer, IssuerRules
from jobengine.auth.jwks_source import JwksSource
from jobengine.auth.keys import load_or_create_key, rotate_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.engine import Engine, open_engine
from jobengine.http.doors import Endpoint, open_doors
from jobengine.http.identities import Trust
from jobengine.http.routes import apikeys
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from tests.auth.idp import AUDIENCE, ISSUER, Idp, S
from tests.http.conftest import BASE, SIGNED, Rest

LOCAL = Endpoint("127.0.0.1", 0)


async def new_key(rest: Rest, **fields: Any) -> dict[str, Any]:
    body = {"label": "ci", "scopes": ["orch:read", "orch:submit"], **fields}
    answer = await post(rest, body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def post(rest: Rest, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await rest.client.post("/apikeys", json=body, headers={**SIGNED, **headers})


def bearer(text: str, tenant: str = "demo") -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", "X-Stella-Tenant": tenant}


async def test_an_api_key_does_what_its_scopes_allow_for_its_tenant(rest: Rest) -> None:
    made = await new_key(rest)
    headers = bearer(made["key"])
    job = await rest.client.post("/jobs", json={"jobType": "scan"}, headers=headers)
    assert job.status_code == 201
    entries = await rest.engine.store.entries("demo", [2, 3])
    assert entries[0].actor == f"apikey:{made['apiKeyId']}"
    refused = await rest.client.get("/apikeys", headers=headers)
    assert refused.json()["error"]["code"] == "SCOPE_REQUIRED"
    foreign = await rest.client.get("/jobs", headers=bearer(made["key"], "other"))
    assert foreign.json()["error"]["code"] == "TENANT_FORBIDDEN"


async def test_a_keys_secret_is_in_its_first_answer_and_nowhere_else(rest: Rest) -> None:
    body = {"label": "ci", "scopes": ["orch:read"]}
    first = await post(rest, body, **{"Idempotency-Key": "k"})
    key = first.json()["key"]
    assert first.headers["Cache-Control"] == "no-store"
    again = await post(rest, body, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == {name: v for name, v in first.json().items() if name != "key"}
    listed = (await rest.client.get("/apikeys")).json()["items"]
    assert listed == [again.json()]
    blocks = await rest.engine.store.blocks("demo", 0, 10, 1 << 20)
    kept = [str(await rest.engine.store.credentials(0, 10)), *(str(b.body) for b in blocks)]
    assert key.split("_", 2)[2] not in "".join(kept)
    (entry,) = await rest.engine.store.entries("demo", [1])
    assert (entry.kind, entry.reason_given, entry.ticket) == ("apikey.created", "a test", "T-1")
    data = json.loads(bytes(entry.data))
    assert data["credential"] == first.json()["prefix"]
    assert (data["label"], data["scopes"]) == ("ci", ["orch:read"])


async def test_a_revoked_key_is_refused_at_once_and_stays_on_the_list(rest: Rest) -> None:
    made = await new_key(rest)
    path = f"/apikeys/{made['apiKeyId']}:revoke"
    unsigned = await rest.client.post(path)
    assert unsigned.json()["error"]["code"] == "AUDIT_REASON_REQUIRED"
    revoked = await rest.operate(path)
    assert revoked.json()["revokedAt"]
    assert (await rest.operate(path)).json()["revokedAt"] == revoked.json()["revokedAt"]
    refused = await rest.client.get("/jobs", headers=bearer(made["key"]))
    assert refused.status_code == 401
    assert "was revoked at" in refused.json()["error"]["message"]
    assert (await rest.client.get("/apikeys")).json()["items"] == [revoked.json()]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"scopes": ["orch:read"]}, "label"),
        ({"label": "", "scopes": ["orch:read"]}, "label"),
        ({"label": "a\nb", "scopes": ["orch:read"]}, "label"),
        ({"label": "a", "scopes": []}, "scopes"),
        ({"label": "a", "scopes": ["orch:root"]}, "scopes"),
        ({"label": "a", "scopes": ["orch:read"], "expiresAt": "soon"}, "expiresAt"),
        ({"label": "a", "scopes": ["orch:read"], "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"label": "a", "scopes": ["orch:read"], "secret": "mine"}, "secret"),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(
    rest: Rest, body: dict[str, Any], path: str
) -> None:
    answer = await post(rest, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"][0]["path"].startswith(path)
    assert (await rest.client.get("/apikeys")).json()["items"] == []


async def test_nobody_hands_out_more_than_he_has(rest: Rest) -> None:
    headers = rest.headers(scopes=["orch:admin", "orch:read"])
    body = {"label": "more", "scopes": ["Orch.Admin"]}
    answer = await rest.client.post("/apikeys", json=body, headers={**headers, **SIGNED})
    assert answer.json()["error"]["code"] == "SCOPE_REQUIRED"
    assert "orch:operate" in answer.json()["error"]["details"][0]["scopes"]


async def test_a_revoked_token_is_refused_and_its_stream_ends(rest: Rest) -> None:
    headers = rest.headers(scopes=["orch:read"])
    token = headers["Authorization"].removeprefix("Bearer ")
    identity = rest.front.tokens.verify(token, rest.engine.clock.moment().at)
    with trio.fail_after(30):
        async with rest.client.stream("GET", "/stream/events", headers=headers) as stream:
            revoked = await rest.operate("/tokens:revoke", json={"tokenId": identity.token_id})
            assert revoked.status_code == 200, revoked.text
            async for _ in stream.aiter_bytes():
                pass
    refused = await rest.client.get("/jobs", headers=headers)
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        401,
        "the token was revoked",
    )


async def test_a_bearer_is_no_name_of_a_token_to_revoke(rest: Rest) -> None:
    made = await new_key(rest)
    for text in (made["key"], "a.b.c", "x\ny"):
        answer = await rest.operate("/tokens:revoke", json={"tokenId": text})
        assert answer.status_code == 400
        assert text not in answer.text


async def test_keys_and_endless_revocations_of_a_tenant_are_bounded(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "_KEYS_MAX", 1)
    monkeypatch.setattr(apikeys, "_ENDLESS_MAX", 1)
    made = await new_key(rest)
    body = {"label": "one more", "scopes": ["orch:read"]}
    full = await rest.operate("/apikeys", json=body)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "CAPACITY_EXCEEDED")
    assert "revoke some" in full.json()["error"]["message"]
    await rest.operate(f"/apikeys/{made['apiKeyId']}:revoke")
    assert (await rest.operate("/apikeys", json=body)).status_code == 201
    for token_id, status in (("a", 200), ("b", 429)):
        answer = await rest.operate("/tokens:revoke", json={"tokenId": token_id})
        assert answer.status_code == status, answer.text
    dated = {"tokenId": "c", "expiresAt": "2099-01-01T00:00:00Z"}
    answer = await rest.operate("/tokens:revoke", json=dated)
    assert (answer.status_code, answer.json()["expiresAt"][:10]) == (200, "2099-01-01")


@attrs.frozen
class Node:
    engine: Engine
    client: httpx.AsyncClient

    async def status(self, token: str) -> int:
        return (await self.client.get(f"{BASE}/jobs", headers=bearer(token))).status_code


@asynccontextmanager
async def node(store: MemoryStore, key_file: Path, *issuers: ExternalIssuer) -> AsyncIterator[Node]:
    trust = Trust(key_file=key_file, issuers=issuers)
    key = load_or_create_key(key_file)
    doors = partial(open_doors, http=LOCAL, worker=LOCAL, drain_s=1.0, trust=trust)
    async with (
        open_engine(store, Settings(shards=2)) as engine,
        doors(engine, key) as opened,
        httpx.AsyncClient(base_url=opened.http_url, trust_env=False) as client,
    ):
        yield Node(engine, client)


def issued(key_file: Path, engine: Engine) -> str:
    tokens = Tokens(load_or_create_key(key_file))
    return tokens.issue("demo", Scope, "tester", 600, engine.clock.moment().at)


async def test_revocations_and_keys_outlive_the_engine(tmp_path: Path) -> None:
    store, key_file = MemoryStore(), tmp_path / "key.pem"
    async with node(store, key_file) as first:
        token, gone = issued(key_file, first.engine), issued(key_file, first.engine)
        headers = {**bearer(token), **SIGNED}
        body: dict[str, Any] = {"label": "ci", "scopes": ["orch:read"]}
        made = await first.client.post(f"{BASE}/apikeys", json=body, headers=headers)
        token_id = (
            Tokens(load_or_create_key(key_file))
            .verify(gone, first.engine.clock.moment().at)
            .token_id
        )
        await first.client.post(
            f"{BASE}/tokens:revoke", json={"tokenId": token_id}, headers=headers
        )
    async with node(store, key_file) as second:
        assert await second.status(made.json()["key"]) == 200
        assert await second.status(token) == 200
        assert await second.status(gone) == 401


async def test_a_running_node_takes_a_rotated_key_and_shows_both(tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    async with node(MemoryStore(), key_file) as running:
        old = issued(key_file, running.engine)
        now_at = running.engine.clock.moment().at
        await trio.to_thread.run_sync(rotate_key, key_file, now_at + 60 * S, now_at)
        new = issued(key_file, running.engine)
        with trio.fail_after(30):
            while await running.status(new) != 200:
                await trio.lowlevel.checkpoint()
        assert await running.status(old) == 200
        shown = (await running.client.get("/.well-known/jobengine/keys")).json()["keys"]
        assert [set(key) & {"d", "exp"} for key in shown] == [set(), {"exp"}]
        assert len({key["kid"] for key in shown}) == 2


async def test_a_list_that_is_being_read_goes_on_across_a_rotation_and_a_restart(
    tmp_path: Path,
) -> None:
    store, key_file = MemoryStore(), tmp_path / "key.pem"

    async def page(running: Node, token: str | None) -> tuple[list[str], str | None]:
        headers = bearer(issued(key_file, running.engine))
        query = {"pageSize": "2", **({"pageToken": token} if token else {})}
        answer = await running.client.get(f"{BASE}/jobs", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return [item["jobId"] for item in found["items"]], found["nextPageToken"]

    async with node(store, key_file) as first:
        headers = bearer(issued(key_file, first.engine))
        body = [{"jobType": "scan"}] * 5
        await first.client.post(f"{BASE}/jobs:bulk", json=body, headers=headers)
        one, token = await page(first, None)
        now_at = first.engine.clock.moment().at
    await trio.to_thread.run_sync(rotate_key, key_file, now_at + 60 * S, now_at)
    async with node(store, key_file) as second:
        two, token = await page(second, token)
        three, end = await page(second, token)
    assert end is None
    assert len({*one, *two, *three}) == 5


async def test_an_issuer_that_fails_is_named_in_readiness_and_metrics(tmp_path: Path) -> None:
    idp, place = Idp(), tmp_path / "jwks.json"
    place.write_bytes(idp.jwks())
    source = JwksSource(str(place), ttl_s=60)
    rules = IssuerRules(issuer=ISSUER, audience=AUDIENCE)
    async with node(MemoryStore(), tmp_path / "key.pem", ExternalIssuer(rules, source)) as running:
        now_at = running.engine.clock.moment().at
        token = idp.token("ES256", now_at=now_at)
        assert await running.status(token) == 200
        assert await running.status(idp.token("RS256", now_at=now_at, aud="x")) == 401
        place.unlink()
        await source.refresh()
        assert await running.status(token) == 200
        ready = (await running.client.get("/readyz")).json()
        (check,) = [one for one in ready["checks"] if one["name"] == f"jwks {ISSUER}"]
        assert check["ready"]
        assert "refreshing fails since" in check["detail"]
        metrics = (await running.client.get("/metrics")).text
        assert f'jobengine_jwks_failures_total{{issuer="{ISSUER}"}} 1.0' in metrics


async def test_no_bearer_stands_in_a_log_an_answer_or_the_ledger(
    rest: Rest,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await new_key(rest)
    token = rest.token()
    bad = [token[:-4] + "AAAA", made["key"][:-4] + "AAAA", token, made["key"]]

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rest.engine.store, "job_counts", broken)
    capsys.readouterr()
    said = ""
    for text in bad:
        for path in ("/jobs/summary", "/nothing", f"/jobs/{text[-20:]}"):
            answer = await rest.client.get(path, headers=bearer(text), timeout=60)
            said += "" if path.endswith(text[-20:]) else answer.text
    written = capsys.readouterr()
    logged = written.out + written.err + caplog.text
    assert "http_request_failed" in logged
    for text in bad:
        assert text[-30:] not in said + logged
