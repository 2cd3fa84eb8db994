from typing import Any

import msgspec

from jobengine.domain.event import events_of
from tests.http.conftest import Rest
from tests.http.test_jobs import failed_letter, states
from tests.http.worker import working

UNKNOWN = "01a2006c-db40-721c-81a1-17ce0c696aff"


async def test_a_held_job_is_released(rest: Rest) -> None:
    job = await rest.submit(hold=True)
    assert job["state"] == "pending"
    answer = await rest.operate(f"/jobs/{job['jobId']}:release")
    assert answer.status_code == 200
    assert answer.json()["state"] == "scheduled"
    again = await rest.operate(f"/jobs/{job['jobId']}:release")
    assert again.status_code == 409


async def test_a_waiting_job_is_cancelled_and_a_second_time_answers_409_with_its_state(
    rest: Rest,
) -> None:
    job = await rest.submit()
    answer = await rest.operate(f"/jobs/{job['jobId']}:cancel")
    assert (answer.json()["state"], answer.json()["reason"]) == ("cancelled", "user_cancelled")
    again = await rest.operate(f"/jobs/{job['jobId']}:cancel")
    assert again.status_code == 409
    error = again.json()["error"]
    assert (error["code"], error["state"]) == ("ILLEGAL_TRANSITION", "cancelled")
    assert error["details"][0]["allowed"] == []


async def test_cancelling_a_running_job_leaves_it_running_with_the_request_noted(
    rest: Rest,
) -> None:
    async with working(rest.engine) as worker:
        job = await rest.submit()
        await worker.take()
        answer = await rest.operate(f"/jobs/{job['jobId']}:cancel")
    assert answer.status_code == 200
    assert answer.json()["state"] == "running"
    assert answer.json()["cancelRequestedAt"]


