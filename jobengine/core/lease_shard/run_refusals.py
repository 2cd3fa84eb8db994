"""Why a planner's command cannot be carried out on its run and jobs as they are.

Not here: commands that were carried out already, which are answered (``run_jobs``).
"""

from jobengine.core.lease_shard.known_runs import KnownRun
from jobengine.core.lease_shard.lane_limit import refuse_lanes
from jobengine.core.lease_shard.node_jobs import refuse_cost
from jobengine.core.lease_shard.run_batches import Batch
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import State
from jobengine.domain.run import RunState, refuse_run_transition
from jobengine.messages.planner_commands import CommitCancel, FinishRun, GrowRun, ReleaseJobs

__all__ = ["refuse"]


def refuse(
    state: ShardState, batch: Batch, run: KnownRun | None, stored: RunState | None
) -> Refusal | None:
    """``run`` is None where it has ended, or is none; ``stored`` is its state as it was read."""
    run_id = batch.message.command.run_id
    match batch.message.command:
        case ReleaseJobs():
            return _refuse_templates(batch)
        case GrowRun():
            return _refuse_gone(run_id, run, stored) or _refuse_growth(state, batch)
        case CommitCancel():
            return _refuse_gone(run_id, run, stored)
        case FinishRun() as command:
            if run is not None:
                return _refuse_end(run, command)
            return None if stored is command.state else _refuse_gone(run_id, run, stored)
        case _:
            return None


def _refuse_templates(batch: Batch) -> Refusal | None:
    """A template is no payload."""
    for job_id, job in sorted(batch.jobs.items()):
        templated = job.definition.templated and job.state is State.PENDING
        if templated and job_id not in batch.message.filled_in:
            why = f"job {job_id} is released without its payload, of which it has the template only"
            return Refusal(ErrorCode.TEMPLATE_INVALID, why, {"jobId": job_id})
    return None


def _refuse_growth(state: ShardState, batch: Batch) -> Refusal | None:
    """What a ``map`` node expands into always may wait."""
    message = batch.message
    assert isinstance(message.command, GrowRun)
    there = [new.job_id for new in message.jobs if new.job_id in batch.jobs]
    if there:
        why = f"job {there[0]} is there already, and others of this growth are not"
        details = {"jobId": there[0]}
        all_there = len(there) == len(message.jobs)
        return None if all_there else Refusal(ErrorCode.ALREADY_EXISTS, why, details)
    refusal = refuse_cost(state, message.tenant_id, message.jobs)
    if refusal is not None or message.command.opened is not None:
        return refusal
    jobs_max = state.limits.tenant_backlog_jobs_max
    return state.backlogs.refuse(message.tenant_id, len(message.jobs), jobs_max) or refuse_lanes(
        state, message.tenant_id, message.jobs
    )


def _refuse_gone(run_id: str, run: KnownRun | None, stored: RunState | None) -> Refusal | None:
    """Why a run that has ended, or is none, takes no change; ``stored`` is its state as read."""
    if run is not None:
        return None
    if stored is None:
        return Refusal(ErrorCode.NOT_FOUND, f"no run {run_id} here", {"runId": run_id})
    return Refusal(
        ErrorCode.RUN_ENDED,
        f"run {run_id} is {stored}, which is final; start another run",
        {"runId": run_id, "state": str(stored)},
    )


def _refuse_end(run: KnownRun, command: FinishRun) -> Refusal | None:
    begun = command.begins and run.state is RunState.PENDING
    return refuse_run_transition(
        run.run_id, RunState.RUNNING if begun else run.state, command.state
    )
