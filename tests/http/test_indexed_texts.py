"""Texts that stand in an index of the store, at every door that takes one: what does not fit there
is refused before it spoils a commit."""

import random
from pathlib import Path
from typing import Any

import pytest

from jobengine.bus.link import Taken
from jobengine.bus.requests import request_of
from jobengine.domain.errors import RefusedError
from jobengine.domain.redaction import Redactor
from jobengine.engine import open_database
from jobengine.settings import Settings
from tests.http.conftest import Rest
from tests.http.worker_socket import Door, Socket, open_door
from tests.postgres_server import database, postgres_server

__all__ = ["database", "postgres_server"]

SECRETS = "pwd=x;" * 42
"""252 characters, and 1,554 once each secret in it has its stand-in."""


def letters(count: int, seed: int = 1) -> str:
    """Characters of four bytes that do not compress."""
    chance = random.Random(seed)
    return "".join(chr(chance.randrange(0x20000, 0x2A6D0)) for _ in range(count))


async def lease_of(socket: Socket) -> dict[str, Any]:
    await socket.say({"op": "submit", "ref": 1, "jobs": [{"jobType": "scan", "queue": "q"}]})
    await socket.hear("ack")
    await socket.say({"op": "credit", "slots": 1})
    lease = await socket.hear("lease")
    return {"leaseId": lease["leaseId"], "token": lease["token"]}


async def test_an_artifact_name_that_no_index_takes_is_refused_and_all_sessions_live_on(
    tmp_path: Path, database: str
) -> None:
    async with (
        open_database(Settings(shards=2), conninfo=database) as store,
        open_door(tmp_path, store=store) as door,
        door.greeted(workerId="a") as one,
        door.greeted(workerId="b") as other,
    ):
        first, second = await lease_of(one), await lease_of(other)
        await refuses(one, {"op": "artifact", **first}, "name")
        complete = {"op": "complete", **first, "artifacts": [{"uri": "file:///a"}]}
        await refuses(one, complete, "artifacts[1].name")
        widest = letters(256)
        note = {"op": "artifact", "ref": 4, **first, "uri": "file:///a", "name": widest}
        await one.say(note, {"op": "complete", "ref": 5, **first})
        await one.hear("ack")
        await other.say({"op": "complete", "ref": 6, **second})
        await other.hear("ack")
        job_id = first["leaseId"].partition(".")[0]
        assert [row.name for row in await store.artifacts("demo", job_id)] == [widest]
        await nothing_failed(door)


async def refuses(socket: Socket, report: dict[str, Any], path: str) -> None:
    """A report with a name of 700 characters and 2,800 bytes."""
    named = {"uri": "file:///b", "name": letters(700)}
    if "artifacts" in report:
        report = report | {"artifacts": [*report["artifacts"], named]}
    else:
        report = report | named
    await socket.say({**report, "ref": 3})
    nack = await socket.hear("nack")
    assert (nack["ref"], nack["code"]) == (3, "INVALID_FIELD")
    assert nack["message"].startswith(f"{path}: stored it takes 2800 bytes, and 1024 are the most")


async def nothing_failed(door: Door) -> None:
    assert door.faults == []
    assert door.engine.registry.statistics().failed_total == 0
    assert door.engine.registry.statistics().sessions == 2


@pytest.mark.parametrize(
    ("path", "body", "headers", "field"),
    [
        ("/jobs", {"jobType": "scan", "uniqueKey": SECRETS}, {}, "uniqueKey"),
        ("/runs", {"runToken": SECRETS, "jobs": [{"key": "a", "jobType": "s"}]}, {}, "runToken"),
        ("/jobs", {"jobType": "scan"}, {"Idempotency-Key": SECRETS}, "Idempotency-Key"),
    ],
)
async def test_a_key_that_grows_too_long_without_its_secrets_is_refused(
    rest: Rest, path: str, body: dict[str, Any], headers: dict[str, str], field: str
) -> None:
    answer = await rest.client.post(path, json=body, headers=headers)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "INVALID_FIELD"
    assert error["details"] == [{"path": field}]
    assert "1024" in error["message"]


async def test_a_submit_of_a_worker_under_such_a_key_is_refused(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.greeted() as socket:
        jobs = [{"jobType": "scan"}]
        await socket.say({"op": "submit", "ref": 1, "idempotencyKey": SECRETS, "jobs": jobs})
        nack = await socket.hear("nack")
        assert nack["message"].startswith("idempotencyKey: stored it takes 1554 bytes")


def test_a_request_by_bus_under_such_a_key_is_refused() -> None:
    body = b'{"jobType":"scan"}'
    taken = Taken(handle="1", source="it", message_id=SECRETS, body=body, tenant_id="demo")
    with pytest.raises(RefusedError, match="idempotencyKey: stored it takes 1554 bytes"):
        request_of(taken, "j", Redactor())
