"""Nodes that are ended from outside: approvals by operators, callbacks by their address."""

import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobengine.auth.keys import KeyRing, RetiredKey
from jobengine.http.callbacks import Callbacks, public_url_of
from tests.http.conftest import Rest
from tests.http.running import begin, complete, job, nodes, refused, take, until, until_open
from tests.http.worker import working

GATE = {"key": "gate", "kind": "approval", "message": "go on?"}
CALL = {"key": "call", "kind": "callback"}


async def call_address(rest: Rest, run_id: str) -> str:
    await until_open(rest, run_id, "call")
    listed = (await rest.client.get(f"/runs/{run_id}/callbacks")).json()
    url: str = listed["items"][0]["callbackUrl"]
    return url


async def call(url: str, **request: Any) -> httpx.Response:
    """As somebody who has the address and nothing else."""
    async with httpx.AsyncClient(trust_env=False) as stranger:
        return await stranger.post(url, **request)


# ---- approvals


async def test_an_approval_lets_its_run_go_on(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, GATE, job("z", "gate"))
        await until_open(rest, run_id, "gate")
        answer = await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
        assert answer.status_code == 200, answer.text
        node = answer.json()
        assert (node["key"], node["kind"], node["state"]) == ("gate", "approval", "completed")
        await complete(worker, "z")
        await until(rest, run_id, "completed")
    history = (await rest.client.get(f"/jobs/{node['jobId']}/history")).json()["items"]
    assert (history[-1]["to"], history[-1]["actor"]) == ("completed", "tester")
    again = await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
    refused(again, 409, "RUN_ENDED")


async def test_a_rejection_fails_its_node(rest: Rest) -> None:
    run_id = await begin(rest, GATE, job("z", "gate"))
    await until_open(rest, run_id, "gate")
    answer = await rest.operate(f"/runs/{run_id}:reject", json={"key": "gate"})
    assert answer.json()["state"] == "failed"
    run = await until(rest, run_id, "failed")
    assert run["rollUp"]["errors"] == [{"key": "gate", "error": "rejected"}]


async def test_only_an_open_approval_is_approved_and_with_a_reason(rest: Rest) -> None:
    run_id = await begin(rest, job("a"), GATE | {"dependsOn": ["a"]}, CALL)
    await until_open(rest, run_id, "call")
    for key in ("gate", "a", "call", "nowhere"):
        answer = await rest.operate(f"/runs/{run_id}:approve", json={"key": key})
        refused(answer, 409, "NODE_NOT_OPEN")
    unsaid = await rest.client.post(f"/runs/{run_id}:approve", json={"key": "gate"})
    refused(unsaid, 400, "AUDIT_REASON_REQUIRED")
    for body in ({}, {"key": ""}, {"key": "gate", "extra": 1}):
        answer = await rest.operate(f"/runs/{run_id}:approve", json=body)
        refused(answer, 400, "INVALID_FIELD")


# ---- callbacks


async def test_a_call_ends_its_node_once_with_what_it_says(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        end = job("end", "call", template=True, payload={"said": "${results.call.n}"})
        run_id = await begin(rest, CALL, end)
        url = await call_address(rest, run_id)
        answer = await call(url, json={"result": {"n": 7}})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "runId": run_id,
            "key": "call",
            "jobId": (await nodes(rest, run_id))["call"]["jobId"],
            "kind": "callback",
            "state": "completed",
        }
        again = await call(url, json={"result": {"n": 8}})
        refused(again, 409, "NODE_NOT_OPEN")
        assert again.json()["error"]["state"] == "completed"
        last = (await take(worker, "end"))["end"]
        assert json.loads(last.job.payload) == {"said": 7}
        await worker.complete(last)
        await until(rest, run_id, "completed")
    refused(await call(url), 409, "RUN_ENDED")
    listed = (await rest.client.get(f"/runs/{run_id}/callbacks")).json()
    assert listed == {"items": [], "nextPageToken": None}


async def test_a_call_without_a_body_is_success(rest: Rest) -> None:
    run_id = await begin(rest, CALL)
    answer = await call(await call_address(rest, run_id))
    assert answer.json()["state"] == "completed"
    await until(rest, run_id, "completed")


@pytest.mark.parametrize(
    ("said", "error"), [({}, "callback_failed"), ({"error": "declined"}, "declined")]
)
async def test_a_call_may_report_failure(rest: Rest, said: dict[str, str], error: str) -> None:
    run_id = await begin(rest, CALL)
    answer = await call(await call_address(rest, run_id), json={"state": "failed", **said})
    assert answer.json()["state"] == "failed"
    run = await until(rest, run_id, "failed")
    assert run["rollUp"]["errors"] == [{"key": "call", "error": error}]


