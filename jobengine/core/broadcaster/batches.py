"""Making the next batch of a group: bounded in events, in bytes, and in what is looked at.

I1  A batch begins right behind the cursor of its group and ends at the seq up to which everything
    has been looked at, which is beyond it.
"""

from typing import Final

from jobengine.core.broadcaster.limits import BroadcasterLimits
from jobengine.core.broadcaster.topic import Group
from jobengine.domain.event import Event
from jobengine.domain.event_batch import Batch

__all__ = ["make_batch", "make_live_batch"]

_UNITS_TO_ENCODE: Final = 2
_LOOKS_A_UNIT: Final = 4


def make_live_batch(tenant_id: str, live: Group, front: int, limits: BroadcasterLimits) -> int:
    """Of what is pending, which is all that matched up to ``front``; what it costs, in units."""
    pending = live.pending
    count = _fitting(pending, limits)
    through = front if count == len(pending) else pending[count - 1].seq
    live.batch = Batch(
        tenant_id=tenant_id,
        after_seq=live.after_seq,
        through_seq=through,
        events=tuple(pending[:count]),
    )
    del pending[:count]
    live.after_seq = through
    return _UNITS_TO_ENCODE * count


def make_batch(
    tenant_id: str,
    group: Group,
    events: list[Event],
    floor: int,
    limits: BroadcasterLimits,
) -> int:
    """Of ``events``, which follow on ``floor`` without a gap; what it costs, in units. What is not
    seen up to ``floor`` is gone."""
    matches = group.topic.wanted.matches
    after = max(group.after_seq, floor)
    seen = events[after - floor : after - floor + limits.scan_events_max]
    found = [event for event in seen if matches(event)]
    through = after + len(seen)
    count = _fitting(found, limits)
    if count < len(found):
        through = found[count - 1].seq
        del found[count:]
    group.batch = Batch(
        tenant_id=tenant_id,
        after_seq=group.after_seq,
        through_seq=through,
        events=tuple(found),
        gap=(group.after_seq + 1, floor) if group.after_seq < floor else None,
    )
    return _UNITS_TO_ENCODE * len(found) + len(seen) // _LOOKS_A_UNIT


def _fitting(events: list[Event], limits: BroadcasterLimits) -> int:
    """How many of the first of them make a batch; at least one of any."""
    size = 0
    for count, event in enumerate(events[: limits.batch_events_max]):
        size += event.size
        if count and size > limits.batch_bytes_max:
            return count
    return min(len(events), limits.batch_events_max)
