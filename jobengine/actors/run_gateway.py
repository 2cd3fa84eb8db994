"""Runs, as doors ask for them: of the planner that plans them, or of the shard that owns the jobs.

Every call ends as those of the ``gateway`` do, and returns after the commit it is about.

Not here: documents and their translation (the doors), which node may start (``core/dag_planner``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from jobengine.actors.asking import Asking
from jobengine.actors.run_explaining import RunExplainer
from jobengine.actors.run_reading import read_ended
from jobengine.actors.runtime.address import Address
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.graph import Edge
from jobengine.domain.ids import shard_of
from jobengine.domain.job import State
from jobengine.domain.run_nodes import NodeJob, encode_nodes
from jobengine.messages.admission import Explanation
from jobengine.messages.dag_planner import (
    AdmitRun,
    ApproveGate,
    CancelRun,
    CompleteCallback,
    EndedRun,
    ExtendRun,
    NodeAnswer,
    RejectGate,
    ReplayFrom,
    RetryFailed,
    RunAnswer,
)
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.messages.runs import (
    CreateRun,
    DisableDocument,
    RegisterDocument,
    RegistryAnswer,
    RunCreated,
    RunPlan,
)
from jobengine.store.port import Store

__all__ = ["RunGateway"]


@attrs.frozen(kw_only=True)
class RunGateway:
    """Shards and planners stand in the order in which ``shard_of`` numbers them."""

    asking: Asking
    shards: Sequence[Address[object]]
    planners: Sequence[Address[object]]
    store: Store
    clock: Clock
    dice: Dice

    async def create(
        self, plan: RunPlan, actor: Actor, claim: IdempotencyClaim | None = None
    ) -> RunCreated:
        """Create a run, or find the one of its run token."""
        self.asking.check_new_work()
        tenant_id = plan.record.tenant_id
        await self._ask_planner(
            tenant_id,
            lambda ask_id: AdmitRun(ask_id=ask_id, tenant_id=tenant_id, nodes=plan.record.nodes),
        )
        answer = await self._ask_shard(
            tenant_id,
            lambda ask_id: CreateRun(
                ask_id=ask_id, tenant_id=tenant_id, actor=actor, plan=plan, claim=claim
            ),
        )
        assert isinstance(answer, RunCreated)
        return answer

    async def cancel(self, tenant_id: str, run_id: str, actor: Actor) -> RunAnswer:
        """Give a run up; it has ended when all of its jobs have."""
        return await self._change(
            tenant_id,
            run_id,
            lambda ask_id: CancelRun(
                ask_id=ask_id, tenant_id=tenant_id, run_id=run_id, actor=actor
            ),
        )

    async def extend(
        self,
        tenant_id: str,
        run_id: str,
        actor: Actor,
        nodes: Sequence[NodeJob],
        edges: Sequence[Edge] = (),
    ) -> RunAnswer:
        """Add nodes, prepared by ``prepare_nodes``, and edges to a run."""
        body = encode_nodes(nodes)
        return await self._change(
            tenant_id,
            run_id,
            lambda ask_id: ExtendRun(
                ask_id=ask_id,
                tenant_id=tenant_id,
                run_id=run_id,
                actor=actor,
                nodes=[each.node for each in nodes],
                edges=edges,
                body=body,
            ),
        )

    async def approve(self, tenant_id: str, run_id: str, key: str, actor: Actor) -> NodeAnswer:
        """Complete an open approval."""
        return await self._end_node(
            tenant_id,
            run_id,
            lambda ask_id: ApproveGate(
                ask_id=ask_id, tenant_id=tenant_id, run_id=run_id, actor=actor, key=key
            ),
        )

    async def reject(self, tenant_id: str, run_id: str, key: str, actor: Actor) -> NodeAnswer:
        """Fail an open approval."""
        return await self._end_node(
            tenant_id,
            run_id,
            lambda ask_id: RejectGate(
                ask_id=ask_id, tenant_id=tenant_id, run_id=run_id, actor=actor, key=key
            ),
        )

    async def complete_callback(
        self,
        tenant_id: str,
        run_id: str,
        key: str,
        actor: Actor,
        *,
        result: bytes | None = None,
        error: str | None = None,
    ) -> NodeAnswer:
        """End an open callback: completed with a result (canonical JSON), or failed with the class
        of an ``error``."""
        return await self._end_node(
            tenant_id,
            run_id,
            lambda ask_id: CompleteCallback(
                ask_id=ask_id,
                tenant_id=tenant_id,
                run_id=run_id,
                actor=actor,
                key=key,
                state=State.COMPLETED if error is None else State.FAILED,
                result=result,
                error=error,
            ),
        )

    async def retry_failed(
        self, tenant_id: str, run_id: str, run_token: str, actor: Actor
    ) -> RunAnswer:
        """A new run, of that token, of what did not complete and all behind it."""
        ended, rerun_id = await self._ended(tenant_id, run_id), self._new_id()
        return await self._rerun(
            tenant_id,
            lambda ask_id: RetryFailed(
                ask_id=ask_id,
                tenant_id=tenant_id,
                run_id=run_id,
                actor=actor,
                ended=ended,
                rerun_id=rerun_id,
                run_token=run_token,
            ),
        )

    async def replay_from(
        self, tenant_id: str, run_id: str, key: str, run_token: str, actor: Actor
    ) -> RunAnswer:
        """A new run, of that token, of one node and all behind it, and what did not complete."""
        ended, rerun_id = await self._ended(tenant_id, run_id), self._new_id()
        return await self._rerun(
            tenant_id,
            lambda ask_id: ReplayFrom(
                ask_id=ask_id,
                tenant_id=tenant_id,
                run_id=run_id,
                actor=actor,
                ended=ended,
                rerun_id=rerun_id,
                run_token=run_token,
                key=key,
            ),
        )

    async def document(
        self, tenant_id: str, build: Callable[[int], RegisterDocument | DisableDocument]
    ) -> RegistryAnswer:
        """Register a version of a document, or disable or enable one."""
        answer = await self._ask_shard(tenant_id, build)
        assert isinstance(answer, RegistryAnswer)
        return answer

    async def explain(self, tenant_id: str, found: Sequence[Explanation]) -> Sequence[Explanation]:
        """With what the jobs of runs among them wait for in their runs."""
        return await RunExplainer(self.store, self._ask_planner).explain(tenant_id, found)

    async def _ended(self, tenant_id: str, run_id: str) -> EndedRun:
        record = await self.store.run(tenant_id, run_id)
        if record is None:
            why = f"there is no run {run_id}"
            raise RefusedError(Refusal(ErrorCode.NOT_FOUND, why, {"runId": run_id}))
        return await read_ended(self.store, record)

    async def _change(
        self, tenant_id: str, run_id: str, build: Callable[[int], object]
    ) -> RunAnswer:
        answer = await self._ask_about(tenant_id, run_id, build)
        assert isinstance(answer, RunAnswer)
        return answer

    async def _rerun(self, tenant_id: str, build: Callable[[int], object]) -> RunAnswer:
        answer = await self._ask_planner(tenant_id, build)
        assert isinstance(answer, RunAnswer)
        return answer

    async def _end_node(
        self, tenant_id: str, run_id: str, build: Callable[[int], object]
    ) -> NodeAnswer:
        answer = await self._ask_about(tenant_id, run_id, build)
        assert isinstance(answer, NodeAnswer)
        return answer

    async def _ask_about(self, tenant_id: str, run_id: str, build: Callable[[int], object]) -> Any:
        """Ask about a run; one that the planner does not know has ended, or is not found again yet
        after a restart."""
        try:
            return await self._ask_planner(tenant_id, build)
        except RefusedError as error:
            if error.refusal.code is not ErrorCode.NOT_FOUND:
                raise
            record = await self.store.run(tenant_id, run_id)
            if record is None or "runId" not in error.refusal.details:
                raise
            if record.finished_at is None:
                why = f"run {run_id} is being read from the store; retry in a moment"
                raise RefusedError(Refusal(ErrorCode.STORE_UNAVAILABLE, why)) from None
            why = f"run {run_id} has ended: {record.state}"
            details = {"runId": run_id, "state": str(record.state)}
            raise RefusedError(Refusal(ErrorCode.RUN_ENDED, why, details)) from None

    async def _ask_planner(self, tenant_id: str, build: Callable[[int], object]) -> Any:
        planner = self.planners[shard_of(tenant_id, len(self.planners))]
        return await self.asking.ask(planner, build)

    async def _ask_shard(self, tenant_id: str, build: Callable[[int], object]) -> Any:
        shard = self.shards[shard_of(tenant_id, len(self.shards))]
        return await self.asking.ask(shard, build)

    def _new_id(self) -> str:
        return self.dice.uuid7(self.clock.moment().at)
