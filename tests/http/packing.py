"""Packs as tests of the REST front register and run them."""

from typing import Any

import httpx

from tests.http.conftest import Rest

Step = dict[str, Any]


def run(key: str, payload: Any = None, **fields: Any) -> Step:
    return {"key": key, "kind": "run", "jobType": "scan", "payload": payload or {}, **fields}


def parallel(key: str, *branches: list[Step]) -> Step:
    return {"key": key, "kind": "parallel", "branches": branches}


def conditional(key: str, when: str, then: list[Step], otherwise: list[Step]) -> Step:
    return {"key": key, "kind": "conditional", "when": when, "then": then, "else": otherwise}


async def ask_pack(rest: Rest, *steps: Step, pack: str = "p", **fields: Any) -> httpx.Response:
    return await rest.client.post("/packs", json={"packId": pack, "steps": steps, **fields})


async def register(rest: Rest, *steps: Step, pack: str = "p", **fields: Any) -> dict[str, Any]:
    """The pack as it was registered."""
    answer = await ask_pack(rest, *steps, pack=pack, **fields)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def ask_run(rest: Rest, token: str = "t", **fields: Any) -> httpx.Response:
    body = {"packId": "p", "runToken": token, "projectId": "apollo", **fields}
    given = {name: value for name, value in body.items() if value is not None}
    return await rest.client.post("/pack-runs", json=given)


async def begin(rest: Rest, *steps: Step, **inputs: Any) -> str:
    """The id of a run of a pack of these steps."""
    await register(rest, *steps)
    answer = await ask_run(rest, inputs=inputs)
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["runId"]
    return run_id
