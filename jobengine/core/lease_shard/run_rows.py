"""The row of a run as it moves on, written into an open draft.

I1  A run goes forward along ``RUN_TRANSITIONS``, an entry for each step.
I2  A draft has one row of a run at most.

Not here: who may write it (``known_runs``), what is refused (``run_refusals``), the run's jobs
(``run_changes``, ``node_jobs``).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.known_runs import KnownRun
from jobengine.core.lease_shard.pending import Pending
from jobengine.domain.canonical import canonical_of
from jobengine.domain.change import RunRow
from jobengine.domain.run import RunState, find_run_transition
from jobengine.messages.planner_commands import FinishRun

__all__ = ["begin", "finish", "grow", "request_cancel"]

_encode: Final = msgspec.json.Encoder(order="sorted").encode


def begin(draft: Draft, run: KnownRun) -> None:
    """The run becomes running."""
    before = run.state
    _step(draft, run, RunState.RUNNING)
    _write(draft, run, before, started_at=draft.at)


def grow(draft: Draft, run: KnownRun, nodes: int, edges: int) -> None:
    """The run has more nodes, joins among them."""
    data = {"edges": edges, "nodes": nodes, "runId": run.run_id}
    draft.remark("run.grown", canonical_of(data))
    _write(draft, run, run.state, nodes=nodes)


def request_cancel(draft: Draft, run: KnownRun) -> None:
    """The run is to be cancelled; nothing is written where it is already."""
    if run.cancel_requested:
        return
    run.cancel_requested = True
    draft.remark("run.cancel_requested", canonical_of({"runId": run.run_id}))
    _write(draft, run, run.state, cancel_requested_at=draft.at)


def finish(draft: Draft, pending: Pending, run: KnownRun, command: FinishRun) -> None:
    """The run ends; it is forgotten here when that is committed."""
    before, rolled = run.state, command.rolled
    started_at = None
    if command.begins and before is RunState.PENDING:
        _step(draft, run, RunState.RUNNING)
        started_at = draft.at
    counts = {
        "cancelled": rolled.cancelled,
        "completed": rolled.completed,
        "failed": rolled.failed,
        "outputsHash": rolled.outputs_hash,
    }
    _step(draft, run, command.state, counts)
    body = msgspec.Raw(_encode(rolled))
    _write(draft, run, before, started_at=started_at, finished_at=draft.at, rolled=body)
    pending.ended_runs.append(run.run_id)


def _step(
    draft: Draft, run: KnownRun, target: RunState, data: Mapping[str, Any] | None = None
) -> None:
    transition = find_run_transition(run.state, target)
    assert transition is not None, f"I1: {run.run_id} {run.state} → {target}"
    draft.remark(transition.event, canonical_of({"runId": run.run_id} | dict(data or {})))
    run.state = target


def _write(draft: Draft, run: KnownRun, before: RunState, **given: Any) -> None:
    draft.changes.runs.append(
        RunRow(
            tenant_id=draft.changes.tenant_id,
            shard=draft.shard,
            run_id=run.run_id,
            state=run.state,
            from_state=before,
            **given,
        )
    )
