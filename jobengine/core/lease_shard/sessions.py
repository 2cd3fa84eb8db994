"""Worker sessions of a shard: what each takes, and how much of it now.

I1  A session never holds more leases than its capacity, those being granted included.
I2  Slots are what the worker said last, less the leases granted since (plus the reports since,
    with auto credit), less the jobs *proposed* for it that await an answer about their tokens.
I3  Whoever has been waiting longest for a job of a kind gets the next one of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
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


@attrs.define(eq=False)
class _Takers:
    """Sessions that take the same lanes: one of them, and the free slots of all."""

    session: Session
    slots: int = 0


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

    def asking_for(self, lane: Lane) -> Iterator[Session]:
        """The sessions with free slots that ask for work of this lane."""
        return (
            session
            for topic in _topics_of(lane)
            for session in self._asking.get(topic, {}).values()
            if session.slots > 0 and session.takes(lane)
        )

    def only_taker(self, lane: Lane) -> Session | None:
        """The session that asks for work of this lane, if no other one does."""
        found = self._find(lane)
        if found is None or self._find(lane, beside=found[1]) is not None:
            return None
        return found[1]

    def has_slot(self, lane: Lane) -> bool:
        """Whether any session asks for work of this lane."""
        return next(self.asking_for(lane), None) is not None

    def fillable(self, waiting: Sequence[tuple[Lane, int]]) -> int:
        """How many free slots the jobs that wait in these lanes of one tenant could fill, as far as
        single lanes and all slots together tell."""
        takers = self._asking_by_takes(waiting)
        slots_all = sum(each.slots for each in dict.fromkeys(chain.from_iterable(takers.values())))
        taking: dict[_Takers, None] = {}
        jobs = slots = 0
        for lane, jobs_here in waiting:
            slots_here = 0
            for topic in _topics_of(lane):
                for each in takers[topic]:
                    if each.session.takes(lane):
                        slots_here += each.slots
                        if each not in taking:
                            taking[each] = None
                            slots += each.slots
            jobs += min(jobs_here, slots_here)
            if slots == slots_all <= jobs:
                break
        return min(jobs, slots)

    def _asking_by_takes(
        self, waiting: Sequence[tuple[Lane, int]]
    ) -> dict[_Topic, dict[_Takers, None]]:
        """Who asks for work of these lanes, each session counted once, by where they may ask."""
        found: dict[tuple[frozenset[str], frozenset[str]], _Takers] = {}
        seen: set[int] = set()
        by_topic: dict[_Topic, dict[_Takers, None]] = {}
        for topic in (topic for lane, _ in waiting for topic in _topics_of(lane)):
            if topic in by_topic:
                continue
            here = by_topic[topic] = {}
            for session in self._asking.get(topic, {}).values():
                if session.slots <= 0:
                    continue
                takes = session.queues, session.job_types
                group = found.get(takes)
                if group is None:
                    group = found[takes] = _Takers(session)
                if session.session_id not in seen:
                    seen.add(session.session_id)
                    group.slots += session.slots
                here[group] = None
        return by_topic

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

    def _find(
        self, lane: Lane, beside: Session | None = None
    ) -> tuple[dict[int, Session], Session] | None:
        for topic in _topics_of(lane):
            asking = self._asking.get(topic)
            if not asking:
                continue
            exhausted = []
            found = None
            for session in asking.values():
                if session.slots <= 0:
                    exhausted.append(session.session_id)
                elif session is not beside and session.takes(lane):
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
