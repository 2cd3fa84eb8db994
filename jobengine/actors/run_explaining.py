"""Why jobs of runs do not start yet: what the planner of a run says, as closed gates.

Not here: gates of jobs that are released (``core/lease_shard/explain``).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
import msgspec

from jobengine.domain.errors import Refusal, RefusedError
from jobengine.domain.job import Job, State
from jobengine.domain.node import NodeKind
from jobengine.messages.admission import Explanation, GateClosed
from jobengine.messages.dag_planner import ExplainNode, NodeExplanation, UnmetDependency
from jobengine.store.port import Store

__all__ = ["RunExplainer"]

_OPENS_ON: Final = {
    NodeKind.APPROVAL: "an approval",
    NodeKind.CALLBACK: "a call of its address",
    NodeKind.SUB_RUN: "the end of its sub-run",
}


@attrs.frozen
class RunExplainer:
    """``ask_planner`` asks the planner of a tenant's runs."""

    store: Store
    ask_planner: Callable[[str, Callable[[int], object]], Awaitable[Any]]

    async def explain(self, tenant_id: str, found: Sequence[Explanation]) -> Sequence[Explanation]:
        """With what the jobs of runs among them wait for in their runs."""
        pending = [each.job_id for each in found if each.state == State.PENDING]
        if not pending:
            return found
        jobs = {
            job.job_id: job
            for job in await self.store.jobs(tenant_id, pending)
            if job.definition.run_id is not None and job.definition.node_key is not None
        }
        explained: list[Explanation] = []
        for each in found:
            job = jobs.get(each.job_id)
            if job is not None and each.state == State.PENDING:
                gates = await self._gates_of(tenant_id, job)
                each = msgspec.structs.replace(each, gates=gates)
            explained.append(each)
        return explained

    async def _gates_of(self, tenant_id: str, job: Job) -> Sequence[GateClosed]:
        run_id, key = job.definition.run_id, job.definition.node_key
        assert run_id is not None
        assert key is not None
        try:
            answer = await self.ask_planner(
                tenant_id,
                lambda ask_id: ExplainNode(
                    ask_id=ask_id, tenant_id=tenant_id, run_id=run_id, key=key
                ),
            )
        except RefusedError as error:
            return (_unknown(run_id, error.refusal),)
        assert isinstance(answer, NodeExplanation)
        if answer.unmet:
            return [_unmet(each, answer) for each in answer.unmet]
        return (_under_way(run_id, answer),)


def _unmet(each: UnmetDependency, node: NodeExplanation) -> GateClosed:
    observed = "started" if each.started else "pending"
    more = node.unmet_total - len(node.unmet)
    also = f", and for {more} more" if more else ""
    return GateClosed(
        gate="dependency",
        key=each.key,
        observed=observed,
        limit=str(node.rule),
        message=f"waits for {each.key!r} of its run (job {each.job_id}){also}",
        opens_on=f"the end of job {each.job_id}",
    )


def _under_way(run_id: str, node: NodeExplanation) -> GateClosed:
    opens_on = _OPENS_ON.get(node.kind, "the next step of its planner")
    return GateClosed(
        gate="held" if node.started else "dependency",
        key=node.key,
        observed="open" if node.started else "waiting",
        limit="ended" if node.started else "released",
        message=f"{node.key!r} of run {run_id} goes on with {opens_on}",
        opens_on=opens_on,
    )


def _unknown(run_id: str, refusal: Refusal) -> GateClosed:
    return GateClosed(
        gate="dependency",
        key=run_id,
        observed=str(refusal.code),
        limit="planned",
        message=refusal.message,
        opens_on="the planner of its run",
    )
