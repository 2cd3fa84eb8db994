"""Whatever a handler raises or gives has an outcome that can be sent, in every room."""

import asyncio
import queue
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobengine.sdk.asyncio_runner import AsyncioRunner
from jobengine.sdk.context import JobContext
from jobengine.sdk.outcomes import JobError, Snooze
from jobengine.sdk.runners import Runner, ThreadRunner
from jobengine.sdk.session import Posted
from jobengine.wire.frames import decode_worker_frame, encode_frame
from jobengine.wire.worker_messages import Fail, Progress, Release, Throttled, Watermark
from tests.sdk.model import lease


class Mute(Exception):  # noqa: N818 - it says nothing
    def __str__(self) -> str:
        raise SystemExit("no words")


class UnmadeError(JobError):
    def __init__(self) -> None:
        """Sets nothing of what a JobError has."""


class Percent(float):
    """A float of a library of numbers."""


class Count:
    """An integer of a library of numbers."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Flag:
    """A flag of a library of numbers."""

    def __bool__(self) -> bool:
        return False


def in_a_thread(error: Exception) -> Posted:
    def handler(_: JobContext) -> None:
        raise error

    posted: queue.SimpleQueue[Posted] = queue.SimpleQueue()
    runner: Runner = ThreadRunner(1, posted.put)
    runner.start([JobContext(lease("a"), posted.put, handler)])
    outcome = posted.get(timeout=5.0)
    runner.start([JobContext(lease("b"), posted.put, lambda _: None)])
    assert posted.get(timeout=5.0), "the thread lives on"
    runner.close()
    return outcome


def in_asyncio(error: Exception) -> Posted:
    async def handler(_: JobContext) -> None:
        raise error

    async def main() -> Posted:
        posted: asyncio.Queue[Posted] = asyncio.Queue()
        runner = AsyncioRunner(posted.put_nowait)
        runner.attach()
        runner.start([JobContext(lease("a"), posted.put_nowait, handler)])
        return await asyncio.wait_for(posted.get(), 5.0)

    return asyncio.run(main())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("outcome_in", [in_a_thread, in_asyncio])
def test_an_error_that_cannot_be_told_as_it_is_still_ends_its_job(
    outcome_in: Callable[[Exception], Posted],
) -> None:
    named = outcome_in(JobError("x", TimeoutError))
    assert isinstance(named, Fail)
    assert (named.error.class_, named.error.message) == ("TimeoutError", "x")
    later = outcome_in(Snooze(30, ValueError("not yet")))  # type: ignore[arg-type]
    assert isinstance(later, Release)
    assert (later.reason, later.delay_seconds) == ("not yet", 30.0)
    mute = outcome_in(Mute())
    assert isinstance(mute, Fail)
    assert mute.error.class_ == mute.error.message == f"{__name__}.Mute"
    unmade = outcome_in(UnmadeError())
    assert isinstance(unmade, Fail)
    assert unmade.error.class_ == "Unreadable"


def sent(message: Any) -> Any:
    [read] = decode_worker_frame(encode_frame([message]))
    return read


def test_numbers_of_a_library_are_sent_as_what_they_count() -> None:
    posted: list[Posted] = []
    odd: Any = Count(429)
    job = JobContext(lease("a"), posted.append, lambda _: None)
    job.progress(Percent(41.5))
    job.throttled(odd, Percent(2.5))
    error = JobError("x", retryable=Flag(), http_status=odd, retry_after_s=Count(7))  # type: ignore[arg-type]
    posted.append(job.outcome_of_error(error))
    posted.append(job.outcome_of_error(Snooze(Percent(3.5))))
    progress, throttled, failed, released = map(sent, posted)
    assert isinstance(progress, Progress)
    assert progress.percent == 41.5
    assert isinstance(throttled, Throttled)
    assert (throttled.http_status, throttled.retry_after) == (429, 2.5)
    assert isinstance(failed, Fail)
    assert (failed.error.http_status, failed.error.retryable) == (429, False)
    assert failed.retry_after == 7.0
    assert isinstance(released, Release)
    assert released.delay_seconds == 3.5


def test_what_is_no_number_and_no_text_is_refused_where_it_is_given() -> None:
    posted: list[Posted] = []
    job: Any = JobContext(lease("a"), posted.append, lambda _: None)
    with pytest.raises(TypeError):
        job.progress(object())
    with pytest.raises(ValueError, match="could not convert"):
        job.progress("half")
    with pytest.raises(TypeError):
        job.throttled(object())
    with pytest.raises(ValueError, match="surrogates"):
        job.throttled(429, source_id="\ud800")
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        job.log("text", "warn")
    with pytest.raises(TypeError):
        JobError("x", http_status=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Snooze(object())  # type: ignore[arg-type]
    assert posted == []


def test_a_watermark_may_be_given_as_what_its_text_says() -> None:
    posted: list[Posted] = []
    job: Any = JobContext(lease("a"), posted.append, lambda _: None)
    day = datetime(2026, 11, 21, tzinfo=UTC)
    job.watermark("osv", 17, day, day + timedelta(days=1))
    read = sent(posted[0])
    assert isinstance(read, Watermark)
    assert (read.source_id, read.position) == ("osv", "17")
