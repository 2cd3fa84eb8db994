"""Runs over the real actors: nodes as a door gives them, and a crew that does their jobs."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from jobengine.actors.run_reading import read_nodes
from jobengine.domain.canonical import canonical, canonical_of, digest
from jobengine.domain.dag_document import DAG, DagDocument, encode_dag
from jobengine.domain.errors import Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.job import Definition, Job, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import ENDED, RunState
from jobengine.domain.run_nodes import (
    MapSpec,
    NodeJob,
    PolicySpec,
    SubRunSpec,
    prepare_nodes,
    workerless,
)
from jobengine.domain.run_plan import plan_run
from jobengine.domain.run_record import RunRecord
from jobengine.engine import Engine
from jobengine.messages.lease_shard import Actor
from jobengine.messages.runs import RegisterDocument, RunPlan
from jobengine.messages.session import Grant, ShardRestarted
from jobengine.messages.worker_reports import Completed, Failed, Reports
from tests.actors.bare_worker import TENANT, BareWorker

OPS = Actor("ops", "because", "T-1")
WITHIN_S = 3600.0


def job(key: str, after: str = "", payload: Any = None, **node: Any) -> NodeJob:
    """A node for a worker; ``after`` are the keys it depends on."""
    definition = Definition(
        job_type="scan", queue="scan", payload_digest="", max_retries=9, lease_us=10_000_000
    )
    return _node(key, after, definition, {} if payload is None else payload, **node)


def gate(kind: NodeKind, key: str, after: str = "", payload: Any = None, **node: Any) -> NodeJob:
    """A node that no worker takes; ``payload`` is its spec, if it has one."""
    value = {} if payload is None else payload
    return _node(key, after, workerless(kind), value, kind=kind, **node)


def fan_out(key: str, over: str, payload: Any, after: str = "", **node: Any) -> NodeJob:
    definition = job("any").definition
    spec = MapSpec(definition=definition, over=over, payload=msgspec.Raw(canonical_of(payload)))
    return gate(NodeKind.MAP, key, after, spec, **node)


def policy(key: str, require: str, after: str = "", **node: Any) -> NodeJob:
    return gate(NodeKind.POLICY, key, after, PolicySpec(require=require), **node)


def sub_run(key: str, dag_id: str, inputs: Any, after: str = "") -> NodeJob:
    spec = SubRunSpec(dag_id=dag_id, inputs=msgspec.Raw(canonical_of(inputs)))
    return gate(NodeKind.SUB_RUN, key, after, spec)


async def register(
    engine: Engine, dag_id: str, nodes: Sequence[NodeJob], inputs: bytes = b"{}"
) -> None:
    """Register the first version of a DAG template; ``inputs`` is its schema."""
    body = encode_dag(DagDocument(inputs=msgspec.Raw(inputs), jobs=tuple(nodes)))
    await engine.gateway.runs.document(
        TENANT,
        lambda ask_id: RegisterDocument(
            ask_id=ask_id,
            tenant_id=TENANT,
            actor=OPS,
            kind=DAG,
            name=dag_id,
            version=1,
            digest=digest(body),
            body=body,
        ),
    )


def _node(key: str, after: str, definition: Definition, payload: Any, **node: Any) -> NodeJob:
    raw = canonical(msgspec.json.encode(payload))
    depends_on = tuple(after.split())
    return NodeJob(
        definition=definition,
        node=Node(key=key, depends_on=depends_on, **node),
        payload=msgspec.Raw(raw),
    )


def planned(engine: Engine, nodes: Sequence[NodeJob], token: str, **record: Any) -> RunPlan:
    """The plan of a run as a door would hand it in."""
    inputs = canonical_of(record.pop("inputs", {}))
    whole = plan_run(
        RunRecord(
            tenant_id=TENANT,
            run_id=engine.gateway.new_id(),
            run_token=token,
            state=RunState.PENDING,
            nodes=0,
            created_at=engine.clock.moment().at,
            created_by=OPS.subject,
            inputs=inputs,
            **record,
        ),
        nodes,
    )
    assert not isinstance(whole, Refusal), whole
    return RunPlan(record=whole.record, nodes=whole.nodes, jobs=whole.jobs, graph=whole.graph)


async def create(
    engine: Engine, nodes: Sequence[NodeJob], token: str = "token", **record: Any
) -> str:
    """Create a run; its id."""
    created = await engine.gateway.runs.create(planned(engine, nodes, token, **record), OPS)
    assert created.run is not None
    return created.run.run_id


def prepared(nodes: Sequence[NodeJob]) -> Sequence[NodeJob]:
    ready = prepare_nodes(nodes)
    assert not isinstance(ready, Refusal), ready
    return ready


# ---- looking: past the faults of a store that fails now and then


def _watched(store: Any) -> Any:
    return getattr(store, "inner", store)


async def until(holds: Callable[[], Any]) -> None:
    """Waits in the time of the clock, whichever it is."""
    with trio.fail_after(WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - the store is watched
            await trio.sleep(0.05)


async def ended(store: Any, run_id: str) -> RunState:
    """How the run ends, once it has."""

    async def has_ended() -> bool:
        record = await _watched(store).run(TENANT, run_id)
        return record is not None and record.state in ENDED

    await until(has_ended)
    return RunState((await _watched(store).run(TENANT, run_id)).state)


async def states(store: Any, run_id: str) -> dict[str, str]:
    """Of every node's job; with the reason where it was cancelled."""
    found = {}
    for each in await read_nodes(_watched(store), TENANT, run_id):
        said = str(each.state)
        if each.state is State.CANCELLED:
            said = str(each.reason)
        elif each.state is State.FAILED:
            said = f"failed: {each.error_class}"
        found[each.node_key] = said
    return found


