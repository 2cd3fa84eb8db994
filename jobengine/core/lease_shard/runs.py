"""Runs: a run and all of its jobs, created in one commit under its token.

I1  Of all requests with one run token, exactly one creates the run; the others are given it, or are
    refused where they ask for something else.
I2  The planner is told of a run after its commit, before whoever asked for it has the answer.
I3  A run with which more jobs of its tenant would wait than may, or in more lanes, is refused, as
    if all of its jobs had to wait.

Not here: what a run does from then on (``run_jobs``).
"""

from typing import Any, Final

import msgspec

from jobengine.core.lease_shard.claims import Claims, settle_claim, store_claim
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.lane_limit import refuse_lanes
from jobengine.core.lease_shard.node_jobs import create_jobs, refuse_cost, write_part
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.slices import Slices, Steps
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import RunRow
from jobengine.domain.entry import NO_DATA
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.run import RunState
from jobengine.domain.run_record import RunRecord
from jobengine.messages.run_facts import ParentNode, RunStarted
from jobengine.messages.runs import CreateRun, RunCreated, RunFacts, RunPlan
from jobengine.messages.shard_commands import ClaimsWanted, LoadSubjects, SubjectsLoaded

__all__ = ["RunCreator"]

_encode: Final = msgspec.json.Encoder(order="sorted").encode


