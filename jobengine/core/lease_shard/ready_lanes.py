"""Ready lanes: which may be served now, what stands first in them, and their supply.

I1  The head of an open lane that is offered may start: whatever may not is out of its way, parked
    at its gate, set aside for who operates on it, or left to its expiry.

Not here: whose turn it is among lanes (``fair_lanes``), what becomes of a head (``grants``).
"""

from collections.abc import Iterator

from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.window import Key, Window
from jobengine.domain.job import Job
from jobengine.domain.records import Lane
from jobengine.messages.shard_commands import LoadLane

__all__ = ["ReadyLanes", "has_expired"]

_REFILL_OF_MAX = 2


class ReadyLanes:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def of_session(self, session: Session) -> Iterator[Lane]:
        """The lanes that a session takes work from, open or not."""
        by_topic = self._state.lanes_by_topic
        return (
            lane
            for topic in session.topics()
            for lane in by_topic.get(topic, ())
            if session.takes(lane)
        )

    def is_open(self, lane: Lane) -> bool:
        """Whether no gate keeps the whole lane, and enough of it is not proposed already."""
        state = self._state
        return state.waiting_room.subject_of(lane) is None and state.proposals.wants(lane)

    def goes_first(self, lane: Lane, key: Key | None) -> bool:
        """Whether nothing of this lane that may start is older than a job with this key; without
        one, than any job still to come."""
        state = self._state
        if state.waiting_room.subject_of(lane) is not None:
            return False
        window = state.lanes.get(lane)
        if window is None:
            return True
        if len(window):
            return False
        return window.horizon is None if key is None else window.admits(key)

    def head(self, lane: Lane, window: Window[Job]) -> tuple[Job, Kind] | None:
        """I1: the first job of a lane that may start; it stays in its window."""
        state = self._state
        while window.first() is not None:
            job = window.peek()
            if job.job_id in state.operating:
                state.set_aside[job.job_id] = window.pop()
                continue
            if has_expired(job, state.now.at):
                window.pop()
                continue
            kind = state.kind_of(job)
            gate = state.gates.first_closed(job, kind, state.now.at)
            if gate is None:
                return job, kind
            if gate.of_lane or state.waiting_room.full:
                state.waiting_room.close(lane, gate.subject, gate.opens_at)
                state.lane_changes.note(lane)
                return None
            window.pop()
            state.park(lane, job, gate.subject, gate.opens_at)
        self.refill_if_low(lane, window)
        return None

    def refill_if_low(self, lane: Lane, window: Window[Job]) -> None:
        if window.wants_refill:
            self.refill(lane, window)

    def refill(self, lane: Lane, window: Window[Job]) -> None:
        """Ask the store for the next jobs of a lane."""
        state = self._state
        stamp = state.stamp()
        after = window.begin_refill(stamp)
        state.reading_lanes[stamp] = lane
        state.commands.append(
            LoadLane(
                stamp=stamp,
                lane=lane,
                after=after,
                now_at=state.now.at,
                jobs_max=window.items_max // _REFILL_OF_MAX,
                bytes_max=window.bytes_max // _REFILL_OF_MAX,
            )
        )


def has_expired(job: Job, at: int) -> bool:
    """Whether a job may not start any more; its expiry, once read, cancels it."""
    expires_at = job.definition.expires_at
    return expires_at is not None and job.attempt == 0 and expires_at <= at