async def is_open(store: Any, run_id: str, key: str) -> None:
    """Returns once the node may go on."""

    async def opened() -> bool:
        for each in await read_nodes(_watched(store), TENANT, run_id):
            if each.node_key == key:
                return each.scheduled_at is not None
        return False

    await until(opened)


async def job_at(store: Any, run_id: str, key: str) -> Job:
    [job_id] = [
        each.job_id
        for each in await read_nodes(_watched(store), TENANT, run_id)
        if each.node_key == key
    ]
    [found] = await _watched(store).jobs(TENANT, [job_id])
    one: Job = found
    return one


# ---- working

Handler = Callable[[Job], Any]


class JobFailureError(Exception):
    """A handler raises it to fail its job."""


@attrs.define
class Crew:
    """A worker that does every job by ``handle``; ``done`` counts keys in the order of the grants.

    While ``paused`` it takes leases and reports nothing. It does not wait for acknowledgements: a
    report that is lost with its shard is made again when the lease has expired.
    """

    engine: Engine
    handle: Handler
    paused: bool = False
    done: list[str] = attrs.field(factory=list)

    async def work(self) -> None:
        worker = BareWorker(self.engine, "crew")
        await self._attach(worker)
        while True:
            await worker.wait_for(bool, within_s=float("inf"))
            news, worker.heard = worker.heard, []
            for message in news:
                if isinstance(message, ShardRestarted):
                    await self._attach(worker)
                for grant in getattr(message, "leases", ()):
                    await self._do(worker, grant)

    async def _attach(self, worker: BareWorker) -> None:
        """Once more where the shard fails meanwhile."""
        attached = False
        while not attached:
            with trio.move_on_after(5):
                await worker.attach(capacity=100, auto_credit=True)
                attached = True

    async def _do(self, worker: BareWorker, grant: Grant) -> None:
        if self.paused:
            return
        self.done.append(grant.job.definition.node_key or "")
        named: dict[str, Any] = {
            "ref": f"r-{grant.lease_id}", "lease_id": grant.lease_id, "token": grant.token
        }  # fmt: skip
        report: Completed | Failed
        try:
            report = Completed(result=canonical_of(self.handle(grant.job)), **named)
        except JobFailureError as error:
            failure = Failure(class_="Boom", message=str(error), retryable=False)
            report = Failed(error=failure, **named)
        await worker._shard.tell(Reports(session_id=worker.session_id, reports=[report]))


@asynccontextmanager
async def crew(engine: Engine, handle: Handler = lambda job: None) -> AsyncIterator[Crew]:
    """A crew at work."""
    hands = Crew(engine, handle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hands.work)
        yield hands
        nursery.cancel_scope.cancel()


def payload_of(done: Job) -> Any:
    return msgspec.json.decode(done.payload)
