"""Runs as tests of the REST front begin, work off and await them."""

from typing import Any

import httpx
import trio

from jobengine.messages.session import Grant
from tests.http.conftest import Rest
from tests.http.worker import Worker


def job(key: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    """A node with a worker, of the job type `scan`."""
    return {"key": key, "jobType": "scan", "dependsOn": list(depends_on), **fields}


def chain(*keys: str) -> list[dict[str, Any]]:
    return [job(key, *keys[place - 1 : place]) for place, key in enumerate(keys)]


async def ask(rest: Rest, *jobs: dict[str, Any], token: str = "t", **run: Any) -> httpx.Response:
    return await rest.client.post("/runs", json={"runToken": token, "jobs": jobs, **run})


async def begin(rest: Rest, *jobs: dict[str, Any], token: str = "t", **run: Any) -> str:
    """The id of a run that was created."""
    answer = await ask(rest, *jobs, token=token, **run)
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["runId"]
    return run_id


async def take(worker: Worker, *keys: str) -> dict[str, Grant]:
    """As many leases as there are keys, by the keys of their nodes, which must be these."""
    grants = [await worker.take() for _ in keys]
    found = {grant.job.definition.node_key or "": grant for grant in grants}
    assert sorted(found) == sorted(keys)
    return found


async def complete(worker: Worker, *keys: str, result: bytes = b'{"ok":true}') -> None:
    for grant in (await take(worker, *keys)).values():
        await worker.complete(grant, result)


async def until(rest: Rest, run_id: str, state: str) -> dict[str, Any]:
    """The run, as soon as it is in this state."""
    with trio.fail_after(15):
        while True:
            run: dict[str, Any] = (await rest.client.get(f"/runs/{run_id}")).json()
            if run["state"] == state:
                return run
            await trio.lowlevel.checkpoint()


async def until_open(rest: Rest, run_id: str, key: str) -> None:
    with trio.fail_after(15):
        while not (await nodes(rest, run_id))[key].get("open"):
            await trio.lowlevel.checkpoint()


async def nodes(rest: Rest, run_id: str) -> dict[str, dict[str, Any]]:
    """The nodes of `/dag`, by key."""
    answer = await rest.client.get(f"/runs/{run_id}/dag")
    assert answer.status_code == 200, answer.text
    return {node["key"]: node for node in answer.json()["nodes"]}


def refused(answer: httpx.Response, status: int, code: str, path: str | None = None) -> str:
    """The message of a refusal of this code, which names this place."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    if path is not None:
        assert error["details"][0]["path"] == path, answer.text
    message: str = error["message"]
    return message
