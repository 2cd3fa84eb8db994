"""Proposals: the exchange with a tenant's rate bucket about jobs that want to start.

A job that needs tokens is *proposed*: it leaves its window, holds its places and a slot of the
session that would take it, and is granted or put back when the bucket has answered. One exchange
carries every candidate of a granting step.

I1  A proposed job is busy: what is asked of it meanwhile is handled when the answer is here.
I2  Tokens of a job that does not start after all go back at once.
I3  A bucket that was lost is configured anew and asked again; nothing stays proposed for ever, and
    nothing is asked again that a bucket configured since then was asked.
I4  No more candidates of a lane are proposed than it is likely to get: twice what it got last. A
    lane that is closed, and of which nothing is proposed, begins anew.
I5  What a bucket answered to a question from before a change of the controls starts nothing: its
    tokens go back, and it is asked again under the limits of now.

Not here: what becomes of the answer (``grants``, ``submits``, ``explain``).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from jobengine.core.lease_shard.gates import Gates
from jobengine.core.lease_shard.kinds import Kind
from jobengine.core.lease_shard.sessions import Session
from jobengine.domain.instant import HOUR
from jobengine.domain.job import Job
from jobengine.domain.records import Lane
from jobengine.messages.rate_bucket import (
    BucketLost,
    BucketState,
    Configure,
    Peek,
    RateRequest,
    Refund,
    Reserve,
    Reserved,
)

__all__ = ["Candidate", "Proposals"]

_APPETITE_FIRST = 64
_APPETITE_MIN = 4
_APPETITE_MAX = 4_096
_STATE_KEPT_US: Final = 2 * HOUR
"""Of a limit that is gone and may come back: longer than a start counts in an hour."""


@attrs.define(eq=False)
class Candidate:
    """A job with the session that would take it."""

    job: Job
    kind: Kind
    session: Session
    request: RateRequest


class _Asked(NamedTuple):
    """An open question, and the stamp of its tenant's ``Configure`` when it was asked."""

    message: Reserve | Peek
    configured: int


