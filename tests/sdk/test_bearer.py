"""The worker's token: read again when it has to be, and a clear end when it cannot be renewed."""

import logging
from pathlib import Path

import pytest
import trio

from jobengine.sdk import JobContext, Worker, WorkerRejectedError
from jobengine.sdk.bearer import Bearer, Standing, TokenUnavailableError, token_source
from jobengine.wire.frames import CLOSE_TOKEN_ENDED
from tests.sdk.model import lease
from tests.sdk.scripted import ScriptedEngine, running, scripted_engine

ENDED = "the token expired at 2026-11-22T00:00:00.000Z"


def worker_of(engine: ScriptedEngine, **settings: object) -> Worker:
    worker = Worker(engine.url, tenant="acme", capacity=1, grace_s=0.2, **settings)  # type: ignore[arg-type]
    worker.handler("noop")(lambda job: None)
    return worker


def shown(engine: ScriptedEngine) -> list[str]:
    return [handshake["authorization"] for handshake in engine.handshakes]


async def end_of(worker: Worker, refused: list[WorkerRejectedError]) -> None:
    """Run a worker that is going to be rejected; puts the rejection into the list."""
    try:
        await worker.run_async()
    except WorkerRejectedError as error:
        refused.append(error)


async def test_a_token_file_is_read_again_when_the_engine_says_that_the_token_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with scripted_engine() as engine:
        worker = worker_of(engine, token_file=file)
        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            file.write_text("second\n")
            await engine.close(CLOSE_TOKEN_ENDED, ENDED)
            await engine.until(lambda: engine.connections == 2 and engine.model.credit)
    assert shown(engine) == ["Bearer first", "Bearer second"]
    assert ENDED in caplog.text


async def test_a_job_goes_on_while_its_worker_waits_for_a_fresh_token() -> None:
    tokens = iter(["old", "old", "new"])
    go_on = trio.Event()
    async with scripted_engine() as engine:
        worker = worker_of(engine, token=lambda: next(tokens, "new"))

        @worker.handler("slow")
        async def slow(job: JobContext) -> str:
            await go_on.wait()
            return "done"

        async with running(worker.run_async, worker.drain):
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a", "slow"))
            engine.reject_bearers.add("Bearer old")
            await engine.close(CLOSE_TOKEN_ENDED, ENDED)
            await engine.until(lambda: engine.connections == 2)
            go_on.set()
            await engine.until(lambda: engine.model.outcomes)
    assert shown(engine) == ["Bearer old", "Bearer old", "Bearer new"]


async def test_a_token_that_cannot_be_renewed_ends_the_worker_and_stops_its_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopped = trio.Event()
    refused: list[WorkerRejectedError] = []
    async with scripted_engine() as engine, trio.open_nursery() as nursery:
        worker = worker_of(engine, token="text")

        @worker.handler("slow")
        async def slow(job: JobContext) -> None:
            try:
                await trio.sleep_forever()
            finally:
                stopped.set()

        with trio.fail_after(10):
            nursery.start_soon(end_of, worker, refused)
            await engine.until(lambda: engine.model.credit)
            await engine.grant(lease("a", "slow"))
            engine.reject_with = 401
            await engine.close(CLOSE_TOKEN_ENDED, ENDED)
            await stopped.wait()
    assert refused[0].http_status == 401
    assert "token_file" in str(refused[0])
    assert ENDED in caplog.text
    assert str(refused[0]) in caplog.text


async def test_patience_with_a_source_that_gives_nothing_new_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused: list[WorkerRejectedError] = []
    async with scripted_engine() as engine:
        worker = worker_of(engine, token=lambda: "old", refused_s_max=0.05, reconnect_max_s=0.01)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_of, worker, refused)
                await engine.until(lambda: engine.model.credit)
                engine.reject_with = 401
                await engine.close(CLOSE_TOKEN_ENDED, ENDED)
    assert "HTTP 401" in str(refused[0])
    tried = [record for record in caplog.records if "tried again" in record.message]
    assert [record.levelno for record in tried] == [logging.WARNING]


async def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with scripted_engine() as engine:
        worker = worker_of(engine, token_file=tmp_path / "absent")
        with trio.fail_after(10), pytest.raises(WorkerRejectedError) as caught:
            await worker.run_async()
        assert str(tmp_path / "absent") in str(caught.value)
        assert caught.value.http_status is None
        assert engine.handshakes == []


def test_what_is_given_goes_before_the_environment_and_a_file_before_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBENGINE_TOKEN_FILE", raising=False)
    monkeypatch.setenv("JOBENGINE_TOKEN", "text\n")
    assert token_source(None, None) == "text"
    monkeypatch.setenv("JOBENGINE_TOKEN_FILE", str(tmp_path))
    assert token_source(None, None) == tmp_path
    assert token_source("mine", None) == "mine"
    assert token_source(None, "other") == Path("other")
    with pytest.raises(ValueError, match="not both"):
        token_source("mine", "other")


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe"])
def test_a_file_without_exactly_one_token_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(TokenUnavailableError, match="does not hold one token"):
        Bearer(tmp_path / "token").read()


def test_a_function_that_fails_or_gives_no_text_is_refused() -> None:
    def broken() -> str:
        raise OSError("vault is sealed")

    with pytest.raises(TokenUnavailableError, match="vault is sealed"):
        Bearer(broken).read()
    with pytest.raises(TokenUnavailableError, match="NoneType"):
        Bearer(lambda: None).read()  # type: ignore[arg-type]
    with pytest.raises(TokenUnavailableError):
        Bearer(lambda: " ").read()
    assert Bearer(lambda: "t\n").read() == "t"


def test_a_worker_gives_up_at_once_where_no_other_answer_is_to_be_had() -> None:
    assert Standing(renewable=True, patience_s=60.0).refused(0.0)
    text = Standing(renewable=False, patience_s=60.0)
    text.accepted()
    assert not text.refused(1.0)
    text.ended()
    assert text.refused(2.0)


def test_patience_begins_with_the_first_refusal_and_anew_after_each_welcome() -> None:
    standing = Standing(renewable=True, patience_s=60.0)
    standing.accepted()
    standing.ended()
    assert [standing.refused(at) for at in (10.0, 69.9, 70.0)] == [False, False, True]
    standing.accepted()
    assert not standing.refused(100.0)
