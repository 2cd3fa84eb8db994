"""The worker against a real WebSocket on loopback."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from jobengine.sdk import JobContext, JobError, Snooze, Worker, WorkerRejectedError
from jobengine.sdk.transport import CLOSE_S_MAX
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Complete,
    Drain,
    Fail,
    Heartbeat,
    Log,
    Progress,
    Release,
)
from tests.chaos.cutting_proxy import open_proxy
from tests.sdk.model import cancel, lease
from tests.sdk.scripted import ScriptedEngine, running, scripted_engine


def make(engine: ScriptedEngine, **changes: object) -> Worker:
    settings = {"token": "secret", "tenant": "acme", "capacity": 4, "grace_s": 0.2, **changes}
    return Worker(engine.url, **settings)  # type: ignore[arg-type]


def outcome(engine: ScriptedEngine, lease_id: str) -> object:
    return engine.model.outcomes[lease_id][0]


def said(engine: ScriptedEngine, kind: type) -> list:
    return [message for message in engine.model.said if isinstance(message, kind)]


async def test_handlers_of_every_kind_return_results() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)

        @worker.handler("plain")
        def plain(job: JobContext) -> dict:
            return {"n": job.payload["n"] + 1}

        @worker.handler("trio")
        async def on_trio(job: JobContext) -> str:
            await trio.lowlevel.checkpoint()
            return job.idempotency_key

        @worker.handler("asyncio", loop="asyncio")
        async def on_asyncio(job: JobContext) -> None:
            await asyncio.sleep(0)

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(
                lease("a", "plain", {"n": 1}), lease("b", "trio"), lease("c", "asyncio")
            )
            await engine.until(lambda: len(engine.model.outcomes) == 3)
        results = {}
        for name in "abc":
            done = outcome(engine, name)
            assert isinstance(done, Complete)
            results[name] = bytes(done.result)
        assert results == {"a": b'{"n":2}', "b": b'"job-of-b:1"', "c": b"null"}
        assert engine.handshakes[0]["authorization"] == "Bearer secret"
        assert engine.handshakes[0]["x-stella-tenant"] == "acme"
        assert said(engine, Drain)


async def test_errors_become_failures_and_snoozes_releases() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)

        @worker.handler("raise")
        async def fails(job: JobContext) -> None:
            raise LookupError("missing \0 thing")

        @worker.handler("known")
        def known(job: JobContext) -> None:
            raise JobError(
                "slow down", "Throttled", retryable=False, http_status=429, retry_after_s=9
            )

        @worker.handler("snooze")
        def snooze(job: JobContext) -> None:
            raise Snooze(60, "not yet")

        @worker.handler("unsendable")
        def unsendable(job: JobContext) -> object:
            return object()

        @worker.handler("lost")
        def lost(job: JobContext) -> object:
            return {"none": None, "mean": float("nan")}

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            names = ("raise", "known", "snooze", "unsendable", "lost")
            await engine.grant(*(lease(name, name) for name in names))
            await engine.until(lambda: len(engine.model.outcomes) == 5)
        unexpected, told = outcome(engine, "raise"), outcome(engine, "known")
        assert isinstance(unexpected, Fail)
        assert isinstance(told, Fail)
        assert unexpected.error.class_ == "LookupError"
        assert "\0" not in unexpected.error.message
        assert "fails" in (unexpected.error.stack or "")
        assert (told.error.class_, told.error.retryable) == ("Throttled", False)
        assert (told.error.http_status, told.retry_after) == (429, 9.0)
        released = outcome(engine, "snooze")
        assert isinstance(released, Release)
        assert (released.delay_seconds, released.reason) == (60.0, "not yet")
        for name in ("unsendable", "lost"):
            refused = outcome(engine, name)
            assert isinstance(refused, Fail)
            assert refused.error.class_ == "UnsendableResult"


async def test_notes_of_a_handler_reach_the_engine_before_its_outcome(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_bytes(b"abc")
    async with scripted_engine() as engine:
        worker = make(engine)

        @worker.handler("noop")
        def noted(job: JobContext) -> None:
            job.log.warning("watch out")
            job.progress(50, "half")
            job.artifact(file, mime="text/plain")
            job.follow_up("next", {"of": job.job_id}, priority=9)

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            await engine.until(lambda: engine.model.outcomes)
        kinds = [type(m) for m in engine.model.said if type(m) not in (Heartbeat, Drain)]
        assert kinds[2:] == [Log, Progress, ArtifactNote, Complete]
        [note] = said(engine, ArtifactNote)
        assert note.digest.startswith("sha256:ba7816bf")
        assert (note.size_bytes, note.name) == (3, "report.txt")
        [done] = said(engine, Complete)
        assert [(f.job_type, f.priority) for f in done.follow_ups] == [("next", 9)]


async def test_a_dropped_connection_is_resumed_and_its_reports_are_sent_again() -> None:
    async with scripted_engine() as engine:
        worker = make(engine, capacity=2)
        go_on = threading.Event()

        @worker.handler("noop")
        def wait(job: JobContext) -> None:
            if job.lease.lease_id == "slow":
                go_on.wait(10)

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            engine.hold_acks = True
            await engine.grant(lease("slow"), lease("quick"))
            await engine.until(lambda: "quick" in engine.model.outcomes)
            engine.drop()
            engine.hold_acks = False
            await engine.until(lambda: len(engine.model.hellos) == 2)
            resumed = {item.lease_id for item in engine.model.hellos[1].resume}
            assert resumed == {"slow", "quick"}
            await engine.until(lambda: len(said(engine, Complete)) == 2)
            go_on.set()
            await engine.until(lambda: "slow" in engine.model.outcomes)
        assert [len(outcomes) for outcomes in engine.model.outcomes.values()] == [1, 1]


async def test_a_silent_connection_is_left_at_once_and_closed_beside_the_next() -> None:
    async with (
        scripted_engine() as engine,
        open_proxy("127.0.0.1", int(engine.url.rpartition(":")[2]), 1) as proxy,
    ):
        worker = Worker(f"ws://{proxy.address}", token="secret", tenant="acme", capacity=1)
        go_on = threading.Event()

        @worker.handler("noop")
        def wait(_: JobContext) -> None:
            go_on.wait(10)

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("slow"))
            await engine.until(lambda: said(engine, Heartbeat))
            proxy.half_open()
            await engine.until(lambda: len(engine.model.hellos) == 2)
            assert proxy.open_links == 2, "the connection before it is closed first"
            with trio.fail_after(CLOSE_S_MAX + 1):
                while proxy.open_links > 1:  # noqa: ASYNC110 - a proxy is watched
                    await trio.sleep(0.01)
            go_on.set()
            await engine.until(lambda: "slow" in engine.model.outcomes)
        assert len(engine.model.outcomes["slow"]) == 1


async def test_a_handler_that_blocks_its_loop_still_heartbeats() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)
        go_on = threading.Event()

        @worker.handler("noop")
        async def block(job: JobContext) -> None:
            go_on.wait(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, worker.run)
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            await engine.until(lambda: len(said(engine, Heartbeat)) >= 3)
            assert "a" in engine.model.live
            go_on.set()
            await engine.until(lambda: engine.model.outcomes)
            worker.drain()


async def test_a_cancel_reaches_handlers_of_every_kind() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)
        reached: list[str] = []

        @worker.handler("plain")
        def plain(job: JobContext) -> None:
            job.log("in")
            if job.cancelled.wait(10):
                reached.append("plain")
            job.check()

        @worker.handler("trio")
        async def on_trio(job: JobContext) -> None:
            job.log("in")
            try:
                await trio.sleep_forever()
            finally:
                reached.append("trio")

        @worker.handler("asyncio", loop="asyncio")
        async def on_asyncio(job: JobContext) -> None:
            job.log("in")
            try:
                await asyncio.sleep(10)
            finally:
                reached.append("asyncio")

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            names = ("plain", "trio", "asyncio")
            await engine.grant(*(lease(name, name) for name in names))
            await engine.until(lambda: {m.lease_id for m in said(engine, Log)} == set(names))
            for name in names:
                await engine.send(cancel(name))
            await engine.until(lambda: len(engine.model.outcomes) == 3)
        assert sorted(reached) == sorted(names)
        assert {outcome(engine, name).reason for name in names} == {"cancelled"}  # type: ignore[attr-defined]


async def test_a_timeout_fails_the_attempt() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)

        @worker.handler("noop", timeout=0.05)
        async def slow(job: JobContext) -> None:
            await trio.sleep_forever()

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            await engine.until(lambda: engine.model.outcomes)
        failed = outcome(engine, "a")
        assert isinstance(failed, Fail)
        assert failed.error.class_ == "TimedOut"


async def test_a_stalled_handler_has_its_stack_logged() -> None:
    async with scripted_engine() as engine:
        worker = make(engine, stall_s=0.05)
        go_on = threading.Event()

        @worker.handler("noop")
        def stuck_here(job: JobContext) -> None:
            go_on.wait(10)

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            await engine.until(lambda: said(engine, Log))
            go_on.set()
        assert "stuck_here" in said(engine, Log)[0].lines[0].text


async def test_a_refused_token_ends_the_worker() -> None:
    async with scripted_engine() as engine:
        engine.reject_with = 401
        worker = make(engine)
        worker.handler("noop")(lambda job: None)
        with trio.fail_after(10), pytest.raises(WorkerRejectedError) as refused:
            await worker.run_async()
        assert refused.value.http_status == 401


async def test_a_drain_ends_when_the_engine_goes_away_with_nothing_left_to_report() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)
        worker.handler("noop")(lambda job: None)
        engine.hold_acks = True
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run_async)
                await engine.until(lambda: engine.model.credit)
                worker.drain()
                await engine.until(lambda: said(engine, Drain))
                engine.drop()


async def test_cancelling_the_worker_releases_its_leases() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)

        @worker.handler("noop")
        async def forever(job: JobContext) -> None:
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run_async)
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            nursery.cancel_scope.cancel()
        released = outcome(engine, "a")
        assert isinstance(released, Release)
        assert released.reason == "drain"


async def test_a_worker_runs_within_asyncio() -> None:
    async with scripted_engine() as engine:
        worker = make(engine)
        loops: list[str] = []

        @worker.handler("asyncio", loop="asyncio")
        async def on_asyncio(job: JobContext) -> None:
            loops.append(threading.current_thread().name)

        @worker.handler("trio")
        async def on_trio(job: JobContext) -> None:
            await trio.lowlevel.checkpoint()

        def main() -> None:
            threading.current_thread().name = "host"
            asyncio.run(worker.run_asyncio())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, main)
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a", "asyncio"), lease("b", "trio"))
            await engine.until(lambda: len(engine.model.outcomes) == 2)
            worker.drain()
        assert loops == ["host"]


@pytest.mark.parametrize("room", ["asyncio", "trio", "host"])
async def test_an_exit_in_a_loop_releases_every_lease_at_once_and_ends_the_worker(
    room: str,
) -> None:
    """An asyncio loop and a Trio loop in threads of their own, and the asyncio loop of the host."""
    async with scripted_engine() as engine:
        worker = make(engine)
        go_on = threading.Event()
        loop: Any = "trio" if room == "trio" else "asyncio"

        @worker.handler("waits", loop=loop)
        async def waits(job: JobContext) -> None:
            job.log("in")
            if room == "trio":
                await trio.sleep_forever()
            # The end of an asyncio loop waits for such threads.
            await asyncio.to_thread(go_on.wait, 10)

        @worker.handler("leaves", loop=loop)
        async def leaves(job: JobContext) -> None:
            sys.exit(3)

        ended_by: list[BaseException] = []

        def main() -> None:
            try:
                if room == "asyncio":
                    worker.run()
                else:
                    asyncio.run(worker.run_asyncio())
            except BaseException as error:  # noqa: BLE001 - looked at below
                ended_by.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, main)
            try:
                await engine.until(lambda: engine.model.credit)
                await engine.grant(lease("a", "waits"))
                await engine.until(lambda: said(engine, Log))
                await engine.grant(lease("b", "leaves"))
                await engine.until(lambda: len(engine.model.outcomes) == 2)
            finally:
                go_on.set()
                worker.release()
        assert [outcome(engine, name).reason for name in "ab"] == ["drain"] * 2  # type: ignore[attr-defined]
        [error] = ended_by
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        assert isinstance(error, SystemExit)
        assert error.code == 3


PROGRAM = """
import sys
from jobengine.sdk import Worker
worker = Worker(sys.argv[1], capacity=1, drain_timeout_s=20, grace_s=0.1)