class Proposals:
    """``stamp`` gives numbers that grow."""

    def __init__(self, gates: Gates, stamp: Callable[[], int]) -> None:
        self._gates = gates
        self._stamp = stamp
        self._asked: dict[int, _Asked] = {}
        self._candidates: dict[int, list[Candidate]] = {}
        self._proposed: set[str] = set()
        self._by_lane: dict[Lane, int] = {}
        self._appetite: dict[Lane, int] = {}
        self._configured: dict[str, int] = {}
        self._outdated: set[int] = set()
        self._states: dict[str, dict[str, BucketState]] = {}

    def __len__(self) -> int:
        return len(self._proposed)

    def holds(self, job_id: str) -> bool:
        return job_id in self._proposed

    def wants(self, lane: Lane) -> bool:
        """Whether more candidates of a lane may be proposed now."""
        proposed = self._by_lane.get(lane)
        return proposed is None or proposed < self._appetite.get(lane, _APPETITE_FIRST)

    def add(self, candidate: Candidate) -> None:
        """A job leaves its lane to be proposed with the next ``send`` of its step."""
        self._proposed.add(candidate.job.job_id)
        lane = candidate.kind.lane
        self._by_lane[lane] = self._by_lane.get(lane, 0) + 1
        candidate.session.proposed += 1

    def send(self, stamp: int, tenant_id: str, candidates: Sequence[Candidate]) -> list[Any]:
        """Ask for the tokens of these candidates."""
        self._candidates[stamp] = list(candidates)
        requests = [candidate.request for candidate in candidates]
        return self.ask(Reserve(tenant_id=tenant_id, stamp=stamp, requests=requests))

    def ask(self, message: Reserve | Peek) -> list[Any]:
        """The commands that ask a bucket, which is configured first when it is new."""
        commands = self._ensure(message.tenant_id)
        self._asked[message.stamp] = _Asked(message, self._configured[message.tenant_id])
        return [*commands, message]

    def answered(self, stamp: int) -> list[Candidate] | None:
        """The candidates of an answer; None when it was not about candidates."""
        self._asked.pop(stamp, None)
        candidates = self._candidates.pop(stamp, None)
        for candidate in candidates or ():
            self._proposed.discard(candidate.job.job_id)
            candidate.session.proposed -= 1
            lane = candidate.kind.lane
            left = self._by_lane[lane] - 1
            if left:
                self._by_lane[lane] = left
            else:
                del self._by_lane[lane]
        return candidates

    def take_outdated(self, stamp: int) -> bool:
        """Whether the controls have changed since this was asked (I5); asked once a stamp."""
        if stamp not in self._outdated:
            return False
        self._outdated.remove(stamp)
        return True

    def learn_appetite(self, lane: Lane, granted: int, denied: int) -> None:
        """Ask for more of a lane that got all it asked for, for less of one that did not."""
        if denied:
            self._appetite[lane] = max(_APPETITE_MIN, 2 * granted)
        elif granted:
            grown = 2 * self._appetite.get(lane, _APPETITE_FIRST)
            self._appetite[lane] = min(_APPETITE_MAX, grown)
        if self._appetite.get(lane) == _APPETITE_FIRST:
            del self._appetite[lane]

    def forget_lane(self, lane: Lane) -> None:
        """A lane is closed: what it got tells nothing any more, unless more of it is proposed."""
        if lane not in self._by_lane:
            self._appetite.pop(lane, None)

    def keep(self, message: Reserved) -> None:
        """Remember what a bucket says of itself, for its successor."""
        self._states.setdefault(message.tenant_id, {}).update(message.states)

    def restore(self, tenant_id: str, key: str, state: BucketState) -> None:
        self._states.setdefault(tenant_id, {})[key] = state

    def state_of(self, tenant_id: str, key: str) -> BucketState | None:
        return self._states.get(tenant_id, {}).get(key)

    def states_of(self, tenant_id: str) -> dict[str, BucketState]:
        return self._states.get(tenant_id, {})

    def forget(self, tenant_id: str, keys: Collection[str], at: int) -> list[str]:
        """Drop states that there is no limit for: those of ``keys``, and whatever has been so long
        enough to matter no more at this instant of the wall clock. Returns the keys of all."""
        known = self._states.get(tenant_id, {})
        limit = self._gates.controls(tenant_id).limit
        gone = sorted(
            key
            for key, kept in known.items()
            if limit(key) is None
            and (key in keys or max(kept.at + _STATE_KEPT_US, kept.open_at) <= at)
        )
        for key in gone:
            del known[key]
        return gone

    def refund(self, tenant_id: str, requests: Sequence[RateRequest]) -> list[Any]:
        return [Refund(tenant_id=tenant_id, requests=requests)] if requests else []

    def tell(self, tenant_id: str, message: msgspec.Struct) -> list[Any]:
        """The commands that tell a bucket something."""
        return [*self._ensure(tenant_id), message]

    def reconfigure(self, tenant_id: str) -> list[Any]:
        """The commands after a tenant's controls have changed."""
        if tenant_id not in self._configured:
            return []
        self._outdated.update(
            stamp
            for stamp, asked in self._asked.items()
            if isinstance(asked.message, Reserve) and asked.message.tenant_id == tenant_id
        )
        del self._configured[tenant_id]
        return self._ensure(tenant_id)

    def lost(self, message: BucketLost) -> list[Any]:
        """A bucket is gone: configure another if that was not done since, and ask again what it was
        asked."""
        tenant_id = message.tenant_id
        open_ = [
            asked.message
            for asked in self._asked.values()
            if asked.message.tenant_id == tenant_id and asked.configured <= message.configured
        ]
        if self._configured.get(tenant_id, 0) <= message.configured:
            self._configured.pop(tenant_id, None)
        commands = self._ensure(tenant_id)
        for asked in open_:
            commands += self.ask(asked)
        return commands

    def _ensure(self, tenant_id: str) -> list[Any]:
        if tenant_id in self._configured:
            return []
        stamp = self._configured[tenant_id] = self._stamp()
        controls = self._gates.controls(tenant_id)
        known = self._states.get(tenant_id, {})
        limits = controls.limits()
        states = {limit.key: known[limit.key] for limit in limits if limit.key in known}
        return [Configure(tenant_id=tenant_id, stamp=stamp, limits=limits, states=states)]
