"""Attachments: worker sessions that come, say how much they want, stay alive, and go.

I1  A lease is held by at most one session; a worker that returns takes its leases along.
I2  What a returning worker does not name it has never heard of, or has lost: it is given back.
I3  A drain is acknowledged behind every lease that is still on its way.
"""

from collections.abc import Sequence

from jobengine.core.lease_shard.endings import Endings
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.reports import Reporter
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ENGINE, ShardState
from jobengine.messages.session import AttachBriefly, Attached, Beaten, Settled, StopLease
from jobengine.messages.worker_reports import Attach, Beat, Detach, Drain, SetCredit

__all__ = ["Attachments"]


class Attachments:
    def __init__(
        self, state: ShardState, granter: Granter, reporter: Reporter, endings: Endings
    ) -> None:
        self._state = state
        self._granter = granter
        self._reporter = reporter
        self._endings = endings

    def attach(self, message: Attach) -> None:
        """Take in a session with the leases it still holds, and give back those it has lost."""
        state = self._state
        earlier = state.sessions.get(message.session_id)
        if earlier is not None:
            self._let_go(earlier)
        session = Session(
            session_id=message.session_id,
            tenant_id=message.tenant_id,
            worker_id=message.worker_id,
            task_runner_id=message.task_runner_id,
            queues=message.queues,
            job_types=message.job_types,
            capacity=message.capacity,
            auto_credit=message.auto_credit,
            beat_s=state.lease_now_s(),
            connected_at=message.connected_at or state.now.at,
            heard_at=state.now.at,
            brief=isinstance(message, AttachBriefly),
        )
        state.sessions.add(session)
        resumed, lost = [], []
        for claim in message.resume:
            lease = state.leases.find(claim.lease_id, claim.token)
            if lease is None or lease.job.tenant_id != message.tenant_id:
                lost.append(claim.lease_id)
                continue
            state.leases.hand_to(session, lease)
            resumed.append(claim.lease_id)
        self._state.tell(session, Attached(resumed=resumed, lost=lost))
        for lease in session.leases.values():
            if lease.job.cancel_requested_at is not None:
                stop = StopLease(
                    lease_id=lease.lease_id,
                    reason=lease.job.cancel_reason or "user_cancelled",
                    grace_s=state.limits.cancel_grace_s,
                )
                self._state.tell(session, stop)
        if not isinstance(message, AttachBriefly):
            self._give_back_unheard(session)

    def set_credit(self, message: SetCredit) -> None:
        """A session says how many leases more it wants."""
        session = self._state.sessions.get(message.session_id)
        if session is not None:
            session.credit = message.slots
            self._granter.serve_session(session)

    def beat(self, message: Beat) -> None:
        """Renew leases in memory; answer with those to stop and those that are lost."""
        state = self._state
        session = state.sessions.get(message.session_id)
        if session is None:
            return
        now_s = state.lease_now_s()
        session.heard_at = state.now.at
        lost: list[str] = []
        if message.leases is None:
            session.beat_s = now_s
            held = list(session.leases.values())
        else:
            held = []
            for claim in message.leases:
                lease = state.leases.find(claim.lease_id, claim.token)
                if lease is None or lease.job.tenant_id != session.tenant_id:
                    lost.append(claim.lease_id)
                else:
                    lease.renewed_s = now_s
                    held.append(lease)
        stop = [
            lease.lease_id
            for lease in held
            if lease.job.cancel_requested_at is not None and lease.job.job_id not in state.operating
        ]
        if message.progress:
            self._beat_progress(session, held, message.progress)
        self._state.tell(session, Beaten(ref=message.ref, stop=stop, lost=lost))

    def drain(self, message: Drain) -> None:
        """Grant no more; acknowledged behind every lease that is still on its way."""
        session = self._state.sessions.get(message.session_id)
        if session is None:
            return
        session.draining = True
        self._state.touch(session.tenant_id)
        for pending in reversed(self._state.pending.values()):
            if any(lease.session is session for lease in pending.grants):
                pending.ack(session.session_id, message.ref)
                return
        self._state.tell(session, Settled(acks=(message.ref,)))

    def detach(self, message: Detach) -> None:
        """A session is gone; its leases live on until they expire or are resumed."""
        session = self._state.sessions.get(message.session_id)
        if session is not None:
            self._let_go(session)

    def _let_go(self, session: Session) -> None:
        self._state.leases.let_go_of(session)
        self._state.sessions.remove(session)
        self._state.touch(session.tenant_id)

    def _give_back_unheard(self, session: Session) -> None:
        """Leases this worker was granted but does not name: their frames never reached it."""
        unheard = [
            lease
            for lease in self._state.leases.unheld_of(session.tenant_id, session.worker_id)
            if lease.phase is Phase.LIVE and lease.job.job_id not in self._state.operating
        ]
        if unheard:
            self._endings.give_back_all(unheard)

    def _beat_progress(
        self, session: Session, held: Sequence[Lease], progress: dict[str, bytes]
    ) -> None:
        state = self._state
        draft, pending = state.draft(session.tenant_id, ENGINE), Pending()
        for lease in held:
            note = progress.get(lease.lease_id)
            free = lease.phase is Phase.LIVE and lease.job.job_id not in state.operating
            if note is not None and free:
                self._reporter.progress(draft, pending, lease, note)
        if not draft.empty:
            state.commit(draft, pending)