class RunCreator:
    def __init__(self, state: ShardState, slices: Slices, claims: Claims) -> None:
        self._state = state
        self._slices = slices
        self._claims = claims
        self._reading: dict[int, CreateRun] = {}

    def create(self, message: CreateRun) -> None:
        """Begin: what the token and the idempotency key stand for has to be read."""
        tenant_id, claim = message.tenant_id, message.claim
        keys = [_token_key(message)]
        if self._claims.crowded(message.ask_id, tenant_id, keys):
            return
        if self._claims.waits(tenant_id, keys, message):
            return
        if not self._claims.take(message.ask_id, tenant_id, claim):
            return
        self._claims.hold_keys(tenant_id, keys)
        state = self._state
        stamp = state.stamp()
        self._reading[stamp] = message
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=tenant_id,
                claims=ClaimsWanted(
                    idempotency=() if claim is None else ((claim.key, claim.path),)
                ),
                run_token=message.plan.record.run_token,
                now_at=state.now.at,
            )
        )

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Decide; returns what may be handled again now, or None when the stamp is not ours."""
        request = self._reading.pop(message.stamp, None)
        if request is None:
            return None
        if request.claim is not None:
            settled = settle_claim(request.claim, message)
            if isinstance(settled, Refusal):
                return self._answer(request, settled)
            if settled is not None:
                again = RunCreated(run=message.run, stored=settled.stored, replayed=True)
                return self._answer(request, again)
        if message.run is not None:
            return self._find(request, message.run)
        refusal = self._refuse(request)
        if refusal is not None:
            return self._answer(request, refusal)
        return self._create(request)

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        request = self._reading.pop(stamp, None)
        if request is None:
            return None
        return self._answer(request, refusal)

    def _find(self, request: CreateRun, run: RunRecord) -> list[Any]:
        """The run of this token is there already (I1)."""
        if run.inputs_hash != request.plan.record.inputs_hash:
            refusal = Refusal(
                ErrorCode.IDEMPOTENCY_MISMATCH,
                f"runToken: run {run.run_id} was created under this token from other nodes or "
                "inputs; use a new token",
                {"path": "runToken", "runId": run.run_id},
            )
            return self._answer(request, refusal)
        if request.claim is None:
            return self._answer(request, RunCreated(run=run, existing=True))
        draft = self._state.draft(request.tenant_id, request.actor)
        return self._commit(request, draft, Pending(), RunCreated(run=run, existing=True))

    def _refuse(self, request: CreateRun) -> Refusal | None:
        state, jobs = self._state, request.plan.jobs
        jobs_max = state.limits.tenant_backlog_jobs_max
        return (
            state.backlogs.refuse(request.tenant_id, len(jobs), jobs_max)
            or refuse_lanes(state, request.tenant_id, jobs)
            or refuse_cost(state, request.tenant_id, jobs)
        )

    def _create(self, request: CreateRun) -> list[Any]:
        draft = self._state.draft(request.tenant_id, request.actor)
        return self._slices.begin(request.tenant_id, draft.at, self._make(request, draft))

    def _make(self, request: CreateRun, draft: Draft) -> Steps:
        state, plan, pending = self._state, request.plan, Pending()
        record = plan.record
        draft.remark("run.created", _data_of(plan))
        draft.changes.runs.append(_row_of(plan, state.shard))
        write_part(draft, record.run_id, plan.nodes, plan.edges, plan.jobs, plan.kept)
        stride = state.limits.stride(len(plan.jobs))
        yield from create_jobs(draft, pending, request.tenant_id, plan.jobs, stride)
        state.runs.learn(record)
        pending.commands.append(_started(plan))
        return lambda: self._commit(request, draft, pending, RunCreated(run=record))

    def _commit(
        self, request: CreateRun, draft: Draft, pending: Pending, created: RunCreated
    ) -> list[Any]:
        tenant_id = request.tenant_id
        pending.unique_keys = [(tenant_id, _token_key(request))]
        if request.claim is not None:
            assert created.run is not None
            facts = _encode(RunFacts(existing=created.existing, run_id=created.run.run_id))
            store_claim(draft, pending, tenant_id, request.claim, facts)
            created = msgspec.structs.replace(created, stored=facts)
        pending.answers.append((request.ask_id, created))
        self._state.commit(draft, pending)
        return []

    def _answer(self, request: CreateRun, value: Any) -> list[Any]:
        """Answer without a commit; returns what had waited for the token."""
        self._state.commands.append(Answer(request.ask_id, value))
        tenant_id = request.tenant_id
        if request.claim is not None:
            self._claims.release([(tenant_id, request.claim.key, request.claim.path)])
        return self._claims.release_keys([(tenant_id, _token_key(request))])


def _token_key(request: CreateRun) -> str:
    """What stands for a run token among the unique keys; theirs hold no U+0000."""
    return f"\0token:{request.plan.record.run_token}"


def _data_of(plan: RunPlan) -> bytes:
    record = plan.record
    data = {
        "correlationId": record.correlation_id or None,
        "dagId": record.dag_id,
        "dagVersion": record.dag_version,
        "edges": len(plan.edges) + sum(len(node.depends_on) for node in plan.nodes),
        "failFast": record.fail_fast or None,
        "inputsHash": record.inputs_hash,
        "kept": len(plan.kept) or None,
        "nodes": record.nodes,
        "packId": record.pack.pack_id if record.pack is not None else None,
        "parentKey": record.parent_key,
        "parentRun": record.parent_run,
        "projectId": record.project_id or None,
        "replayOf": record.replay_of,
        "runId": record.run_id,
        "runToken": record.run_token,
    }
    return canonical_of({name: value for name, value in data.items() if value is not None})


def _row_of(plan: RunPlan, shard: int) -> RunRow:
    record = plan.record
    return RunRow(
        tenant_id=record.tenant_id,
        shard=shard,
        run_id=record.run_id,
        state=RunState.PENDING,
        nodes=record.nodes,
        run_token=record.run_token,
        created_at=record.created_at,
        created_by=record.created_by,
        project_id=record.project_id,
        dag_id=record.dag_id,
        dag_version=record.dag_version,
        fail_fast=record.fail_fast,
        inputs=msgspec.Raw(record.inputs),
        inputs_hash=record.inputs_hash,
        traceparent=record.traceparent,
        correlation_id=record.correlation_id,
        replay_of=record.replay_of,
        parent_run=record.parent_run,
        parent_key=record.parent_key,
        pack=NO_DATA if record.pack is None else msgspec.Raw(_encode(record.pack)),
    )


def _started(plan: RunPlan) -> RunStarted:
    """The run as its planner is told of it (I2)."""
    record = plan.record
    parent = None
    if record.parent_run is not None and record.parent_key is not None:
        parent = ParentNode(record.parent_run, record.parent_key)
    return RunStarted(
        tenant_id=record.tenant_id,
        run_id=record.run_id,
        run_token=record.run_token,
        created_at=record.created_at,
        nodes=plan.nodes,
        edges=plan.edges,
        graph=plan.graph,
        ends=plan.ends,
        fail_fast=record.fail_fast,
        parent=parent,
    )
