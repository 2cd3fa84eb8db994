"""An engine in memory with its doors, on a thread of its own, for callers that are not Trio's."""

import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import trio

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
from jobengine.domain.change import ArtifactRow
from jobengine.domain.event import events_of
from jobengine.domain.instant import SECOND
from jobengine.domain.job import State
from jobengine.engine import Engine, open_engine
from jobengine.http.doors import Endpoint, open_doors
from jobengine.http.route import BASE
from jobengine.messages.session import Grant
from jobengine.messages.worker_reports import ArtifactNamed, Progressed
from jobengine.settings import Settings
from jobengine.store.memory import MemoryStore
from tests.http.worker import Worker

T = TypeVar("T")

SIGNED = {"X-Stella-Operator-Reason": "a test", "X-Stella-Operator-Ticket": "T-1"}


class Host:
    """`start` and `stop` may be repeated: store, key and port stay the same, so a client finds the
    engine as after a restart. Every method blocks, and belongs to threads but Trio's."""

    def __init__(self, key_file: Path) -> None:
        self.key = load_or_create_key(key_file)
        self.store = MemoryStore()
        self._port = 0
        self._thread: threading.Thread | None = None
        self._trio: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None
        self._engine: Engine | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def start(self) -> None:
        up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run, up), daemon=True)
        self._thread.start()
        assert up.wait(60), "the engine did not start"

    def stop(self) -> None:
        assert self._trio is not None
        assert self._stop is not None
        assert self._thread is not None
        self._trio.run_sync_soon(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._engine = None

    def do(self, act: Callable[..., Awaitable[T]], *args: Any, **named: Any) -> T:
        """Runs a coroutine function on the engine's thread."""
        return trio.from_thread.run(partial(act, *args, **named), trio_token=self._trio)

    async def _run(self, up: threading.Event) -> None:
        self._trio, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(open_engine(self.store, Settings(shards=1)))
            http, worker = Endpoint("127.0.0.1", self._port), Endpoint("127.0.0.1", 0)
            doors = await stack.enter_async_context(
                open_doors(engine, self.key, http=http, worker=worker, drain_s=0.0)
            )
            self._port = urlsplit(doors.http_url).port or 0
            self._engine = engine
            up.set()
            await self._stop.wait()


class Node:
    """The engine as one tenant has it: its token, its worker, which takes a job when it is told to.
    Belongs to any thread but Trio's."""

    def __init__(self, host: Host, tenant: str) -> None:
        self.tenant = tenant
        self._host = host
        self._client = httpx.Client(trust_env=False, timeout=60.0)
        self.worker = self.do(self._attached)

    @property
    def url(self) -> str:
        return self._host.url

    def stop(self) -> None:
        self._host.stop()

    def start(self) -> None:
        self._host.start()
        self.worker = self.do(self._attached)

    def close(self) -> None:
        self.do(self.worker.detach)
        self._client.close()

    async def _attached(self) -> Worker:
        worker = Worker(self._host.engine, self.tenant)
        await worker.attach()
        return worker

    def do(self, act: Callable[..., Awaitable[T]], *args: Any, **named: Any) -> T:
        """Runs a coroutine function on the engine's thread."""
        return self._host.do(act, *args, **named)

    def entrance(self, path: str = "", **token: Any) -> str:
        """The address of the console that brings a token along."""
        access = urlencode({"token": self.token(**token), "tenant": self.tenant})
        return f"{self.url}/console{path}#{access}"

    def token(
        self, *, scopes: tuple[str, ...] = tuple(Scope), ttl_s: int = 600, age_s: int = 0
    ) -> str:
        issued_at = (time.time_ns() // 1_000) - age_s * SECOND
        return Tokens(self._host.key).issue(self.tenant, scopes, "tester", ttl_s, issued_at)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """What the API answers, as JSON; anything but success fails."""
        access = {
            "Authorization": f"Bearer {self.token()}",
            "X-Stella-Tenant": self.tenant,
            **SIGNED,
        }
        answer = self._client.request(method, self.url + BASE + path, headers=access, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def submit(self, job_type: str = "scan", **job: Any) -> str:
        """The id of a created job."""
        job_id: str = self.request("POST", "/jobs", json={"jobType": job_type, **job})["jobId"]
        return job_id

    def begin(self, *jobs: dict[str, Any], token: str = "t", **run: Any) -> str:
        """The id of a created run of these nodes."""
        body = {"runToken": token, "jobs": list(jobs), **run}
        run_id: str = self.request("POST", "/runs", json=body)["runId"]
        return run_id

    def take(self) -> Grant:
        """The lease of one job, as soon as there is one."""
        return self.do(self.worker.take)

    def complete(self, grant: Grant, result: bytes = b'{"ok":true}') -> None:
        """Returns when the ledger has it."""
        self.do(self.worker.complete, grant, result)
        self._until_given_back(grant)

    def fail(self, grant: Grant, message: str = "boom", *, retryable: bool = False) -> None:
        """Returns when the ledger has it."""
        self.do(self.worker.fail, grant, message, retryable=retryable)
        self._until_given_back(grant)

    def _until_given_back(self, grant: Grant) -> None:
        async def look() -> None:
            with trio.fail_after(15):
                while True:
                    (job,) = await self._host.store.jobs(self.tenant, [grant.job.job_id])
                    if (job.state, job.attempt) != (State.RUNNING, grant.job.attempt):
                        return

        self.do(look)

    def progress(self, grant: Grant, percent: int, message: str) -> None:
        note = json.dumps({"percent": percent, "message": message}).encode()
        said = Progressed(lease_id=grant.lease_id, token=grant.token, note=note)
        self.do(self.worker.report, said)

    def log(self, grant: Grant, *texts: str) -> None:
        lines = [
            {"at": "2026-11-22T08:00:00.000Z", "level": "info", "text": text} for text in texts
        ]
        self.do(self.worker.log, grant, json.dumps(lines).encode())

    def keep_artifact(self, grant: Grant, name: str, digest: str, uri: str) -> None:
        """Names bytes that the engine has."""
        artifact = ArtifactRow(
            tenant_id=self.tenant,
            job_id=grant.job.job_id,
            attempt=grant.job.attempt,
            name=name,
            uri=uri,
            digest=digest,
            at=1,
        )
        named = ArtifactNamed(lease_id=grant.lease_id, token=grant.token, artifact=artifact)
        self.do(self.worker.report, named)

    def ledger_seqs(self) -> list[int]:
        """The seqs of all of the tenant's entries, in order."""
        blocks = self.do(self._host.store.blocks, self.tenant, 0, 1_000, 1 << 24)
        return [event.seq for block in blocks for event in events_of(block)]
