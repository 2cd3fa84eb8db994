"""Worker sessions of a shard: what each takes, and how much of it now.

I1  A session never holds more leases than its capacity, those being granted included.
I2  Slots are what the worker said last, less the leases granted since (plus the reports since,
    with auto credit), less the jobs *proposed* for it that await an answer about their tokens.
I3  Whoever has been waiting longest for a job of a kind gets the next one of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from jobengine.core.lease_shard.groups import By

if TYPE_CHECKING:
    from jobengine.core.lease_shard.leases import Lease
    from jobengine.domain.records import Lane

__all__ = ["Session", "SessionTable"]

_Topic = tuple[str, str, str]


@attrs.define(eq=False)
class Session:
    """One attached worker; ``leases`` by job id; ``beat_s`` in lease time. A ``brief`` one is there
    for one request."""

    session_id: int
    tenant_id: str
    worker_id: str
    task_runner_id: str
    queues: frozenset[str]
    job_types: frozenset[str]
    capacity: int
    auto_credit: bool
    beat_s: float
    connected_at: int = 0
    heard_at: int = 0
    brief: bool = False
    credit: int = 0
    proposed: int = 0
    draining: bool = False
    leases: dict[str, Lease] = attrs.field(factory=dict)
    by: By = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.by = By(self.worker_id, self.task_runner_id)

    @property
    def slots(self) -> int:
        if self.draining:
            return 0
        return min(self.credit, self.capacity - len(self.leases)) - self.proposed

    def takes(self, lane: Lane) -> bool:
        return (
            lane.tenant_id == self.tenant_id
            and (not self.queues or lane.queue in self.queues)
            and (not self.job_types or lane.job_type in self.job_types)
        )

    def topics(self) -> list[_Topic]:
        """Where this session asks for work: by queue if it names queues, else by job type."""
        if self.queues:
            return [(self.tenant_id, "queue", name) for name in sorted(self.queues)]
        if self.job_types:
            return [(self.tenant_id, "type", name) for name in sorted(self.job_types)]
        return [(self.tenant_id, "any", "")]


class SessionTable:
    """Sessions by number, and those with free slots by what they ask for."""

    def __init__(self) -> None:
        self._by_id: dict[int, Session] = {}
        self._asking: dict[_Topic, dict[int, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, session_id: int) -> Session | None:
        return self._by_id.get(session_id)

    def of_tenant(self, tenant_id: str) -> Iterator[Session]:
        """In the order in which they were attached."""
        return (each for each in self._by_id.values() if each.tenant_id == tenant_id)

    def add(self, session: Session) -> None:
        self._by_id[session.session_id] = session

    def remove(self, session: Session) -> None:
        del self._by_id[session.session_id]
        for topic in session.topics():
            self._stop_asking(topic, session.session_id)

    def ask(self, session: Session) -> None:
        """Put a session with free slots at the end of the queues that it does not wait in yet."""
        for topic in session.topics():
            self._asking.setdefault(topic, {}).setdefault(session.session_id, session)

    def asking_for(self, lane: Lane) -> list[Session]:
        """The sessions with free slots that ask for work of this lane."""
        return [
            session
            for topic in _topics_of(lane)
            for session in self._asking.get(topic, {}).values()
            if session.slots > 0 and session.takes(lane)
        ]

    def slots_for(self, *lanes: Lane) -> int:
        """Free slots of all sessions that ask for work of any of these lanes."""
        found = {each.session_id: each.slots for lane in lanes for each in self.asking_for(lane)}
        return sum(found.values())

    def takers(self, lane: Lane) -> int:
        """How many attached sessions take work of this lane, with slots or without."""
        return sum(session.takes(lane) for session in self._by_id.values())

    def wanted(self, lane: Lane) -> bool:
        """Whether any session would take work of this lane now."""
        return self._find(lane) is not None

    def taker(self, lane: Lane) -> Session | None:
        """The session that has waited longest for work of this lane; it goes to the end."""
        found = self._find(lane)
        if found is None:
            return None
        asking, session = found
        if len(asking) > 1:
            del asking[session.session_id]
            asking[session.session_id] = session
        return session

    def _find(self, lane: Lane) -> tuple[dict[int, Session], Session] | None:
        for topic in _topics_of(lane):
            asking = self._asking.get(topic)
            if not asking:
                continue
            exhausted = []
            found = None
            for session in asking.values():
                if session.slots <= 0:
                    exhausted.append(session.session_id)
                elif session.takes(lane):
                    found = session
                    break
            for session_id in exhausted:
                self._stop_asking(topic, session_id)
            if found is not None:
                return asking, found
        return None

    def _stop_asking(self, topic: _Topic, session_id: int) -> None:
        asking = self._asking.get(topic)
        if asking is not None:
            asking.pop(session_id, None)
            if not asking:
                del self._asking[topic]


def _topics_of(lane: Lane) -> tuple[_Topic, ...]:
    """Where sessions that take work of this lane may be asking."""
    tenant = lane.tenant_id
    return ((tenant, "queue", lane.queue), (tenant, "type", lane.job_type), (tenant, "any", ""))