@worker.handler("noop")
def wait(job):
    print("started", flush=True)
    job.cancelled.wait(20)

worker.run()
print("ended", flush=True)
"""


@pytest.mark.parametrize("signals", [1, 2])
async def test_signals_drain_and_the_second_releases(signals: int) -> None:
    async with scripted_engine() as engine:
        process = subprocess.Popen(  # noqa: ASYNC220 - only started here, waited for in threads
            [sys.executable, "-c", PROGRAM, engine.url],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert process.stdout is not None
        try:
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a"))
            await trio.to_thread.run_sync(process.stdout.readline)
            process.send_signal(signal.SIGTERM)
            await engine.until(lambda: said(engine, Drain))
            if signals == 2:
                process.send_signal(signal.SIGINT)
            else:
                await engine.send(cancel("a"))
            await engine.until(lambda: engine.model.outcomes)
            with trio.fail_after(10):
                assert await trio.to_thread.run_sync(process.stdout.read) == "ended\n"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        ended = outcome(engine, "a")
        assert isinstance(ended, Release if signals == 2 else Complete)


async def test_waiting_handlers_run_side_by_side_up_to_the_capacity() -> None:
    async with scripted_engine() as engine:
        worker = make(engine, capacity=4)
        at_work: list[int] = []
        all_in = trio.Event()

        @worker.handler("noop")
        async def meet(job: JobContext) -> None:
            at_work.append(1)
            if len(at_work) == 4:
                all_in.set()
            await all_in.wait()

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(*(lease(f"l{n}") for n in range(8)))
            await engine.until(lambda: len(engine.model.outcomes) == 8)


async def test_many_jobs_pass_without_loss() -> None:
    async with scripted_engine() as engine:
        worker = make(engine, capacity=100)

        @worker.handler("noop")
        async def nothing(job: JobContext) -> None:
            return None

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(*(lease(f"l{n}") for n in range(2000)))
            await engine.until(lambda: len(engine.model.outcomes) == 2000)
