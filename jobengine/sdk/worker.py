"""`Worker`: handlers by job type, and the threads that they and the network run in.

The network runs in a thread of its own (`transport.Link`), so a handler that blocks its loop or
holds its thread never costs a lease. Handlers run on the Trio loop of `run` and `run_async`, on
the asyncio loop of `run_asyncio`, or else in threads made for them.

Deliberately not here: the protocol (`session`) and how handlers are run (`runners`).
"""

import asyncio
import inspect
import os
import random
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, TypeVar

import attrs
import trio

from jobengine.sdk.addresses import api_url_of, worker_url
from jobengine.sdk.asyncio_runner import AsyncioRunner
from jobengine.sdk.bearer import Bearer, token_source
from jobengine.sdk.commands import SessionConfig
from jobengine.sdk.context import JobContext
from jobengine.sdk.crew import Crew, Handler, Room
from jobengine.sdk.loop_thread import in_thread
from jobengine.sdk.rest_door import RestDoor
from jobengine.sdk.runners import Runner, ThreadRunner
from jobengine.sdk.session import WorkerSession
from jobengine.sdk.transport import Link
from jobengine.sdk.trio_runner import TrioRunner
from jobengine.sdk.trust import trusted

F = TypeVar("F", bound=Callable[[JobContext], Any])
SDK_NAME: Final = "jobengine-python/1"
DEFAULT_URL: Final = "ws://127.0.0.1:7071"


class NoHandlersError(RuntimeError):
    """A worker was to run that has nothing to run."""


