"""Why a pending job waits: it is held, or its run does not let it go on yet.

Not here: which dependencies are still to come (the planner of the run knows).
"""

from typing import Final

from jobengine.domain.job import Definition, Job
from jobengine.domain.node import WORKERLESS_PREFIX, NodeKind
from jobengine.messages.admission import GateClosed

__all__ = ["gate_of_pending"]

_KEYS_SHOWN: Final = 20
_OPENED_BY: Final = {
    f"{WORKERLESS_PREFIX}{NodeKind.APPROVAL}": (
        "waits for an approval",
        "its approval or rejection by an operator",
    ),
    f"{WORKERLESS_PREFIX}{NodeKind.CALLBACK}": (
        "waits for its callback",
        "a call of its signed URL",
    ),
    f"{WORKERLESS_PREFIX}{NodeKind.SUB_RUN}": (
        "waits for the run that it started",
        "the end of that run",
    ),
}
"""Of open nodes by job type: what they wait for, and what opens that."""


def gate_of_pending(job: Job) -> GateClosed:
    definition = job.definition
    if definition.node_key is None or definition.run_id is None:
        return _held()
    opens = _OPENED_BY.get(definition.job_type)
    if job.scheduled_at is not None and opens is not None:
        why, opens_on = opens
        return GateClosed(
            gate="held",
            key=definition.run_id,
            observed="open",
            limit="ended",
            message=f"{definition.node_key!r} of run {definition.run_id} {why}",
            opens_on=opens_on,
        )
    return _dependency(definition.run_id, definition)


def _dependency(run_id: str, definition: Definition) -> GateClosed:
    keys = definition.depends_on
    named = ", ".join(keys[:_KEYS_SHOWN]) + (" …" if len(keys) > _KEYS_SHOWN else "")
    of_what = f": {named}" if named else ""
    return GateClosed(
        gate="dependency",
        key=run_id,
        observed=f"{len(keys)} dependencies",
        limit="ended as its trigger wants",
        message=f"{definition.node_key!r} waits for dependencies of its run{of_what}",
        opens_on="the ends of its dependencies",
    )


def _held() -> GateClosed:
    return GateClosed(
        gate="held",
        key="hold",
        observed="held",
        limit="released",
        message="the job was created held; release it",
        opens_on="a release",
    )
