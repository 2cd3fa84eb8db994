"""Dead letters in bulk: counts of them, and redrives, over the door."""

from typing import Any

import httpx
import trio

from tests.http.conftest import Rest
from tests.http.test_jobs import failed_letter
from tests.http.worker import working

REDRIVE = "/deadletter:redrive"


async def die(rest: Rest, *messages: str, **job: Any) -> list[dict[str, Any]]:
    """A dead letter for each message, of jobs in the queue that nobody else serves."""
    letters = []
    async with working(rest.engine) as worker:
        for message in messages:
            created = await rest.submit(maxRetries=0, **job)
            grant = await worker.take()
            assert grant.job.job_id == created["jobId"]
            await worker.fail(grant, message)
            path = f"/deadletter/{created['jobId']}.1"
            with trio.fail_after(15):
                while (  # noqa: ASYNC110 - the store is watched
                    answer := await rest.client.get(path)
                ).status_code != 200:
                    await trio.sleep(0.001)
            letters.append(answer.json())
        await worker.detach()
    return letters


async def redrive(rest: Rest, **body: Any) -> dict[str, Any]:
    answer = await rest.operate(REDRIVE, json={"filter": {}, "perSecond": 1000, **body})
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    assert answer.headers["Location"].endswith(f"/deadletter/redrives/{begun['redriveId']}")
    return begun


async def until(rest: Rest, redrive_id: str, **wanted: Any) -> dict[str, Any]:
    """The redrive as soon as it is so."""
    with trio.fail_after(30):
        while True:
            found: dict[str, Any] = (
                await rest.client.get(f"/deadletter/redrives/{redrive_id}")
            ).json()
            if wanted.items() <= found.items():
                return found
            await trio.sleep(0.002)


async def replays(rest: Rest) -> list[str]:
    answer = await rest.client.get("/jobs?pageSize=500")
    return sorted(job["replayOf"] for job in answer.json()["items"] if "replayOf" in job)


async def states_of_letters(rest: Rest) -> list[str]:
    answer = await rest.client.get("/deadletter?pageSize=500")
    return [letter["state"] for letter in answer.json()["items"]]


async def test_dead_letters_are_counted_by_what_they_have_in_common(rest: Rest) -> None:
    empty = (await rest.client.get("/deadletter/stats")).json()
    assert (empty["letters"], empty["open"], empty["complete"]) == (0, 0, True)
    letters = await die(rest, "row 1 is bad", "row 2 is bad", "gone")
    await rest.operate(f"/deadletter/{letters[0]['deadLetterId']}:discard")
    found = (await rest.client.get("/deadletter/stats")).json()
    assert (found["letters"], found["open"]) == (3, 2)
    assert found["byState"] == {"open": 2, "discarded": 1}
    assert found["byClass"] == {"other": 3}
    assert found["byJobType"] == found["byQueue"] == {"scan": 3}
    rows, gone = found["signatures"]
    assert rows == {
        "signature": letters[0]["signature"],
        "letters": 2,
        "open": 1,
        "firstAt": letters[0]["at"],
        "lastAt": letters[1]["at"],
    }
    assert gone["signature"] == letters[2]["signature"]


async def test_a_summary_shows_what_a_redrive_with_its_filter_would_replay(rest: Rest) -> None:
    letters = await die(rest, "row 1 is bad", "row 2 is bad", "gone")
    found = (await rest.client.get("/deadletter/summary")).json()
    assert (found["letters"], found["complete"]) == (3, True)
    assert [item["letters"] for item in found["items"]] == [2, 1]
    assert found["items"][0]["sample"].items() <= letters[1].items()
    assert found["items"][0]["jobType"] == "scan"
    one = (await rest.client.get("/deadletter/summary?top=1")).json()
    assert (one["letters"], len(one["items"])) == (3, 1)
    signature = letters[2]["signature"]
    some = (await rest.client.get(f"/deadletter/summary?signature={signature}")).json()
    assert some["letters"] == 1
    assert some["items"][0]["sample"].items() <= letters[2].items()
    assert (await rest.client.get("/deadletter/summary?top=51")).status_code == 400


async def test_a_redrive_replays_each_letter_that_matches_once_and_tells_the_ledger(
    rest: Rest,
) -> None:
    letters = await die(rest, "row 1 is bad", "row 2 is bad", "gone")
    begun = await redrive(rest, filter={"signature": letters[0]["signature"]})
    assert (begun["state"], begun["matched"], begun["done"]) == ("running", 2, 0)
    done = await until(rest, begun["redriveId"], state="completed")
    assert (done["done"], done["failed"], done["left"]) == (2, 0, 0)
    assert await replays(rest) == sorted(letter["jobId"] for letter in letters[:2])
    assert sorted(await states_of_letters(rest)) == ["open", "replayed", "replayed"]
    entries = await rest.engine.store.entries("demo", range(1, 100))
    told = [entry for entry in entries if entry.kind.startswith("deadletter.")]
    assert [(entry.kind, entry.actor) for entry in told] == [
        ("deadletter.redrive_started", "tester"),
        ("deadletter.redrive_completed", "engine"),
    ]
    assert {(entry.reason_given, entry.ticket) for entry in told} == {("a test", "T-1")}
    created = [entry for entry in entries if entry.kind == "job.created"][-2:]
    assert {(entry.actor, entry.ticket) for entry in created} == {("tester", "T-1")}


