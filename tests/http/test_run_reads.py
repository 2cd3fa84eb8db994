"""Graph, chart, record, export, first signal and stream of a run, as a console or an auditor reads
them."""

import json
from typing import Any

import msgspec
import trio

from jobengine.domain.job import State
from jobengine.http.first_signal import first_signal
from tests.http.conftest import Rest
from tests.http.running import begin, chain, complete, job, nodes, refused, take, until, until_open
from tests.http.test_streams import Reader, following
from tests.http.worker import working

GATE = {"key": "gate", "kind": "approval", "message": "go on?"}


async def worked_off(rest: Rest, token: str = "t") -> str:
    """A run of `a`, `b` that failed, and `c` that was cancelled for it."""
    async with working(rest.engine) as worker:
        run_id = await begin(rest, *chain("a", "b", "c"), token=token)
        await complete(worker, "a")
        await worker.fail((await take(worker, "b"))["b"])
        await until(rest, run_id, "failed")
    return run_id


async def read(rest: Rest, path: str) -> dict[str, Any]:
    answer = await rest.client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# ---- graph


async def test_the_graph_shows_order_levels_states_and_the_critical_path(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, job("d", "b", "c"), job("c", "a"), job("b", "a"), job("a"))
        await complete(worker, "a")
        held = await take(worker, "b", "c")
        await worker.complete(held["b"])
        graph = await read(rest, f"/runs/{run_id}/dag")
    assert [node["key"] for node in graph["nodes"]] == ["a", "b", "c", "d"]
    assert [node["level"] for node in graph["nodes"]] == [0, 1, 1, 2]
    assert graph["edges"] == [["a", "b"], ["a", "c"], ["b", "d"], ["c", "d"]]
    assert (graph["levels"], graph["width"]) == (3, 2)
    path = [node["key"] for node in graph["nodes"] if node["onCriticalPath"]]
    assert graph["criticalPath"] == path == ["a", "b", "d"]
    by_key = {node["key"]: node for node in graph["nodes"]}
    assert by_key["a"]["state"] == "completed"
    assert {"queueMs", "runMs", "startedAt", "finishedAt"} <= by_key["a"].keys()
    assert by_key["d"]["state"] == "pending"
    assert "startedAt" not in by_key["d"]


async def test_the_graph_says_why_a_node_ended(rest: Rest) -> None:
    graph = await nodes(rest, await worked_off(rest))
    assert (graph["b"]["state"], graph["b"]["error"]) == ("failed", "Boom")
    assert (graph["c"]["state"], graph["c"]["reason"]) == ("cancelled", "upstream_failed")


async def test_equal_states_give_equal_bytes(rest: Rest) -> None:
    run_id = await worked_off(rest)
    for path in ("dag", "gantt", "record"):
        first = await rest.client.get(f"/runs/{run_id}/{path}")
        again = await rest.client.get(f"/runs/{run_id}/{path}")
        assert first.content == again.content


async def test_a_graph_that_has_grown_is_shown_grown(rest: Rest) -> None:
    run_id = await begin(rest, GATE, job("z", "gate"))
    assert sorted(await nodes(rest, run_id)) == ["gate", "z"]
    await rest.client.post(f"/runs/{run_id}:extend", json={"jobs": [job("b", "gate")]})
    assert sorted(await nodes(rest, run_id)) == ["b", "gate", "z"]


# ---- chart


