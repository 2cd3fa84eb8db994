"""Users of the engine: a producer that insists until it is acked, workers, what they witnessed."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import trio

from jobengine.sdk import ApiError, Client, job_request
from tests.end_to_end.processes import STOP_S, Running, RunningEngine, Stage

__all__ = ["Producer", "Span", "Workers", "stopped", "unready"]

_TARGET: Final = "tests.chaos.tasks:worker"
_LATER: Final = (429, 503)
_AGAIN_S: Final = 0.05


@attrs.define(eq=False)
class Producer:
    """Submits batches under keys of its own, each again until it is acked.

    `accepted` has the ids that were answered, by batch; `refusals` what 503 answers said.
    """

    url: str
    engine: RunningEngine
    name: str = "chaos"
    batch: int = 5
    every_s: float = 0.05
    fields: Mapping[str, Any] = attrs.field(factory=lambda: {"lease_seconds": 1, "max_retries": 50})
    seconds: float = 0.02
    filler: str = ""
    accepted: dict[int, tuple[str, ...]] = attrs.field(factory=dict)
    acked_at: list[float] = attrs.field(factory=list)
    refusals: list[str] = attrs.field(factory=list)
    stopping: bool = False

    @property
    def job_ids(self) -> set[str]:
        return {job_id for ids in self.accepted.values() for job_id in ids}

    async def run(self) -> None:
        """Until `stopping`, and then until the last batch is acked."""
        with self._client() as client:
            while not self.stopping:
                await self._submit(client)
                await trio.sleep(self.every_s)

    async def submit(self) -> None:
        """One batch, until it is acked."""
        with self._client() as client:
            await self._submit(client)

    def _client(self) -> Client:
        engine = self.engine
        return Client(
            self.url, token=engine.token, tenant=engine.tenant, retries_max=0, timeout_s=15
        )

    async def _submit(self, client: Client) -> None:
        number = len(self.accepted)
        payload = {"seconds": self.seconds, "filler": self.filler}
        jobs = [
            job_request(
                "chaos",
                {"number": number * self.batch + each, **payload},
                backoff={"kind": "fixed", "baseSeconds": 0},
                **self.fields,
            )
            for each in range(self.batch)
        ]
        send = partial(client.submit_many, jobs, idempotency_key=f"{self.name}-{number}")
        while number not in self.accepted:
            try:
                answer = await trio.to_thread.run_sync(send)
                self.accepted[number] = tuple(str(item.job_id) for item in answer.items)
                self.acked_at.append(time.monotonic())
            except httpx.TransportError:
                await trio.sleep(_AGAIN_S)
            except ApiError as error:
                if error.http_status in _LATER:
                    self.refusals.append(error.message)
                elif error.code != "IDEMPOTENCY_IN_PROGRESS":
                    raise
                await trio.sleep(_AGAIN_S)


@attrs.frozen
class Span:
    """One run of a handler, in monotonic seconds of this machine."""

    job_id: str
    attempt: int
    pid: int
    began_at: float
    ended_at: float
    finished: bool


@attrs.define(eq=False)
class Workers:
    """Worker processes at a door, and the file in which they witness what they run."""

    stage: Stage
    engine: RunningEngine
    url: str
    running: list[Running] = attrs.field(factory=list)
    killed_at: dict[int, float] = attrs.field(factory=dict)

    @property
    def witnesses(self) -> Path:
        return self.stage.directory / "witnesses"

    def add(self) -> None:
        self.witnesses.touch()
        environ = {
            **self.engine.environ,
            "JOBENGINE_WORKER_URL": self.url,
            "CHAOS_WITNESSES": str(self.witnesses),
        }
        self.running.append(self.stage.start("worker", "run", _TARGET, environ=environ))

    def kill(self, place: int) -> None:
        """SIGKILL, and another one instead."""
        victim = self.running.pop(place)
        victim.kill()
        self.killed_at[victim.popen.pid] = time.monotonic()
        self.add()

    def end(self) -> None:
        """In order, all of them at once."""
        for each in self.running:
            each.popen.terminate()
        for each in self.running:
            each.popen.wait(STOP_S)

    def began(self) -> int:
        """How many handlers have begun so far."""
        return self.witnesses.read_text().count("began ")

    def have_begun(self, count: int) -> bool:
        return self.began() >= count

    def spans(self) -> list[Span]:
        """Every run of a handler; one that was killed ended when its process did."""
        said = [line.split() for line in self.witnesses.read_text().splitlines()]
        ended = {tuple(rest[:3]): float(rest[3]) for what, *rest in said if what == "ended"}
        return [
            Span(
                job_id,
                int(attempt),
                int(pid),
                float(at),
                ended.get((job_id, attempt, pid)) or self.killed_at.get(int(pid), float("inf")),
                (job_id, attempt, pid) in ended,
            )
            for what, job_id, attempt, pid, at in said
            if what == "began"
        ]


@contextmanager
def stopped(process: Running) -> Iterator[None]:
    """The process does not run during the block (SIGSTOP); its handlers do not either."""
    process.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.popen.send_signal(signal.SIGCONT)


def unready(engine: RunningEngine) -> str:
    """What keeps an engine from being ready, as it tells probes; empty when nothing does."""
    answer = httpx.get(f"{engine.http}/readyz", timeout=10)
    assert answer.status_code in (200, 503)
    return "" if answer.status_code == 200 else str(answer.json()["error"]["message"])