class Worker:
    """Takes leases from an engine and runs handlers for them; each worker runs once.

    `url`, `token` and `tenant` default to JOBENGINE_WORKER_URL, JOBENGINE_TOKEN and
    JOBENGINE_TENANT; a URL without a path gets `/worker`. A token that is renewed comes from
    `token_file` (default JOBENGINE_TOKEN_FILE) or from a function as `token`: it is read at every
    connection, in a thread, and when the engine closes a session since its token has ended.
    `refused_s_max` is how long a worker that was let in before bears that its token is refused or
    not to be had. `capacity` bounds the handlers at work.
    `queues` narrows the leases further. `stall_s` None switches stall detection off. `tls` is for
    wss:// URLs: whom to trust, and the certificate to show; without it, the authorities in the file
    that JOBENGINE_CA_FILE names, else those of the system. `api_url` (default JOBENGINE_URL, else
    the same host at port 7070) is where handlers store bytes and grow runs.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | Callable[[], str] | None = None,
        tenant: str | None = None,
        *,
        token_file: str | Path | None = None,
        capacity: int = 10,
        queues: Sequence[str] = (),
        worker_id: str | None = None,
        task_runner_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        drain_timeout_s: float = 30.0,
        grace_s: float = 5.0,
        stall_s: float | None = 60.0,
        reconnect_max_s: float = 15.0,
        refused_s_max: float = 60.0,
        tls: ssl.SSLContext | None = None,
        api_url: str | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError("capacity is at least 1")
        name = worker_id or f"{socket.gethostname()}-{os.getpid()}-{random.randrange(1 << 32):08x}"
        self._url = worker_url(url or os.environ.get("JOBENGINE_WORKER_URL") or DEFAULT_URL)
        self._bearer = Bearer(token_source(token, token_file))
        self._tenant = tenant or os.environ.get("JOBENGINE_TENANT")
        self._tls = tls or trusted()
        rest = api_url or os.environ.get("JOBENGINE_URL") or api_url_of(self._url)
        self._door = RestDoor(rest, self._bearer.read, self._tenant, self._tls)
        self._handlers: dict[str, Handler] = {}
        self._link: Link | None = None
        self._asked: list[Literal["drain", "release"]] = []
        self._config = SessionConfig(
            worker_id=name,
            capacity=capacity,
            job_types=(),
            queues=tuple(queues),
            task_runner_id=task_runner_id,
            labels=dict(labels or {}),
            sdk=SDK_NAME,
            drain_timeout_s=drain_timeout_s,
            grace_s=grace_s,
            stall_s=stall_s,
            reconnect_max_s=reconnect_max_s,
            refused_s_max=refused_s_max,
        )

    @property
    def worker_id(self) -> str:
        return self._config.worker_id

    def handler(
        self,
        job_type: str,
        *,
        timeout: float | None = None,
        loop: Literal["trio", "asyncio"] = "trio",
    ) -> Callable[[F], F]:
        """Register a handler; `timeout` in seconds, the lease's own holds when it is shorter.

        A plain function runs in a thread, an async one on `loop`. It receives a JobContext, and
        what it returns (anything msgspec encodes, up to 256 KiB) is the result.
        """

        def register(function: F) -> F:
            if self._link is not None:
                raise RuntimeError("register handlers before the worker runs")
            if job_type in self._handlers:
                raise ValueError(f"{job_type} has a handler already")
            room: Room = loop if _is_async(function) else "thread"
            self._handlers[job_type] = Handler(function, room, timeout)
            return function

        return register

    def run(self) -> None:
        """Serve until drained; raises WorkerRejectedError when the token is refused for good. What
        ends the loop of async handlers, such as `sys.exit`, releases all leases and is raised.

        In the main thread SIGTERM and SIGINT drain: what runs may finish within
        `drain_timeout_s`, the rest is released. A second signal releases at once.
        """
        with self._signals():
            trio.run(self.run_async)

    async def run_async(self) -> None:
        """`run` within Trio, without signals. Cancelling it releases all leases at once."""
        link, runners = self._assemble()
        crew = Crew(self._handlers, runners, link.post, self._door)
        with in_thread(runners.get("asyncio"), link), _closing(runners.get("thread")):
            async with trio.open_nursery() as nursery:
                if (on_trio := runners.get("trio")) is not None:
                    await nursery.start(on_trio.serve)  # type: ignore[attr-defined]
                nursery.start_soon(_release_when_cancelled, link)
                await trio.to_thread.run_sync(trio.run, link.run, crew)
                nursery.cancel_scope.cancel()
        if link.rejected is not None:
            raise link.rejected

    async def run_asyncio(self) -> None:
        """`run` within asyncio, without signals. Cancelling it releases all leases at once."""
        link, runners = self._assemble()
        crew = Crew(self._handlers, runners, link.post, self._door)
        on_asyncio = runners.get("asyncio")
        if isinstance(on_asyncio, AsyncioRunner):
            on_asyncio.attach()
        with in_thread(runners.get("trio"), link), _closing(runners.get("thread")):
            network = asyncio.ensure_future(asyncio.to_thread(trio.run, link.run, crew))
            try:
                await asyncio.shield(network)
            except asyncio.CancelledError:
                link.release_all()
                await network
                raise
            finally:
                if isinstance(on_asyncio, AsyncioRunner):
                    on_asyncio.close()
                    await on_asyncio.serve()
        if link.rejected is not None:
            raise link.rejected

    def drain(self) -> None:
        """Take no more leases, finish or release what is held, then return from `run`.

        From any thread or signal handler; returns at once.
        """
        self._asked.append("drain")
        if self._link is not None:
            self._link.drain()

    def release(self) -> None:
        """Release every lease now, finished or not, then return from `run`; like `drain`."""
        self._asked.append("release")
        if self._link is not None:
            self._link.release_all()

    def _assemble(self) -> tuple[Link, dict[Room, Runner]]:
        if self._link is not None:
            raise RuntimeError("a worker runs once")
        if not self._handlers:
            raise NoHandlersError("a worker needs at least one handler")
        limits = {t: h.timeout_s for t, h in self._handlers.items() if h.timeout_s is not None}
        config = attrs.evolve(
            self._config, job_types=tuple(sorted(self._handlers)), timeouts_s=limits
        )
        headers = [("X-Stella-Tenant", self._tenant)] if self._tenant else []
        session = WorkerSession(config, random.random)
        self._link = link = Link(session, self._url, self._bearer, headers, self._tls)
        for asked in self._asked:
            (link.drain if asked == "drain" else link.release_all)()
        rooms = {handler.room for handler in self._handlers.values()}
        runners: dict[Room, Runner] = {}
        if "thread" in rooms:
            runners["thread"] = ThreadRunner(config.capacity, link.post)
        if "trio" in rooms:
            runners["trio"] = TrioRunner(config.capacity, link.post)
        if "asyncio" in rooms:
            runners["asyncio"] = AsyncioRunner(link.post)
        return link, runners

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            for number in before:
                signal.signal(number, self._on_signal)
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            self.release()
        else:
            self.drain()


def _is_async(function: Callable[[JobContext], Any]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _release_when_cancelled(link: Link) -> None:
    try:
        await trio.sleep_forever()
    finally:
        link.release_all()


@contextmanager
def _closing(runner: Runner | None) -> Iterator[None]:
    try:
        yield
    finally:
        if runner is not None:
            runner.close()
