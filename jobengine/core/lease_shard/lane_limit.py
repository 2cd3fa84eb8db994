"""The limit of how many lanes of a tenant hold jobs that wait.

I1  New jobs that could open more lanes than a tenant may have are refused, all of their request.
    Jobs that are there, follow-ups and retries always pass, as do jobs that waited for an instant
    or a release, which have no lane until then; so a tenant may have more.

Not here: how many jobs may wait (``backlogs``).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.records import NewJob

__all__ = ["refuse_lanes"]

_RETRY_S: Final = 5


def refuse_lanes(
    state: ShardState, tenant_id: str, jobs: Sequence[NewJob], existing: Iterable[str] = ()
) -> Refusal | None:
    """Why these jobs of a tenant may not wait, but for the ``existing`` holders of unique keys."""
    lanes = len(state.lanes_by_topic.get((tenant_id, "any", ""), ()))
    lanes_max = state.limits.tenant_lanes_max
    if lanes + len(jobs) <= lanes_max:
        return None
    known = frozenset(existing)
    wanted = {
        (each.queue, each.job_type, each.source_id): each
        for new in jobs
        if (each := new.definition).unique_key is None or each.unique_key not in known
    }
    opened = sum(state.lane_for(tenant_id, each) not in state.lanes for each in wanted.values())
    if not opened or lanes + opened <= lanes_max:
        return None
    return Refusal(
        ErrorCode.CAPACITY_EXCEEDED,
        f"jobs of the tenant wait in {lanes} lanes (a queue, job type and source) and at most "
        f"{lanes_max} may be, and these would open {opened} more, so none is created; use fewer "
        "names, retry when jobs have started, or raise the setting tenant_lanes_max",
        {
            "lanes": lanes,
            "lanesMax": lanes_max,
            "newLanes": opened,
            "retryAfterSeconds": _RETRY_S,
        },
    )