async def test_a_template_can_hand_out_the_address(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        asks = job("ask", template=True, payload={"url": "${callbacks.call}"})
        run_id = await begin(rest, asks, CALL)
        grant = (await take(worker, "ask"))["ask"]
        url = json.loads(grant.job.payload)["url"]
        assert url == await call_address(rest, run_id)
        assert url.startswith(f"http://127.0.0.1:{rest.port}/api/v1/jobengine/callbacks/")
        await worker.complete(grant)
        assert (await call(url)).status_code == 200
        await until(rest, run_id, "completed")


@pytest.mark.parametrize("change", ["x", "-cut", "key", "", "%00", "ä"])
async def test_an_address_that_was_not_signed_ends_nothing(rest: Rest, change: str) -> None:
    run_id = await begin(rest, CALL)
    url = await call_address(rest, run_id)
    base, _, token = url.rpartition("/")
    other = "y" if token[0] == "x" else "x"
    tokens = {"x": other + token[1:], "-cut": token[:-8], "": "x" * 1_100}
    forged = Callbacks(lambda: KeyRing(Ed25519PrivateKey.generate()))
    tokens["key"] = forged.address("demo", run_id, "call").rpartition("/")[2]
    answer = await call(f"{base}/{tokens.get(change, change)}")
    refused(answer, 403, "CALLBACK_INVALID")
    assert (await nodes(rest, run_id))["call"]["state"] == "pending"


async def test_a_page_token_is_no_address(rest: Rest) -> None:
    run_id = await begin(rest, CALL)
    base = (await call_address(rest, run_id)).rpartition("/")[0]
    sealed = rest.front.pages.seal((), ("demo", run_id, "call"))
    refused(await call(f"{base}/{sealed}"), 403, "CALLBACK_INVALID")


async def test_an_address_outlives_the_key_that_signed_it_while_that_is_kept(rest: Rest) -> None:
    run_id = await begin(rest, CALL)
    url = await call_address(rest, run_id)
    old = rest.front.tokens.ring().signer.public_key()
    rest.front.tokens.take(KeyRing(Ed25519PrivateKey.generate(), [RetiredKey(old, 1 << 60)]))
    assert (await call(url)).status_code == 200


async def test_a_body_that_cannot_be_taken_is_refused_and_the_node_stays_open(rest: Rest) -> None:
    run_id = await begin(rest, CALL)
    url = await call_address(rest, run_id)
    refused(await call(url, content=b"{"), 400, "BAD_JSON")
    refused(await call(url, json={"extra": 1}), 400, "INVALID_FIELD")
    refused(await call(url, json={"state": "cancelled"}), 400, "INVALID_FIELD")
    refused(await call(url, json={"error": "x"}), 400, "INVALID_FIELD")
    refused(await call(url, json={"result": 2**60}), 400, "INVALID_FIELD", "result")
    refused(await call(url, json={"result": "x" * 300_000}), 400, "INVALID_FIELD", "result")
    refused(await call(url, content=b" " * (2 << 20)), 413, "PAYLOAD_TOO_LARGE")
    xml = {"Content-Type": "application/xml"}
    refused(await call(url, content=b"<a/>", headers=xml), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert (await nodes(rest, run_id))["call"]["open"]
    async with httpx.AsyncClient(trust_env=False) as client:
        refused(await client.get(url), 405, "METHOD_NOT_ALLOWED")
    assert (await call(url)).headers["X-RateLimit-Remaining"].isdecimal()


async def test_addresses_are_shown_to_operators_alone(rest: Rest) -> None:
    run_id = await begin(rest, CALL, {"key": "call.2", "kind": "callback"})
    await until_open(rest, run_id, "call.2")
    path = f"/runs/{run_id}/callbacks"
    reader = rest.headers(scopes=["orch:read", "orch:submit"])
    refused(await rest.client.get(path, headers=reader), 403, "SCOPE_REQUIRED")
    first = (await rest.client.get(path, params={"pageSize": 1})).json()
    token = {"pageSize": 1, "pageToken": first["nextPageToken"]}
    second = (await rest.client.get(path, params=token)).json()
    found = [item["key"] for item in first["items"] + second["items"]]
    assert (found, second["nextPageToken"]) == (["call", "call.2"], None)


def test_a_public_url_is_a_site_without_secrets() -> None:
    assert public_url_of("https://jobs.example.com/engine/") == "https://jobs.example.com/engine"
    for text in ("jobs.example.com", "ftp://x", "https://", "https://u:p@x", "https://x?y=1"):
        with pytest.raises(ValueError, match=r"URL|password"):
            public_url_of(text)