async def test_a_failed_job_is_retried_in_place(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
    answer = await rest.operate(f"/jobs/{letter['jobId']}:retry")
    assert answer.json()["state"] == "scheduled"
    assert answer.json()["failures"] == 1


async def test_a_finished_job_is_replayed_as_a_new_one(rest: Rest) -> None:
    job = await rest.submit(payload={"a": 1})
    await rest.operate(f"/jobs/{job['jobId']}:cancel")
    answer = await rest.operate(f"/jobs/{job['jobId']}:replay")
    copy = answer.json()
    assert answer.status_code == 201
    assert (copy["replayOf"], copy["priority"], copy["payload"]) == (job["jobId"], 8, {"a": 1})
    chosen = await rest.operate(f"/jobs/{job['jobId']}:replay", json={"priority": 2})
    assert chosen.json()["priority"] == 2


async def test_a_waiting_job_is_given_another_priority_and_everything_tells_the_new_one(
    rest: Rest,
) -> None:
    slow = await rest.submit(maxRetries=1)
    await rest.submit(priority=6)
    path = f"/jobs/{slow['jobId']}"
    answer = await rest.operate(f"{path}:prioritize", json={"priority": 9})
    assert (answer.status_code, answer.json()["priority"]) == (200, 9)
    assert (await rest.client.get(path)).json()["priority"] == 9
    entries = await rest.engine.store.entries("demo", range(1, 20))
    noted = [entry for entry in entries if entry.kind == "job.prioritized"]
    assert [(bytes(e.data), e.reason_given, e.ticket) for e in noted] == [
        (b'{"from":5,"to":9}', "a test", "T-1")
    ]
    async with working(rest.engine) as worker:
        grant = await worker.take()
        assert (grant.job.job_id, grant.job.definition.priority) == (slow["jobId"], 9)
        refused = await rest.operate(f"{path}:prioritize", json={"priority": 1})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (409, "ILLEGAL_TRANSITION")
        assert error["state"] == "running"
        await worker.fail(grant, retryable=True)
        await states(rest, slow["jobId"], "scheduled")
    assert (await rest.client.get(path)).json()["priority"] == 9


async def test_a_held_and_a_delayed_job_keep_waiting_under_their_new_priority(rest: Rest) -> None:
    held = await rest.submit(hold=True)
    later = await rest.submit(notBefore="2999-01-01T00:00:00Z")
    for job, state in ((held, "pending"), (later, "scheduled")):
        answer = await rest.operate(f"/jobs/{job['jobId']}:prioritize", json={"priority": 0})
        assert (answer.json()["priority"], answer.json()["state"]) == (0, state)
    # The same again changes nothing, and says so by adding no entry.
    (head,) = (await rest.engine.store.heads(["demo"])).values()
    again = await rest.operate(f"/jobs/{held['jobId']}:prioritize", json={"priority": 0})
    assert again.json()["priority"] == 0
    assert (await rest.engine.store.heads(["demo"])) == {"demo": head}
    released = await rest.operate(f"/jobs/{held['jobId']}:release")
    assert released.json()["priority"] == 0


async def test_a_priority_is_said_and_lies_between_0_and_9(rest: Rest) -> None:
    job = await rest.submit()
    for body in ({}, {"priority": 10}, {"priority": -1}, {"priority": "9"}):
        answer = await rest.operate(f"/jobs/{job['jobId']}:prioritize", json=body)
        assert answer.status_code == 400, body


async def test_an_operation_on_an_unknown_job_is_404(rest: Rest) -> None:
    for verb in ("cancel", "retry", "replay", "release"):
        for job_id in (UNKNOWN, "nope"):
            answer = await rest.operate(f"/jobs/{job_id}:{verb}")
            assert answer.status_code == 404, (verb, job_id)


async def test_a_dead_letter_shows_its_evidence(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker, projectId="alpha")
    assert letter["class"] == "other"
    assert letter["state"] == "open"
    assert letter["error"]["message"] == "boom"
    assert letter["attempts"] == 1
    detail = (await rest.client.get(f"/deadletter/{letter['deadLetterId']}")).json()
    assert letter.items() <= detail.items()
    assert detail["job"]["state"] == "failed"
    assert detail["workerId"] == "w-1"
    assert detail["history"][-1]["to"] == "failed"
    assert detail["history"][-1]["error"]["class"] == "Boom"


async def test_dead_letters_are_filtered_and_paged(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letters = [
            await failed_letter(rest, worker, jobType=name, projectId=name)
            for name in ("a", "b", "c")
        ]

    async def ids(query: str, **headers: str) -> list[str]:
        answer = await rest.client.get(f"/deadletter?{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        return [one["deadLetterId"] for one in answer.json()["items"]]

    newest_first = [letter["deadLetterId"] for letter in letters][::-1]
    assert await ids("") == newest_first
    assert await ids("jobType=b") == [letters[1]["deadLetterId"]]
    assert await ids("class=other&state=open") == newest_first
    assert await ids("class=timeout") == []
    assert await ids(f"signature={letters[0]['signature']}") == [letters[0]["deadLetterId"]]
    assert await ids("", **{"X-Stella-Project": "c"}) == newest_first[:1]
    first = (await rest.client.get("/deadletter?pageSize=2")).json()
    token = first["nextPageToken"]
    second = (await rest.client.get(f"/deadletter?pageSize=2&pageToken={token}")).json()
    paged = [one["deadLetterId"] for one in first["items"] + second["items"]]
    assert paged == newest_first
    assert second["nextPageToken"] is None


async def test_a_dead_letter_is_replayed_once(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker, payload={"a": 1})
    path = f"/deadletter/{letter['deadLetterId']}"
    answer = await rest.operate(f"{path}:replay")
    assert answer.status_code == 201
    assert answer.json()["replayOf"] == letter["jobId"]
    again = await rest.operate(f"{path}:replay")
    assert again.status_code == 409
    error = again.json()["error"]
    assert (error["code"], error["state"]) == ("DEAD_LETTER_CLOSED", "replayed")
    closed = (await rest.client.get(path)).json()
    assert closed["state"] == "replayed"
    assert closed["replayedAs"] == answer.json()["jobId"]
    assert_closed_by_operator(closed)


async def test_a_dead_letter_is_retried_in_place(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
        path = f"/deadletter/{letter['deadLetterId']}"
        answer = await rest.operate(f"{path}:retry")
        assert (answer.status_code, answer.json()["jobId"]) == (200, letter["jobId"])
        closed = (await rest.client.get(path)).json()
        assert closed["state"] == "retried"
        assert_closed_by_operator(closed)
        await worker.complete(await worker.take())
        await states(rest, letter["jobId"], "completed")


async def test_a_dead_letter_is_discarded(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
    path = f"/deadletter/{letter['deadLetterId']}"
    answer = await rest.operate(f"{path}:discard")
    assert answer.json() == {**letter, "state": "discarded"}
    assert (await rest.operate(f"{path}:discard")).status_code == 409
    assert_closed_by_operator((await rest.client.get(path)).json())


def assert_closed_by_operator(letter: dict[str, Any]) -> None:
    """`rest.operate` has said why, and where that was decided."""
    closed = letter["closed"]
    assert closed["at"] >= letter["at"]
    assert (closed["reasonGiven"], closed["ticket"]) == ("a test", "T-1")
    assert closed["actor"] == letter["history"][0]["actor"]


async def test_an_open_dead_letter_is_closed_by_nobody(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
    shown = (await rest.client.get(f"/deadletter/{letter['deadLetterId']}")).json()
    assert "closed" not in shown


async def test_what_an_operator_gave_as_reason_and_ticket_is_in_history_and_events(
    rest: Rest,
) -> None:
    job = await rest.submit()
    await rest.operate(f"/jobs/{job['jobId']}:cancel")
    history = (await rest.client.get(f"/jobs/{job['jobId']}/history")).json()["items"]
    assert [(item["to"], item["reasonGiven"], item["ticket"]) for item in history] == [
        ("pending", None, None),
        ("scheduled", None, None),
        ("cancelled", "a test", "T-1"),
    ]
    blocks = await rest.engine.store.blocks("demo", 0, 100, 1 << 20)
    bodies = [msgspec.json.decode(event.body) for block in blocks for event in events_of(block)]
    actors = {body["eventType"]: body["actor"] for body in bodies}
    assert actors["job.created"].keys() == {"subject", "scopes"}
    assert actors["job.cancelled"] == {
        **actors["job.created"],
        "reasonGiven": "a test",
        "ticket": "T-1",
    }


async def test_a_discarded_dead_letter_is_not_retried(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        letter = await failed_letter(rest, worker)
    path = f"/deadletter/{letter['deadLetterId']}"
    await rest.operate(f"{path}:discard")
    refused = await rest.operate(f"{path}:retry")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "DEAD_LETTER_CLOSED"


async def test_an_unknown_dead_letter_is_404(rest: Rest) -> None:
    for dead_letter_id in (UNKNOWN, "nope", "x" * 200, "%00"):
        assert (await rest.client.get(f"/deadletter/{dead_letter_id}")).status_code == 404
        for verb in ("replay", "retry", "discard"):
            answer = await rest.operate(f"/deadletter/{dead_letter_id}:{verb}")
            assert answer.status_code == 404
