"""Explain: why a job, or those of a queue, do not start; answered by what would start them."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import State
from jobengine.http.answer import Answer
from jobengine.http.rendering import json_answer
from jobengine.http.route import Call, NoQuery
from jobengine.http.route_shapes import MISSING, reading
from jobengine.http.routes.jobs import job_id_in, no_job
from jobengine.http.routes.pauses import queue_in
from jobengine.messages.admission import Explanation, GateClosed
from jobengine.store.port import JobFilter
from jobengine.wire.explanations import ClosedGates, GateView, JobExplanation, QueueExplanation

__all__ = ["ROUTES", "CountQuery"]

_WAITING: Final = frozenset({State.SCHEDULED})


class CountQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How many jobs."""

    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20


async def explain_job(call: Call[NoQuery, None]) -> Answer:
    job_id = job_id_in(call)
    found = await call.front.gateway.explain(call.tenant_id, [job_id])
    if not found:
        raise no_job(job_id)
    return json_answer(_view(found[0]))


async def explain_queue(call: Call[CountQuery, None]) -> Answer:
    """Those that the shard holds in memory are the first; a few that it does not hold (due later,
    say) are added when there is room."""
    gateway, queue, count = call.front.gateway, queue_in(call), call.query.count
    found = list(await gateway.explain_queue(call.tenant_id, queue, count))
    if len(found) < count:
        known = {one.job_id for one in found}
        wanted = JobFilter(states=_WAITING, queue=queue)
        page = await gateway.store.job_list(call.tenant_id, wanted, None, count)
        more = [job.job_id for job in page.jobs if job.job_id not in known]
        if more:
            found += await gateway.explain(call.tenant_id, more[: count - len(found)])
    waiting = sorted((one for one in found if one.state == State.SCHEDULED), key=_place)
    return json_answer(
        QueueExplanation(
            queue=queue, items=[_view(one) for one in waiting], closed=_closed(waiting)
        )
    )


def _place(one: Explanation) -> tuple[int, str]:
    return (0 if one.place is None else one.place[1], one.job_id)


def _closed(found: Sequence[Explanation]) -> list[ClosedGates]:
    """By how many jobs a gate keeps, most first."""
    counts = Counter(
        pair for one in found for pair in {(gate.gate, gate.key) for gate in one.gates}
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [ClosedGates(gate=gate, key=key, jobs=jobs) for (gate, key), jobs in ordered]


def _view(one: Explanation) -> JobExplanation:
    start_at = one.estimated_start_at
    return JobExplanation(
        job_id=one.job_id,
        state=one.state,
        gates=[_gate(gate) for gate in one.gates],
        position=one.position,
        estimated_start_at=None if start_at is None else to_rfc3339(start_at),
    )


def _gate(closed: GateClosed) -> GateView:
    return GateView(
        gate=closed.gate,
        key=closed.key,
        observed=closed.observed,
        limit=closed.limit,
        opens_at=None if closed.opens_at is None else to_rfc3339(closed.opens_at),
        opens_on=closed.opens_on,
        message=closed.message,
    )


ROUTES: Final = (
    reading(
        "/jobs/{jobId}/explain",
        "explainJob",
        "Say why a job does not start: every closed gate, and what opens it",
        explain_job,
        JobExplanation,
        errors=MISSING,
    ),
    reading(
        "/queues/{queue}/explain",
        "explainQueue",
        "Say why the first jobs of a queue do not start",
        explain_queue,
        QueueExplanation,
        query=CountQuery,
    ),
)
