"""The roster: which workers of a tenant are attached, and which of them shall take no more.

A worker is known by its id; several connections under one id are one worker here. Whoever claims
over HTTP is attached for one request at a time and is no part of the roster, nor is a producer,
which has no capacity.

I1  A worker that is drained is granted nothing from the decision on; it hears of that, and the
    operator gets an answer, after the commit.

Not here: sessions that come and go (``attachments``), the claim of a request (``administration``).
"""

from collections.abc import Iterable, Sequence
from heapq import nsmallest

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.canonical import canonical_of
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.lease_shard import DrainWorker, ListWorkers, WorkerFacts, WorkersAnswer
from jobengine.messages.session import DrainAsked

__all__ = ["Roster"]


class Roster:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def list_workers(self, message: ListWorkers) -> None:
        """Answer at once, from memory."""
        sessions = self._sessions(message.tenant_id)
        if message.worker_id is not None:
            wanted = [message.worker_id]
        else:
            known = {each.worker_id for each in sessions if each.worker_id > message.after}
            wanted = nsmallest(message.workers_max, known)
        by_worker: dict[str, list[Session]] = {worker_id: [] for worker_id in wanted}
        for session in sessions:
            if session.worker_id in by_worker:
                by_worker[session.worker_id].append(session)
        workers = [_facts(found) for found in by_worker.values() if found]
        self._state.commands.append(Answer(message.ask_id, WorkersAnswer(workers=workers)))

    def drain(self, draft: Draft, pending: Pending, message: DrainWorker) -> Refusal | WorkerFacts:
        """Write the entry into an empty draft, and note whom to tell after the commit."""
        sessions = [
            session
            for session in self._sessions(message.tenant_id)
            if session.worker_id == message.worker_id
        ]
        if not sessions:
            return Refusal(
                ErrorCode.NOT_FOUND, "no such worker is attached here", {"path": "workerId"}
            )
        asked = DrainAsked(deadline_at=message.deadline_at)
        for session in sessions:
            session.draining = True
            pending.drains.append((session, asked))
        data = {"deadlineAt": message.deadline_at, "workerId": message.worker_id}
        draft.remark("worker.drain_requested", canonical_of(data))
        return _facts(sessions)

    def _sessions(self, tenant_id: str) -> Sequence[Session]:
        return [
            session
            for session in self._state.sessions.of_tenant(tenant_id)
            if session.capacity and not session.brief
        ]


def _facts(sessions: Sequence[Session]) -> WorkerFacts:
    """One worker's; who it says it is comes from the session that was attached last."""
    latest = sessions[-1]
    return WorkerFacts(
        worker_id=latest.worker_id,
        task_runner_id=latest.task_runner_id,
        queues=_all(session.queues for session in sessions),
        job_types=_all(session.job_types for session in sessions),
        capacity=sum(session.capacity for session in sessions),
        leases=sum(len(session.leases) for session in sessions),
        slots=sum(max(0, session.slots) for session in sessions),
        draining=all(session.draining for session in sessions),
        sessions=len(sessions),
        connected_at=min(session.connected_at for session in sessions),
        heard_at=max(session.heard_at for session in sessions),
    )


def _all(sets: Iterable[frozenset[str]]) -> list[str]:
    return sorted(frozenset[str]().union(*sets))
