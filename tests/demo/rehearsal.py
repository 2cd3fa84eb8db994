"""The demo's graph over the real engine, in memory and in the time of the test's clock, with the
demo's own handlers."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import structlog
import trio

from jobengine.actors.run_reading import read_nodes
from jobengine.demo.fetch import UpstreamRefusedError
from jobengine.demo.pipeline import Handler
from jobengine.demo.plan import Plan, run_request
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.job import Job
from jobengine.domain.redaction import Redactor
from jobengine.domain.run_nodes import NodeJob
from jobengine.engine import Engine
from jobengine.messages.session import Grant
from jobengine.messages.worker_reports import Completed, Failed, Reports
from jobengine.store.memory import MemoryStore
from jobengine.wire.runs import RunRequest
from jobengine.wire.translate_runs import node_jobs
from tests.actors.bare_worker import TENANT, BareWorker
from tests.actors.run_harness import create, ended
from tests.actors.test_recovery import audited, engine_over

URL = "http://upstream"


class NeverCancelled:
    """Nobody asks this handler to stop."""

    def wait(self, timeout_s: float) -> bool:
        assert timeout_s >= 0
        return False


class Attempt:
    """One attempt of a job, as its handler sees it."""

    def __init__(self, job_id: str, attempt: int, payload: Any) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.payload = payload
        self.cancelled = NeverCancelled()
        self.artifacts: list[str] = []

    def check(self) -> None:
        return

    def progress(self, percent: float, message: str) -> None:
        assert 0 <= percent <= 100, message

    def artifact(self, path: Path, *, mime: str) -> str:
        self.artifacts.append(mime)
        return str(path)


@attrs.frozen
class Rehearsed:
    """A run that has ended: its jobs by key, the keys in the order of their ends at the worker, the
    artifacts in the order in which they were stored."""

    state: str
    jobs: Mapping[str, Job]
    done: list[str]
    artifacts: list[str]

    def payload(self, key: str) -> Any:
        return json.loads(self.jobs[key].payload)

    def result(self, key: str) -> Any:
        return json.loads(self.jobs[key].result or b"null")


def asked_nodes(plan: Plan) -> tuple[RunRequest, list[NodeJob]]:
    """The run as a door reads it."""
    request = msgspec.json.decode(msgspec.json.encode(run_request(plan, URL)), type=RunRequest)
    nodes = node_jobs(request.jobs, request.edges, templates=False, redactor=Redactor())
    assert not isinstance(nodes, Refusal), nodes
    return request, nodes


async def rehearse(
    plan: Plan,
    handlers: Mapping[str, Handler],
    is_lost: Callable[[Job], bool] = lambda job: False,
) -> Rehearsed:
    """Run it to its end. An attempt that `is_lost` is worked on, and its outcome never told."""
    store = MemoryStore()
    done, artifacts = list[str](), list[str]()

    def told(job: Job) -> Completed | Failed | None:
        attempt = Attempt(job.job_id, job.attempt, json.loads(job.payload))
        named: dict[str, Any] = {"ref": "", "lease_id": "", "token": 0}
        try:
            result = handlers[job.definition.job_type](attempt)
        except UpstreamRefusedError as refused:
            failure = Failure(class_="http_429", message=str(refused), retryable=True)
            return Failed(error=failure, **named)
        if is_lost(job):
            return None
        done.append(job.definition.node_key or "")
        artifacts.extend(attempt.artifacts)
        return Completed(result=canonical_of(result), **named)

    request, nodes = asked_nodes(plan)
    with _quiet():
        async with engine_over(store) as engine, trio.open_nursery() as nursery:
            nursery.start_soon(_work, engine, tuple(handlers), told)
            inputs = json.loads(bytes(request.inputs))
            run_id = await create(engine, nodes, request.run_token, inputs=inputs)
            state = await ended(store, run_id)
            ids = [each.job_id for each in await read_nodes(store, TENANT, run_id)]
            nursery.cancel_scope.cancel()
        await audited(store)
    jobs = {job.definition.node_key or "": job for job in await store.jobs(TENANT, ids)}
    return Rehearsed(state, jobs, done, artifacts)


async def _work(
    engine: Engine, job_types: tuple[str, ...], told: Callable[[Job], Completed | Failed | None]
) -> None:
    worker = BareWorker(engine, "rehearsal")
    await worker.attach(capacity=100, auto_credit=True, job_types=job_types)
    while True:
        await worker.wait_for(bool, within_s=float("inf"))
        grants: list[Grant] = worker.granted()
        worker.heard = []
        for grant in grants:
            report = told(grant.job)
            if report is not None:
                report = msgspec.structs.replace(
                    report, ref=grant.lease_id, lease_id=grant.lease_id, token=grant.token
                )
                await worker._shard.tell(Reports(session_id=worker.session_id, reports=[report]))


@contextmanager
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield
