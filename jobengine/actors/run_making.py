"""Runs that a planner starts itself: sub-runs of open nodes, and reruns of part of a run.

I1  A sub-run has the run token ``{run id}/{key}`` of its node, so it is started once, and found by
    whoever opens the node again.
I2  A sub-run that cannot be started fails its node, unless a later try may succeed.
I3  A job that runs again has the definition that it had, and its template where it has one; of a
    node that is kept, the job is named that ran it first.

Not here: what runs again (``core/dag_planner/requests``), what is evaluated (``domain/run_sheet``).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from jobengine.actors.run_reading import kept_ends
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.domain.dag_document import DAG, plan_dag
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import Job
from jobengine.domain.node import Node
from jobengine.domain.run import ENDED, RunState
from jobengine.domain.run_nodes import NodeJob, SubRunSpec
from jobengine.domain.run_plan import plan_rerun
from jobengine.domain.run_record import RunRecord
from jobengine.domain.run_sheet import RunSheet
from jobengine.messages.dag_planner import PlannerMessage
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import OpenNode, StartRerun
from jobengine.messages.run_facts import ParentNode, SubRunEnded, sub_run_ended
from jobengine.messages.runs import CreateRun, RunCreated, RunPlan
from jobengine.store.port import Store

__all__ = ["AGAIN_BYTES_MAX", "LaterError", "RunMaking"]

AGAIN_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of the payloads of a rerun, which is one commit."""

_DEPTH_MAX: Final = 16
_PAGE: Final = 500
_LARGE: Final = 2_000
_LARGE_BYTES: Final = 1 << 18
_LATER: Final = frozenset(
    {
        ErrorCode.BACKLOG_FULL,
        ErrorCode.CAPACITY_EXCEEDED,
        ErrorCode.OVERLOADED,
        ErrorCode.STORE_UNAVAILABLE,
    }
)


class LaterError(Exception):
    """Not for the moment; a later try may succeed."""


@attrs.define(eq=False)
class RunMaking:
    """``create`` asks the shard for a run, in the name of the run that wants it; ``admit`` asks the
    planner whether there is room for a run of so many nodes."""

    store: Store
    clock: Clock
    dice: Dice
    tell: Callable[[PlannerMessage], None]
    create: Callable[[str, Callable[[int], CreateRun]], Awaitable[RunCreated | Refusal]]
    admit: Callable[[str, int], Awaitable[Refusal | None]]

    async def start_sub_run(
        self, parent: RunRecord, node: OpenNode, spec: SubRunSpec, inputs: bytes, *, find: bool
    ) -> None:
        """Start the run of an open node, or find it; with ``find``, start none. Raises
        ``LaterError``."""
        run = await self.store.run_by_token(parent.tenant_id, _token_of(parent, node.key))
        if run is None and find:
            return
        if run is None:
            started = await self._start(parent, node.key, spec, inputs)
            if isinstance(started, Refusal):
                self.tell(_failed(parent, node.key, started))
                return
            run = started
        if run.state in ENDED:
            self.tell(sub_run_ended(ParentNode(parent.run_id, node.key), run.run_id, run.state))

    async def _start(
        self, parent: RunRecord, key: str, spec: SubRunSpec, inputs: bytes
    ) -> RunRecord | Refusal:
        found = await self._document(parent.tenant_id, spec)
        refusal = found if isinstance(found, Refusal) else await self._refuse_depth(parent)
        if isinstance(found, Refusal) or refusal is not None:
            assert refusal is not None
            return refusal
        document, version = found
        record = self._record(parent, key, spec, inputs, version)
        planned = await _maybe_in_thread(len(document) > _LARGE_BYTES)(plan_dag, record, document)
        if isinstance(planned, Refusal):
            return planned
        refusal = await self.admit(parent.tenant_id, planned.record.nodes)
        if refusal is not None:
            return _not_later(refusal)
        plan = RunPlan(
            record=planned.record, nodes=planned.nodes, jobs=planned.jobs, graph=planned.graph
        )
        created = await self.create(
            parent.run_id,
            lambda ask_id: CreateRun(
                ask_id=ask_id,
                tenant_id=parent.tenant_id,
                actor=Actor(parent.created_by),
                plan=plan,
            ),
        )
        if isinstance(created, Refusal):
            return _not_later(created)
        assert created.run is not None, "it is not asked for under an idempotency key"
        return created.run

    def _record(
        self, parent: RunRecord, key: str, spec: SubRunSpec, inputs: bytes, version: int
    ) -> RunRecord:
        at = self.clock.moment().at
        return RunRecord(
            tenant_id=parent.tenant_id,
            run_id=self.dice.uuid7(at),
            run_token=_token_of(parent, key),
            state=RunState.PENDING,
            nodes=0,
            created_at=at,
            created_by=parent.created_by,
            project_id=parent.project_id,
            dag_id=spec.dag_id,
            dag_version=version,
            inputs=inputs,
            traceparent=parent.traceparent,
            correlation_id=parent.correlation_id,
            parent_run=parent.run_id,
            parent_key=key,
        )

    async def _document(self, tenant_id: str, spec: SubRunSpec) -> tuple[bytes, int] | Refusal:
        """What the sub-run is of, and its version."""
        row = await self.store.registered(tenant_id, DAG, spec.dag_id, spec.version)
        if row is None:
            return Refusal(ErrorCode.NOT_FOUND, f"there is no DAG {spec.dag_id!r} of that version")
        if row.disabled_at:
            why = f"version {row.version} of DAG {spec.dag_id!r} is disabled"
            return Refusal(ErrorCode.VERSION_DISABLED, why)
        return bytes(row.body), row.version

    async def _refuse_depth(self, record: RunRecord) -> Refusal | None:
        """A DAG that starts itself would never end."""
        above: RunRecord | None = record
        for _ in range(_DEPTH_MAX):
            if above is None or above.parent_run is None:
                return None
            above = await self.store.run(above.tenant_id, above.parent_run)
        return Refusal(ErrorCode.RUN_INVALID, f"sub-runs are nested deeper than {_DEPTH_MAX}")

    # ---- reruns

    async def rerun(self, command: StartRerun) -> RunCreated | Refusal:
        """Create a run that runs part of another again."""
        earlier = await self.store.run(command.tenant_id, command.replay_of)
        if earlier is None:
            why = f"run {command.replay_of} is gone"
            return Refusal(ErrorCode.NOT_FOUND, why, {"runId": command.replay_of})
        parts = await self.store.run_parts(command.tenant_id, command.replay_of)
        sheet = RunSheet.of(earlier, parts)
        kept = {key: sheet.job_id(key) for key in command.kept}
        again = await self._jobs_again(sheet, command.nodes, kept)
        if isinstance(again, Refusal):
            return again
        planned = await _maybe_in_thread(len(command.nodes) > _LARGE)(
            plan_rerun, self._record_again(earlier, command), command.nodes, command.edges, again,
            kept,
        )  # fmt: skip
        if isinstance(planned, Refusal):
            return planned
        plan = RunPlan(
            record=planned.record,
            nodes=planned.nodes,
            edges=command.edges,
            jobs=planned.jobs,
            kept=kept,
            ends=await kept_ends(self.store, command.tenant_id, kept),
        )
        return await self.create(
            command.replay_of,
            lambda ask_id: CreateRun(
                ask_id=ask_id, tenant_id=command.tenant_id, actor=command.actor, plan=plan
            ),
        )

    def _record_again(self, earlier: RunRecord, command: StartRerun) -> RunRecord:
        return msgspec.structs.replace(
            earlier,
            run_id=command.run_id,
            run_token=command.run_token,
            state=RunState.PENDING,
            nodes=0,
            created_at=self.clock.moment().at,
            created_by=command.actor.subject,
            started_at=None,
            finished_at=None,
            cancel_requested_at=None,
            rolled=None,
            replay_of=command.replay_of,
            parent_run=None,
            parent_key=None,
        )

    async def _jobs_again(
        self, sheet: RunSheet, nodes: Sequence[Node], kept: Mapping[str, str]
    ) -> dict[str, NodeJob] | Refusal:
        """What the nodes that run again are to do, as the earlier run has it."""
        wanted = {sheet.job_id(node.key): node for node in nodes if node.key not in kept}
        job_ids, found = list(wanted), dict[str, NodeJob]()
        left = AGAIN_BYTES_MAX
        for start in range(0, len(job_ids), _PAGE):
            page = job_ids[start : start + _PAGE]
            for job in await self.store.jobs(sheet.record.tenant_id, page):
                node = wanted[job.job_id]
                found[node.key] = again = _job_again(job, node, sheet.templates.get(node.key))
                left -= len(bytes(again.payload))
            if left < 0:
                why = (
                    f"the payloads of the {len(job_ids)} jobs that would run again come to more "
                    f"than {AGAIN_BYTES_MAX} bytes; replay from a later node"
                )
                return Refusal(ErrorCode.PAYLOAD_TOO_LARGE, why, {"limit": AGAIN_BYTES_MAX})
        gone = [node.key for node in wanted.values() if node.key not in found]
        if gone:
            why = f"the job of {gone[0]!r} is gone, so it cannot run again"
            return Refusal(ErrorCode.NOT_FOUND, why, {"key": gone[0]})
        return found


def _job_again(job: Job, node: Node, template: bytes | None) -> NodeJob:
    definition = msgspec.structs.replace(
        job.definition, depends_on=(), node_key=None, replay_of=job.job_id, run_id=None
    )
    payload = msgspec.Raw(job.payload if template is None else template)
    return NodeJob(definition=definition, node=node, payload=payload)


def _not_later(refusal: Refusal) -> Refusal:
    """The refusal, if it is for good. Raises ``LaterError``."""
    details = refusal.details
    too_large = details.get("jobs", 0) > details.get("backlogMax", float("inf"))
    if refusal.code in _LATER and not too_large:
        raise LaterError(refusal.message)
    return refusal


def _token_of(parent: RunRecord, key: str) -> str:
    return f"{parent.run_id}/{key}"


def _failed(parent: RunRecord, key: str, refusal: Refusal) -> SubRunEnded:
    return SubRunEnded(
        run_id=parent.run_id,
        key=key,
        state=RunState.FAILED,
        error=str(refusal.code),
        message=refusal.message,
    )


def _maybe_in_thread(in_thread: bool) -> Callable[..., Awaitable[Any]]:
    """How to call what may take long."""

    async def here(call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    return trio.to_thread.run_sync if in_thread else here
