"""Workers of a tenant as they are attached now, by worker id; and how one is drained."""

from typing import Final

import msgspec

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.http import pages
from jobengine.http.answer import Answer
from jobengine.http.rendering import json_answer, page_answer
from jobengine.http.route import Call, NoQuery, Paging, Route
from jobengine.http.route_shapes import MISSING, REPEATED, reading
from jobengine.messages.lease_shard import DrainWorker, ListWorkers, WorkerFacts
from jobengine.wire.jobs import Page
from jobengine.wire.operating import DrainRequest, WorkerView

__all__ = ["ROUTES"]

_facts: Final = msgspec.json.Decoder(WorkerFacts)


async def list_workers(call: Call[Paging, None]) -> Answer:
    size = call.query.page_size
    after = pages.after(call, str) or ""
    answer = await call.front.gateway.workers(
        call.tenant_id,
        lambda ask_id: ListWorkers(
            ask_id=ask_id, tenant_id=call.tenant_id, after=after, workers_max=size + 1
        ),
    )
    kept, cursor = pages.cut(answer.workers, size, lambda worker: worker.worker_id)
    return page_answer([_view(worker) for worker in kept], pages.token(call, cursor))


async def show_worker(call: Call[NoQuery, None]) -> Answer:
    answer = await call.front.gateway.workers(
        call.tenant_id,
        lambda ask_id: ListWorkers(
            ask_id=ask_id, tenant_id=call.tenant_id, worker_id=call.path["workerId"]
        ),
    )
    if not answer.workers:
        message = "no such worker is attached here"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "workerId"}))
    return json_answer(_view(answer.workers[0]))


async def drain_worker(call: Call[NoQuery, DrainRequest]) -> Answer:
    gateway = call.front.gateway
    deadline_at = gateway.clock.moment().at + call.body.within_seconds * SECOND
    answer = await gateway.administer(
        call.tenant_id,
        lambda ask_id: DrainWorker(
            ask_id=ask_id,
            tenant_id=call.tenant_id,
            actor=call.actor,
            worker_id=call.path["workerId"],
            deadline_at=deadline_at,
            claim=call.claim,
        ),
    )
    assert answer.stored is not None
    return json_answer(_view(_facts.decode(answer.stored)), replayed=answer.replayed)


def _view(worker: WorkerFacts) -> WorkerView:
    return WorkerView(
        worker_id=worker.worker_id,
        task_runner_id=worker.task_runner_id,
        queues=list(worker.queues),
        job_types=list(worker.job_types),
        capacity=worker.capacity,
        leases=worker.leases,
        credit=worker.slots,
        draining=worker.draining,
        sessions=worker.sessions,
        connected_at=to_rfc3339(worker.connected_at),
        last_heartbeat_at=to_rfc3339(worker.heard_at),
    )


ROUTES: Final = (
    reading(
        "/workers",
        "listWorkers",
        "List the workers that are attached, by id",
        list_workers,
        Page[WorkerView],
        query=Paging,
    ),
    reading(
        "/workers/{workerId}",
        "getWorker",
        "Show one attached worker",
        show_worker,
        WorkerView,
        errors=MISSING,
    ),
    Route(
        method="POST",
        path="/workers/{workerId}:drain",
        name="drainWorker",
        summary="Grant a worker no more leases, and ask it to finish or release what it holds",
        handler=drain_worker,
        scopes=(Scope.OPERATE,),
        body=DrainRequest,
        body_optional=True,
        answers={200: WorkerView},
        errors=(*MISSING, *REPEATED),
    ),
)
