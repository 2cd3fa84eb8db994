"""Runs through both clients and a worker, against a real engine."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio

from jobengine.sdk import (
    ApiError,
    AsyncClient,
    AsyncRun,
    Client,
    JobContext,
    JobError,
    Worker,
)
from jobengine.sdk.feed import Event
from tests.http.opened import Opened, opened
from tests.sdk.scripted import running

DOCS = Path(__file__).parents[2] / "docs"
WHY: Any = {"reason": "a test", "ticket": "T-1"}


def token_of(node: Opened) -> str:
    return node.headers()["Authorization"].removeprefix("Bearer ")


def sdk(node: Opened) -> AsyncClient:
    return AsyncClient(node.doors.http_url, token=token_of(node), tenant="demo", retries_max=0)


@asynccontextmanager
async def worked(node: Opened) -> AsyncIterator[None]:
    """With a worker that lists, doubles, grows its run, and fails."""
    worker = Worker(
        node.doors.worker_url,
        token_of(node),
        "demo",
        capacity=4,
        api_url=node.doors.http_url,
    )

    @worker.handler("list")
    async def numbers(job: JobContext) -> Any:
        return {"numbers": list(range(job.payload["count"]))}

    @worker.handler("double")
    async def double(job: JobContext) -> Any:
        return {"n": 2 * job.payload["n"], "at": job.node_key}

    @worker.handler("grow")
    def grow(job: JobContext) -> Any:
        return job.expand(
            [
                {"key": "more", "jobType": "list", "payload": {"count": 1}},
                {"key": "last", "jobType": "list", "payload": {"count": 2}, "dependsOn": ["more"]},
            ],
            [{"from": "last", "to": "end"}],
        )

    @worker.handler("followed")
    async def followed(job: JobContext) -> Any:
        job.follow_up("list", {"count": 5}, labels={"of": job.run_id or "none"})

    @worker.handler("fail")
    async def fail(job: JobContext) -> Any:
        raise JobError("it does not work", "broken", retryable=False)

    async with running(worker.run_async, worker.drain):
        yield


async def is_open(client: AsyncClient, run_id: str, key: str) -> None:
    """Wait until a node waits for the outside."""
    with trio.fail_after(20):
        async with aclosing(client.watch_run(run_id)) as events:
            async for _ in events:
                graph = await client.run_dag(run_id)
                if any(node.key == key and node.open for node in graph.nodes):
                    return


async def misspelt(run: AsyncRun) -> None:
    async with run:
        first = run.job("first", "noop")
        run.job("second", "noop", after=[first, "frist"])


async def test_a_run_is_written_node_by_node_and_waited_for() -> None:
    async with opened() as node, sdk(node) as client, worked(node):
        async with client.run("nightly-1", inputs={"count": 3}) as run:
            listed = run.job("list", "list", {"count": "${inputs.count}"}, template=True)
            doubled = run.map(
                "double", "double", over="results.list.numbers", payload={"n": "${item}"},
                after=[listed],
            )  # fmt: skip
            run.approval("ok", "good?", after=[doubled])
            run.job("end", "list", {"count": 0}, after=["ok"], trigger="all_done")
        await is_open(client, run.run_id, "ok")
        with pytest.raises(TimeoutError, match=r"is running after 0\.05 s"):
            await run.wait(0.05)
        assert (await run.approve("ok", **WHY)).state == "completed"
        ended = await run.wait(20)
        assert ended.state == "completed"
        assert ended.roll_up is not None
        assert (ended.nodes, ended.roll_up.completed) == (8, 8)
        assert await run.result("double[2]") == {"n": 4, "at": "double[2]"}
        with pytest.raises(KeyError):
            await run.result("nothing")
        assert (await run.gantt()).lanes[0].key == "list"
        signal = await client.first_signal(run.run_id)
        assert signal is not None
        assert await client.first_signal(run.run_id, signal) is signal


async def test_a_token_has_one_run_and_an_error_begins_none() -> None:
    async with opened() as node, sdk(node) as client:
        unsent = client.run("t")
        with pytest.raises(ValueError, match="no node yet"):
            await misspelt(unsent)
        with pytest.raises(RuntimeError, match="not submitted yet"):
            await unsent.state()
        assert [each async for each in client.runs()] == []
        first, second = client.run("t"), client.run("t")
        for each in (first, second):
            each.job("a", "noop")
        handle = await first.submit()
        assert (await first.submit()).run_id == handle.run_id
        assert (await second.submit()).run_id == handle.run_id
        assert len([each async for each in client.runs(page_size=1)]) == 1
        assert (await handle.cancel(**WHY)).cancel_requested_at is not None
        assert (await handle.wait(10)).state == "cancelled"
        assert [each.state async for each in client.runs(state=["cancelled", "failed"])] == [
            "cancelled"
        ]


async def test_a_job_grows_its_own_run() -> None:
    async with opened() as node, sdk(node) as client, worked(node):
        async with client.run("t") as run:
            run.job("grow", "grow")
            run.job("end", "followed", after=["grow"])
        assert (await run.wait(20)).state == "completed"
        graph = await run.dag()
        assert ["last", "end"] in [list(edge) for edge in graph.edges]
        ids = {each.key: each.job_id for each in graph.nodes}
        assert await run.result("grow") == [ids["more"], ids["last"]]
        [followed] = [
            job async for job in client.list(job_type="list") if job.labels == {"of": run.run_id}
        ]
        assert (await client.wait(followed.job_id, 10)).state == "completed"
        assert followed.run_id is None


async def test_a_job_of_no_run_grows_none() -> None:
    async with opened() as node, sdk(node) as client, worked(node):
        job = await client.wait((await client.submit("grow", max_retries=0)).job_id, 20)
        assert job.state == "failed"
        assert job.error is not None
        assert job.error.message == "this job is of no run; follow_up creates jobs beside it"


async def test_a_run_that_failed_runs_again_from_where_it_failed() -> None:
    async with opened() as node, sdk(node) as client, worked(node):
        async with client.run("t") as run:
            run.job("list", "list", {"count": 2})
            run.job("fail", "fail", after=["list"])
        with pytest.raises(ApiError, match="RUN_UNFINISHED"):
            await client.retry_failed(run.run_id, **WHY)
        failed = await run.wait(20)
        assert failed.state == "failed"
        assert failed.roll_up is not None
        assert [(each.key, each.error) for each in failed.roll_up.errors] == [("fail", "broken")]
        again = await client.retry_failed(run.run_id, run_token="t-again", **WHY)
        assert (again.run_token, again.replay_of) == ("t-again", run.run_id)
        kept = {each.key: each.kept for each in (await client.run_dag(again.run_id)).nodes}
        assert kept == {"list": True, "fail": False}
        await client.wait_run(again.run_id, 20)
        whole = await client.replay_from(again.run_id, "list", **WHY)
        await client.wait_run(whole.run_id, 20)
        assert not any(each.kept for each in (await client.run_dag(whole.run_id)).nodes)
        record = await client.run_record(run.run_id)
        assert [(step.step_id, step.status) for step in record.steps] == [
            ("fail", "failed"), ("list", "completed"),
        ]  # fmt: skip
        span = ("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
        exported = [each async for each in client.export_runs(*span, page_size=1)]
        assert [each.run_id for each in exported] == [run.run_id, again.run_id, whole.run_id]
        assert exported[0] == record


async def test_a_callback_is_listed_and_ended_by_its_url() -> None:
    async with opened() as node, sdk(node) as client:
        async with client.run("t") as run:
            run.callback("heard")
        await is_open(client, run.run_id, "heard")
        found = await client.run_callbacks(run.run_id)
        assert [each.key for each in found] == ["heard"]
        assert found[0].callback_url is not None
        async with httpx.AsyncClient() as stranger:
            answer = await stranger.post(found[0].callback_url, json={"result": {"n": 1}})
        assert answer.status_code == 200
        assert (await run.wait(10)).state == "completed"
        assert await run.result("heard") == {"n": 1}


async def test_the_example_of_live_streams_takes_what_runs_and_jobs_have() -> None:
    section = (DOCS / "sdk.md").read_text().partition("\n## Live streams\n")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    async with opened() as node, sdk(node) as client, worked(node):
        async with client.run("t") as run:
            run.job("fails", "fail", max_retries=0)
        assert (await run.wait(20)).state == "failed"
        token, told = token_of(node), list[tuple[str, ...]]()

        def follow() -> None:
            with Client(node.doors.http_url, token=token, tenant="demo") as blocking:

                def events(**given: Any) -> Iterator[Event]:
                    for event in blocking.events(**given):
                        yield event
                        if event.type == "run.failed":
                            return

                def tell(*words: str) -> None:
                    told.append(words)

                client = SimpleNamespace(events=events)
                exec(example, {"client": client, "last_seq": 0, "print": tell})

        with trio.fail_after(30):
            await trio.to_thread.run_sync(follow)
    assert ("run.created", run.run_id) in told
    assert told[-1] == ("run.failed", run.run_id)
    assert "job.failed" in [kind for kind, _ in told]


async def test_the_blocking_client_has_the_same() -> None:
    async with opened() as node, worked(node):
        token = token_of(node)

        def ask() -> None:
            with Client(node.doors.http_url, token=token, tenant="demo") as client:
                with client.run("t") as run:
                    run.job("list", "list", {"count": 2})
                    run.approval("ok", after=["list"])
                for event in client.watch_run(run.run_id):
                    if any(each.open for each in run.dag().nodes):
                        break
                    assert event is None or event.type
                client.extend_run(run.run_id, [{"key": "more", "jobType": "fail"}])
                assert run.reject("ok", **WHY).state == "failed"
                assert run.wait(20).state == "failed"
                assert client.run_handle(run.run_id).result("list") == {"numbers": [0, 1]}
                assert [each.run_id for each in client.runs()] == [run.run_id]

        with trio.fail_after(30):
            await trio.to_thread.run_sync(ask)