async def test_a_redrive_leaves_alone_what_dies_after_it_began(rest: Rest) -> None:
    await die(rest, "a", "b")
    begun = await redrive(rest)
    await until(rest, begun["redriveId"], state="completed", done=2)
    async with working(rest.engine) as worker:
        for _ in range(2):
            await worker.fail(await worker.take(), "again")
        with trio.fail_after(15):
            due = ["open", "open", "replayed", "replayed"]
            while sorted(await states_of_letters(rest)) != due:  # noqa: ASYNC110 - as above
                await trio.sleep(0.002)
    assert len(await replays(rest)) == 2


async def test_a_redrive_is_capped(rest: Rest) -> None:
    letters = await die(rest, "a", "b", "c")
    begun = await redrive(rest, max=2)
    assert begun["left"] == 2
    await until(rest, begun["redriveId"], state="completed", done=2)
    # The newest go first.
    assert await replays(rest) == sorted(letter["jobId"] for letter in letters[1:])


async def test_a_redrive_is_paused_resumed_and_stopped(rest: Rest) -> None:
    await die(rest, "a", "b", "c")
    begun = await redrive(rest, perSecond=0.001)
    redrive_id = begun["redriveId"]
    path = f"/deadletter/redrives/{redrive_id}"
    await until(rest, redrive_id, done=1)
    paused = await rest.operate(f"{path}:pause")
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert (paused.json()["done"], paused.json()["left"]) == (1, 2)
    again = await rest.operate(f"{path}:pause")
    assert (again.status_code, again.json()["error"]["state"]) == (409, "paused")
    assert (await rest.operate(f"{path}:resume")).json()["state"] == "running"
    stopped = await rest.operate(f"{path}:stop")
    assert stopped.json()["state"] == "stopped"
    for verb in ("pause", "resume", "stop"):
        refused = await rest.operate(f"{path}:{verb}")
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (409, "ILLEGAL_TRANSITION")
        assert error["state"] == "stopped"
    assert len(await replays(rest)) == 1
    listed = (await rest.client.get("/deadletter/redrives")).json()["items"]
    assert listed == [(await rest.client.get(path)).json()]


async def test_a_request_under_an_idempotency_key_takes_effect_once(rest: Rest) -> None:
    await die(rest, "a", "b")

    async def keyed(path: str, key: str, body: Any = None) -> httpx.Response:
        return await rest.operate(path, headers={"Idempotency-Key": key}, json=body or {})

    body = {"filter": {}, "perSecond": 0.001}
    first, second = [await keyed(REDRIVE, "k", body) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json() == first.json()
    path = f"/deadletter/redrives/{first.json()['redriveId']}"
    paused = await keyed(f"{path}:pause", "p")
    stopped = await keyed(f"{path}:stop", "s")
    # Long after, and though its state would not allow it any more.
    again = await keyed(f"{path}:pause", "p")
    assert (again.status_code, again.json()) == (200, paused.json())
    assert (await keyed(f"{path}:stop", "s")).json() == stopped.json()
    assert len((await rest.client.get("/deadletter/redrives")).json()["items"]) == 1


async def test_redrives_are_paged_newest_first_and_bounded(rest: Rest) -> None:
    await failed_letter_of(rest)
    begun = [(await redrive(rest, perSecond=0.001))["redriveId"]]
    begun += [(await redrive(rest, filter={"queue": "q"}))["redriveId"] for _ in range(2)]
    first = (await rest.client.get("/deadletter/redrives?pageSize=2")).json()
    token = first["nextPageToken"]
    rest_of = (await rest.client.get(f"/deadletter/redrives?pageSize=2&pageToken={token}")).json()
    assert [one["redriveId"] for one in first["items"] + rest_of["items"]] == begun[::-1]


async def failed_letter_of(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        await failed_letter(rest, worker)
        await worker.detach()


async def test_a_redrive_says_what_it_means(rest: Rest) -> None:
    for body in (
        {},
        {"filter": {"jobtype": "x"}},
        {"filter": {}, "perSecond": 0},
        {"filter": {}, "perSecond": 1001},
        {"filter": {}, "max": 0},
        {"filter": {"queue": "a\u0000b"}},
    ):
        answer = await rest.operate(REDRIVE, json=body)
        assert answer.status_code == 400, body
    narrowed = await rest.operate(
        REDRIVE, json={"filter": {}}, headers={"X-Stella-Project": "alpha"}
    )
    assert narrowed.json()["error"]["details"] == [{"path": "X-Stella-Project"}]


async def test_an_unknown_redrive_is_404(rest: Rest) -> None:
    for redrive_id in ("nope", "x" * 200, "%00"):
        path = f"/deadletter/redrives/{redrive_id}"
        assert (await rest.client.get(path)).status_code == 404
        for verb in ("pause", "resume", "stop"):
            assert (await rest.operate(f"{path}:{verb}")).status_code == 404
