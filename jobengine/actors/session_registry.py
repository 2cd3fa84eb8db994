"""The sessions of a node: their numbers, and the way from a shard to each.

A shard names a session by number. What it says is handed on at once, in the shard's own step, so
that a grant's job is read before it can change; a session that fails on it fails alone.

I1  Numbers never repeat within a process, so nothing reaches a successor by mistake.
I2  A lease granted to a session that has gone meanwhile is given back at once: nobody knows of it.
I3  Every session is looked at once a second while there are any, and never while there are none.

Not here: what a session decides (``core/session``), connections (the doors).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import trio

from jobengine.actors.runtime.address import Address
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.step_end import StepEnd
from jobengine.domain.ids import shard_of
from jobengine.domain.instant import SECOND
from jobengine.messages.session import (
    AttachBriefly,
    EngineStops,
    FromShard,
    Grant,
    Granted,
    ShardRestarted,
)
from jobengine.messages.worker_reports import GivenBack, Reports

__all__ = ["Listener", "SessionRegistry", "SessionStatistics", "brief_attach"]

_TICK_S: Final = 1.0


class Listener(Protocol):
    """One session. Neither method waits or raises."""

    def hear(self, message: FromShard | EngineStops) -> None: ...

    def tick(self, mono: float) -> None:
        """About once a second: the time, in monotonic seconds."""
        ...


class SessionStatistics(NamedTuple):
    """``given_back_total``: leases that came for a session that had gone. ``failed_total``:
    sessions ended by a programmer error."""

    sessions: int
    opened_total: int
    given_back_total: int
    failed_total: int


class SessionRegistry:
    """``shards`` in the order in which ``shard_of`` numbers them. ``step_end`` is entered for every
    step that tells sessions something, so that what it told one leaves together."""

    def __init__(self, shards: Sequence[Address[Any]], clock: Clock) -> None:
        self._shards = shards
        self._clock = clock
        self._listeners: dict[int, tuple[int, Listener]] = {}
        self._last_id = 0
        self._given_back_total = 0
        self._failed_total = 0
        self._stopping: EngineStops | None = None
        self.step_end = StepEnd()
        self._changed = trio.Event()

    def shard(self, tenant_id: str) -> Address[Any]:
        """Where a session of this tenant speaks to."""
        return self._shards[shard_of(tenant_id, len(self._shards))]

    def enlist(self, tenant_id: str, listener: Listener) -> int:
        """Number a session; it hears of its shard until it is dismissed."""
        self._last_id += 1
        self._listeners[self._last_id] = (shard_of(tenant_id, len(self._shards)), listener)
        if len(self._listeners) == 1:
            self._change()
        return self._last_id

    def dismiss(self, session_id: int) -> None:
        if self._listeners.pop(session_id, None) is not None and not self._listeners:
            self._change()

    @property
    def stopping(self) -> EngineStops | None:
        """Set once the node is going down; sessions that open later are to hear it first."""
        return self._stopping

    def deliver(self, session_id: int, message: FromShard) -> None:
        """Hand on what a shard says; never waits, never raises."""
        found = self._listeners.get(session_id)
        if found is not None:
            found[1].hear(message)
        elif type(message) is Granted:
            self.give_back(session_id, message.leases)

    def shard_restarted(self, shard: int) -> None:
        """Tell every session of this shard to attach again; call it when the shard is ready."""
        for number, listener in list(self._listeners.values()):
            if number == shard:
                listener.hear(ShardRestarted())

    def failed(self) -> None:
        """Count a session that a programmer error ended."""
        self._failed_total += 1

    def statistics(self) -> SessionStatistics:
        return SessionStatistics(
            len(self._listeners), self._last_id, self._given_back_total, self._failed_total
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the sessions' time, until cancelled."""
        task_status.started()
        while True:
            while self._listeners:
                await trio.sleep(_TICK_S)
                mono = trio.current_time()
                for _, listener in list(self._listeners.values()):
                    listener.tick(mono)
            await self._changed.wait()

    async def stop(self, within_s: float) -> None:
        """Ask every worker to finish or release what it holds, and wait until their sessions have
        closed, at most about ``within_s``. ``run`` must be running. Cancelled: they go on closing.
        """
        deadline_at = self._clock.moment().at + round(within_s * SECOND)
        self._stopping = EngineStops(deadline_at=deadline_at)
        for _, listener in list(self._listeners.values()):
            listener.hear(self._stopping)
        with trio.move_on_after(within_s + 2 * _TICK_S):
            while self._listeners:
                await self._changed.wait()

    def give_back(self, session_id: int, leases: Sequence[Grant]) -> None:
        """Hand back leases that were granted to this session and that nobody will hear of."""
        shard = self.shard(leases[0].job.tenant_id)
        back = [
            GivenBack(lease_id=grant.lease_id, token=grant.token, reason="session gone")
            for grant in leases
        ]
        shard.deliver(Reports(session_id=session_id, reports=back))
        self._given_back_total += len(back)

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def brief_attach(
    session_id: int,
    tenant_id: str,
    worker_id: str,
    *,
    task_runner_id: str | None = None,
    queues: frozenset[str] = frozenset(),
    job_types: frozenset[str] = frozenset(),
    capacity: int = 0,
) -> AttachBriefly:
    """A session for one request; by itself it takes no leases."""
    return AttachBriefly(
        session_id=session_id,
        tenant_id=tenant_id,
        worker_id=worker_id,
        task_runner_id=task_runner_id or worker_id,
        queues=queues,
        job_types=job_types,
        capacity=capacity,
    )