async def test_the_chart_has_a_lane_a_node_with_what_it_did(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        quick = {"kind": "fixed", "baseSeconds": 0.01, "jitter": "none"}
        run_id = await begin(rest, job("a", backoff=quick), GATE, job("z", "a", "gate"))
        await worker.fail((await take(worker, "a"))["a"], retryable=True)
        await complete(worker, "a")
        await until_open(rest, run_id, "gate")
        chart = await read(rest, f"/runs/{run_id}/gantt")
    lanes = {lane["key"]: lane["spans"] for lane in chart["lanes"]}
    assert list(lanes) == ["a", "gate", "z"]
    kinds = [(span["kind"], span["attempt"], span.get("outcome")) for span in lanes["a"]]
    assert kinds == [
        ("queue", 1, None),
        ("run", 1, "failed"),
        ("backoff", 1, None),
        ("queue", 2, None),
        ("run", 2, "completed"),
    ]
    for before, after in zip(lanes["a"], lanes["a"][1:], strict=False):
        assert before["to"] == after["from"]
    assert lanes["a"][1]["workerId"] == "w-1"
    assert lanes["gate"] == [{"kind": "queue", "attempt": 1, "from": lanes["gate"][0]["from"]}]
    assert lanes["z"] == []
    assert chart["from"] <= lanes["a"][0]["from"]


async def test_a_gate_that_was_opened_has_queued_until_then(rest: Rest) -> None:
    run_id = await begin(rest, GATE)
    await until_open(rest, run_id, "gate")
    await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
    await until(rest, run_id, "completed")
    chart = await read(rest, f"/runs/{run_id}/gantt")
    queued, ran = chart["lanes"][0]["spans"]
    assert (queued["kind"], ran["kind"], ran["outcome"]) == ("queue", "run", "completed")
    assert queued["to"] == ran["from"] == ran["to"]


# ---- record and export


async def test_the_record_has_its_fields_and_steps_in_their_order(rest: Rest) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    rest.client.headers["traceparent"] = traceparent
    run_id = await worked_off(rest)
    record = await read(rest, f"/runs/{run_id}/record")
    assert list(record) == [
        "tenant", "runId", "dagId", "dagVersion", "runToken", "traceId", "status", "inputsHash",
        "outputsHash", "startedUtc", "endedUtc", "durationMs", "steps",
    ]  # fmt: skip
    assert record["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert (record["tenant"], record["status"]) == ("demo", "failed")
    assert record["outputsHash"] == (await read(rest, f"/runs/{run_id}"))["outputsHash"]
    a, b, c = record["steps"]
    assert list(a) == [
        "stepId", "inputsHash", "outputsHash", "status", "attempt", "durationMs", "logsRef",
        "metricsRef", "errorCode", "retryable",
    ]  # fmt: skip
    assert (a["stepId"], a["status"], a["errorCode"]) == ("a", "completed", None)
    assert len(a["outputsHash"]) == 64
    assert (b["stepId"], b["errorCode"], b["retryable"]) == ("b", "Boom", False)
    assert (c["stepId"], c["status"], c["outputsHash"]) == ("c", "cancelled", None)
    url = f"http://127.0.0.1:{rest.port}"
    for reference in ("logsRef", "metricsRef"):
        assert (await rest.client.get(url + b[reference])).status_code == 200


async def test_ended_runs_are_exported_a_line_each_by_start_and_page_by_page(rest: Rest) -> None:
    made = [await worked_off(rest, f"t{n}") for n in range(3)]
    await begin(rest, job("a"), token="open")
    answer = await rest.client.get("/runs:export")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    records = [json.loads(line) for line in answer.text.splitlines()]
    assert [record["runId"] for record in records] == made
    assert records[0] == await read(rest, f"/runs/{made[0]}/record")
    found, page = [], {"pageSize": "2"}
    while True:
        answer = await rest.client.get("/runs:export", params=page)
        found += [json.loads(line)["runId"] for line in answer.text.splitlines()]
        if "X-Next-Page-Token" not in answer.headers:
            break
        page["pageToken"] = answer.headers["X-Next-Page-Token"]
    assert found == made
    later = {"from": records[1]["startedUtc"]}
    answer = await rest.client.get("/runs:export", params=later)
    assert [json.loads(line)["runId"] for line in answer.text.splitlines()] == made[1:]
    empty = {"from": "2030-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}
    refused(await rest.client.get("/runs:export", params=empty), 400, "INVALID_FIELD", "to")


# ---- first signal


async def signal(rest: Rest, run_id: str) -> dict[str, Any]:
    """The signal, once the one that is kept is not the answer any more."""
    found = await rest.front.runs.signal(
        await rest.engine.store.run("demo", run_id),  # type: ignore[arg-type]
        trio.current_time(),
    )
    assert found.view is not None
    answer = await read(rest, f"/runs/{run_id}/first-signal")
    first: dict[str, Any] = answer["firstSignal"]
    return first


async def test_a_signal_says_how_far_a_run_is(rest: Rest) -> None:
    async with working(rest.engine) as worker:
        run_id = await begin(rest, job("a"), GATE | {"dependsOn": ["a"]}, job("z", "gate"))
        with trio.fail_after(15):
            while (await rest.client.get(f"/runs/{run_id}")).json()["state"] == "pending":
                await trio.lowlevel.checkpoint()
        queued = await signal(rest, run_id)
        assert (queued["type"], queued["stage"], queued["step"]) == ("queued", "scan", "a")
        grant = (await take(worker, "a"))["a"]
        assert (await signal(rest, run_id))["type"] == "started"
        await worker.complete(grant)
        await until_open(rest, run_id, "gate")
        blocked = await signal(rest, run_id)
        assert (blocked["type"], blocked["step"]) == ("blocked", "gate")
        await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
        grant = (await take(worker, "z"))["z"]
        phase = await signal(rest, run_id)
        assert (phase["type"], phase["message"]) == ("phase", "z runs; 2 of 3 completed")
        await worker.complete(grant)
        await until(rest, run_id, "completed")
        assert (await signal(rest, run_id))["type"] == "succeeded"


async def test_the_signal_of_an_end_names_the_first_failure(rest: Rest) -> None:
    found = await signal(rest, await worked_off(rest))
    assert (found["type"], found["step"]) == ("failed", "b")
    assert found["message"] == "the run has failed: b Boom"
    run_id = await begin(rest, job("a"), token="u")
    await rest.operate(f"/runs/{run_id}:cancel")
    await until(rest, run_id, "cancelled")
    assert (await signal(rest, run_id))["type"] == "canceled"


async def test_a_signal_that_the_reader_has_is_not_sent_again(rest: Rest) -> None:
    run_id = await worked_off(rest)
    path = f"/runs/{run_id}/first-signal"
    first = await rest.client.get(path)
    assert first.headers["X-FirstSignal-Source"] == "cold_start"
    assert first.headers["Cache-Status"] == "jobengine; fwd=miss"
    assert first.headers["Cache-Control"] == "private, max-age=60"
    tag = first.headers["ETag"]
    assert tag == first.json()["summaryEtag"]
    assert tag.startswith('W/"')
    for said in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = await rest.client.get(path, headers={"If-None-Match": said})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers["X-FirstSignal-Source"] == "snapshot"
        assert again.headers["Cache-Status"] == "jobengine; hit"
    other = await rest.client.get(path, headers={"If-None-Match": '"other"'})
    assert other.json() == first.json()


async def test_before_anything_has_moved_there_is_no_signal(rest: Rest) -> None:
    run_id = await begin(rest, job("a"))
    record = await rest.engine.store.run("demo", run_id)
    assert record is not None
    node, *_ = (await rest.front.runs.read(record)).nodes.values()
    waits = msgspec.structs.replace(node, state=State.PENDING, scheduled_at=None)
    assert first_signal(record, [waits]) is None


# ---- stream


async def blocks(reader: Reader, until_kind: str) -> list[tuple[str | None, str, dict[str, Any]]]:
    """Id, kind and data of what is sent, up to the first of a kind."""
    seen: list[tuple[str | None, str, dict[str, Any]]] = []
    with trio.fail_after(30):
        while not seen or seen[-1][1] != until_kind:
            fields = await reader.block()
            assert fields is not None
            if fields:
                seen.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return seen


async def test_the_stream_of_a_run_shows_its_events_and_its_jobs(rest: Rest) -> None:
    await worked_off(rest, "other")
    run_id = await worked_off(rest)
    async with following(rest, "?after=0", f"/stream/runs/{run_id}") as reader:
        seen = await blocks(reader, "run.failed")
    kinds = [kind for number, kind, _ in seen if number is not None]
    assert kinds[0] == "run.created"
    assert "run.started" in kinds
    assert {"job.created", "job.completed", "job.failed", "job.cancelled"} <= set(kinds)
    runs = {data["data"]["runId"] for _, kind, data in seen if kind.startswith("run.")}
    jobs = {data["job"]["runId"] for _, kind, data in seen if kind.startswith("job.")}
    assert runs == jobs == {run_id}


async def test_the_stream_of_a_run_says_its_first_signal_whenever_that_changes(rest: Rest) -> None:
    run_id = await begin(rest, GATE)
    await until_open(rest, run_id, "gate")
    async with following(rest, path=f"/stream/runs/{run_id}") as reader:
        (number, _, first), *_ = await blocks(reader, "first_signal")
        assert number is None
        assert (first["runId"], first["firstSignal"]["type"]) == (run_id, "blocked")
        await rest.operate(f"/runs/{run_id}:approve", json={"key": "gate"})
        last = (await blocks(reader, "first_signal"))[-1][2]
    assert last["firstSignal"]["type"] == "succeeded"
    assert last == await read(rest, f"/runs/{run_id}/first-signal")


async def test_a_run_filters_the_stream_of_all_events(rest: Rest) -> None:
    await worked_off(rest, "other")
    run_id = await worked_off(rest)
    async with following(rest, f"?after=0&runId={run_id}&types=run.*") as reader:
        seen = await reader.take(3)
    assert [event.kind for event in seen] == ["run.created", "run.started", "run.failed"]
    assert {event.data["data"]["runId"] for event in seen} == {run_id}
