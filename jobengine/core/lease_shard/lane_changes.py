"""Lane changes: which lanes of a tenant may offer something else than they did.

I1  Of a tenant that is *followed*, every lane that was noted since a number is told to whoever asks
    for what came after it, in the order of the last time each was noted.
I2  Lanes that are gone are remembered for no more than as many as there are, or ``_SLACK``; whoever
    is behind that is told to look at all.

Not here: what follows them (``offers``).
"""

from functools import partial
from typing import Final

import attrs

from jobengine.domain.records import Lane

__all__ = ["LaneChanges"]

_SLACK: Final = 64


@attrs.define
class _Log:
    """Lanes by the number under which each was noted last; complete from after ``start`` on."""

    start: int
    followers: int = 0
    lanes: dict[Lane, int] = attrs.field(factory=dict)


class LaneChanges:
    def __init__(self) -> None:
        self.number = 0
        self._logs: dict[str, _Log] = {}

    def follow(self, tenant_id: str) -> None:
        log = self._logs.get(tenant_id)
        if log is None:
            log = self._logs[tenant_id] = _Log(self.number)
        log.followers += 1

    def leave(self, tenant_id: str) -> None:
        """Follow no more."""
        self._logs[tenant_id].followers -= 1
        if not self._logs[tenant_id].followers:
            del self._logs[tenant_id]

    def noting(self, lane: Lane) -> partial[None]:
        """What notes a lane when it is called."""
        return partial(self.note, lane)

    def note(self, lane: Lane) -> None:
        log = self._logs.get(lane.tenant_id)
        if log is not None:
            self.number += 1
            log.lanes.pop(lane, None)
            log.lanes[lane] = self.number

    def note_gone(self, lane: Lane, left: int) -> None:
        """A lane has been closed, and so many are ``left`` of its tenant (I2)."""
        log = self._logs.get(lane.tenant_id)
        if log is None:
            return
        self.note(lane)
        if len(log.lanes) > 2 * left + _SLACK:
            for oldest in list(log.lanes)[: len(log.lanes) // 2]:
                log.start = log.lanes.pop(oldest)

    def since(self, tenant_id: str, number: int) -> list[Lane] | None:
        """The lanes noted after a number; None when that is not known any more."""
        log = self._logs.get(tenant_id)
        if log is None or number < log.start:
            return None
        lanes = []
        for lane in reversed(log.lanes):
            if log.lanes[lane] <= number:
                break
            lanes.append(lane)
        lanes.reverse()
        return lanes
