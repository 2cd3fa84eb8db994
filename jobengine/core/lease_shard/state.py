"""What a lease shard remembers, shared by its parts; no decision is made here.

A waiting job whose turn comes while somebody operates on it is *set aside*, and put back if the
operation leaves it waiting. Not here: what is owed after a commit (``pending``), what the watch
over sources is told (``source_watch``).
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from jobengine.core.lease_shard.alike import write_alike
from jobengine.core.lease_shard.backlogs import Backlogs
from jobengine.core.lease_shard.draft import ENGINE, Draft
from jobengine.core.lease_shard.fresh_jobs import FreshJobs
from jobengine.core.lease_shard.gates import Gates
from jobengine.core.lease_shard.kinds import Kind, Kinds
from jobengine.core.lease_shard.known_runs import KnownRuns
from jobengine.core.lease_shard.lane_changes import LaneChanges
from jobengine.core.lease_shard.leases import LeaseTable, Phase
from jobengine.core.lease_shard.limits import ShardLimits
from jobengine.core.lease_shard.occupancy import Occupancy
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.proposals import Proposals
from jobengine.core.lease_shard.run_ends import ends_of
from jobengine.core.lease_shard.sessions import Session, SessionTable
from jobengine.core.lease_shard.sources import WatchedSource
from jobengine.core.lease_shard.waiting_room import Subject, WaitingRoom
from jobengine.core.window import BEFORE_ALL, Key, Tally, Window
from jobengine.domain.instant import SECOND, Moment
from jobengine.domain.job import Definition, Job
from jobengine.domain.rank import rank_of
from jobengine.domain.records import DueJob, Lane
from jobengine.messages.lease_shard import Actor
from jobengine.messages.rate_bucket import BucketState
from jobengine.messages.session import Settled, Tell
from jobengine.messages.shard_commands import Commit

__all__ = ["DUE_ENTRY_BYTES", "ENGINE", "JobFreed", "ShardLimits", "ShardState", "weight"]

_JOB_OVERHEAD_BYTES = 1024
_SLOWNESS = 2
DUE_ENTRY_BYTES = 128
_INCARNATION_SHIFT = 40
_encoder = msgspec.json.Encoder()


@attrs.frozen
class JobFreed:
    """A job may be free for who waits for it."""

    tenant_id: str
    job_id: str


class ShardState:
    """Tables of one shard. ``now`` is the moment of the message being handled; ``ahead_us``, by how
    much it is ahead of a wall clock that was set back.

    Stamps begin above those of every earlier incarnation, so that a late answer to a predecessor
    is never taken for one's own.
    """

    def __init__(self, shard: int, limits: ShardLimits, incarnation: int) -> None:
        self.shard = shard
        self.limits = limits
        self.now = Moment(0.0, 0)
        self.ahead_us = 0
        self.leases = LeaseTable()
        self.sessions = SessionTable()
        self.lanes: dict[Lane, Window[Job]] = {}
        self.ready = Tally()
        self.lane_changes = LaneChanges()
        self.lanes_by_topic: dict[tuple[str, str, str], dict[Lane, None]] = {}
        self.delayed: Window[Job] = Window(
            limits.due_jobs_max, limits.lane_bytes_max, horizon=BEFORE_ALL
        )
        self.expiring: Window[DueJob] = Window(
            limits.due_jobs_max, limits.lane_bytes_max, horizon=BEFORE_ALL
        )
        self.pending: dict[int, Pending] = {}
        self.deciding: dict[str, list[tuple[Draft, Pending]]] = {}
        self.operating: set[str] = set()
        self.set_aside: dict[str, Job] = {}
        self.deferred: dict[str, deque[Any]] = {}
        self.outcomes: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self.backlogs = Backlogs()
        self.runs = KnownRuns()
        self.fresh_jobs = FreshJobs(limits.fresh_bytes_max)
        self.kinds = Kinds(limits.idle_kinds_max)
        self.occupancy = Occupancy(self.kinds)
        self.gates = Gates(self.kinds, self.occupancy)
        self.proposals = Proposals(self.gates, self.stamp)
        self.waiting_room = WaitingRoom(limits.parked_jobs_max)
        self.opened: dict[Lane, None] = {}
        self.freed: dict[int, Session] = {}
        self.freed_places: dict[Subject, int] = {}
        self.first_starts: dict[WatchedSource, int] = {}
        self.touched: dict[str, None] = {}
        self.commands: list[Any] = []
        self.reading_lanes: dict[int, Lane] = {}
        self._last_stamp = incarnation << _INCARNATION_SHIFT

    def take_time(self, now: Moment) -> None:
        """Instants never go back: they go at half the pace while a wall clock that was set back
        catches up."""
        wall_at = now.at
        if now.at < self.now.at:
            passed_us = max(0, round((now.mono - self.now.mono) * SECOND))
            at = max(now.at, self.now.at + (passed_us + 1) // _SLOWNESS)
            self.waiting_room.lost_us += self.now.at + passed_us - at
            now = Moment(now.mono, at)
        self.now = now
        self.ahead_us = now.at - wall_at

    @property
    def wall_at(self) -> int:
        """What the wall clock shows, by which rate buckets go."""
        return self.now.at - self.ahead_us

    def stamp(self) -> int:
        self._last_stamp += 1
        return self._last_stamp

    def draft(self, tenant_id: str, actor: Actor) -> Draft:
        return Draft(tenant_id, self.shard, actor, self.now, self.limits.ageing_us)

    def commit(self, draft: Draft, pending: Pending) -> None:
        """Send a draft on its way; ``pending`` is settled when it returns.

        While a large change of its tenant is being decided it leaves behind that.
        """
        beside = self.deciding.get(draft.changes.tenant_id)
        if beside is not None:
            beside.append((draft, pending))
            return
        write_alike(draft)
        for change in pending.source_changes:
            draft.remark(change.kind, change.data)
            draft.keep_state(change.state_name, change.state)
        if draft.node_ends:
            pending.commands.extend(ends_of(draft.node_ends))
        self.backlogs.grow(draft.changes.tenant_id, draft.waiting)
        self.touch(draft.changes.tenant_id)
        stamp = self.stamp()
        pending.tenant_id = draft.changes.tenant_id
        self.pending[stamp] = pending
        self.commands.append(Commit(stamp=stamp, changes=draft.changes))

    def touch(self, tenant_id: str) -> None:
        """Something may have changed in what a tenant runs or could run."""
        if self.gates.allotments is not None:
            self.touched[tenant_id] = None

    def defer(self, job_id: str, message: Any) -> None:
        """Handle a message again when the change of this job that is in flight has settled."""
        self.deferred.setdefault(job_id, deque()).append(message)

    def is_busy(self, job_id: str) -> bool:
        """Whether a change of this job is in flight, or somebody operates on it."""
        lease = self.leases.of_job(job_id)
        return (
            job_id in self.operating
            or self.proposals.holds(job_id)
            or (lease is not None and lease.phase is not Phase.LIVE)
        )

    def release(self, tenant_id: str, job_id: str) -> list[Any]:
        """A change of this job has settled: who waits for it goes on, one by one."""
        return [JobFreed(tenant_id, job_id)] if job_id in self.deferred else []

    def go_on(self, freed: JobFreed) -> list[Any]:
        """The first message that waits for a job may be handled, if the job is free; then the next,
        if it still is."""
        waiting = self.deferred.get(freed.job_id)
        if waiting is None or self.is_busy(freed.job_id):
            return []
        first = waiting.popleft()
        if waiting:
            return [first, freed]
        del self.deferred[freed.job_id]
        return [first]

    def free(self, session: Session) -> None:
        """A session may have slots again: if so it is offered what waits, in this very message. It
        may have been asking before, without any."""
        if session.slots > 0:
            self.sessions.ask(session)
            self.freed[session.session_id] = session

    def tell(self, session: Session, said: Any) -> None:
        self.commands.append(Tell(session_id=session.session_id, message=said))

    def tell_settled(self, pending: Pending) -> None:
        """Tell each session what became of its reports."""
        for session_id in {**pending.acks, **pending.nacks}:
            settled = Settled(
                acks=pending.acks.get(session_id, ()), nacks=pending.nacks.get(session_id, ())
            )
            self.commands.append(Tell(session_id=session_id, message=settled))

    def lease_now_s(self) -> float:
        return self.leases.now_s(self.now.mono)

    # ---- ready work

    def kind_of(self, job: Job) -> Kind:
        return self.kinds.of(job.tenant_id, job.definition)

    def lane_of(self, job: Job) -> Lane:
        return self.kinds.of(job.tenant_id, job.definition).lane

    def lane_for(self, tenant_id: str, definition: Definition) -> Lane:
        return self.kinds.of(tenant_id, definition).lane

    def key_of(self, job: Job) -> tuple[int, str]:
        rank = rank_of(job.due_at, job.definition.priority, self.limits.ageing_us)
        return rank, job.job_id

    def window(self, lane: Lane) -> Window[Job]:
        window = self.lanes.get(lane)
        return self.open_lane(lane, None) if window is None else window

    def open_lane(self, lane: Lane, horizon: tuple[int, str] | None) -> Window[Job]:
        jobs_max, bytes_max = self.limits.lane_jobs_max, self.limits.lane_bytes_max
        window: Window[Job] = Window(
            jobs_max,
            bytes_max,
            horizon=horizon,
            tally=self.ready,
            on_change=self.lane_changes.noting(lane),
        )
        self.lanes[lane] = window
        self.lane_changes.note(lane)
        for topic in _topics(lane):
            self.lanes_by_topic.setdefault(topic, {})[lane] = None
        return window

    def close_lane_if_drained(self, lane: Lane) -> None:
        """Forget a lane that holds nothing; absent means that there is nothing in the store."""
        window = self.lanes.get(lane)
        if window is None or not window.drained:
            return
        del self.lanes[lane]
        self.waiting_room.reopen(lane)
        self.proposals.forget_lane(lane)
        for topic in _topics(lane):
            lanes = self.lanes_by_topic[topic]
            del lanes[lane]
            if not lanes:
                del self.lanes_by_topic[topic]
        of_tenant = self.lanes_by_topic.get((lane.tenant_id, "any", ""), ())
        self.lane_changes.note_gone(lane, len(of_tenant))

    def place(self, job: Job) -> Lane | None:
        """Put a scheduled job where it waits; its lane, when it is ready now."""
        size = weight(job)
        self.place_expiry(job)
        if job.is_delayed(self.now.at):
            self.delayed.offer((job.due_at, job.job_id), job, size)
            return None
        lane = self.lane_of(job)
        self.window(lane).offer(self.key_of(job), job, size)
        return lane

    def place_expiry(self, job: Job) -> None:
        """Watch for the expiry of a job that has never started."""
        at = job.definition.expires_at
        if at is not None and job.attempt == 0:
            due = DueJob(at, job.tenant_id, job.job_id)
            self.expiring.offer((at, job.job_id), due, DUE_ENTRY_BYTES)

    def has_left(self, job_id: str) -> bool:
        """Whether a scheduled job is no more in a window: a read may tell of it, and have it leave,
        before the commit that placed it has returned."""
        return (
            self.leases.of_job(job_id) is not None
            or self.proposals.holds(job_id)
            or self.waiting_room.holds(job_id)
        )

    @property
    def reads_waiting(self) -> bool:
        """Whether waiting jobs are being read."""
        return self.delayed.stamp is not None or bool(self.reading_lanes)

    def outdate(self, job: Job) -> None:
        """What is being read may show this job waiting, as it did before the lease that ends."""
        if self.delayed.stamp is not None:
            self.delayed.discard(job.job_id)
        if self.reading_lanes:
            window = self.lanes.get(self.lane_of(job))
            if window is not None and window.stamp is not None:
                window.discard(job.job_id)

    def displace(self, job: Job) -> None:
        """Take a job out of wherever it waits."""
        lane = self.lane_of(job)
        self._hand_on(self.waiting_room.forget(job.job_id))
        window = self.lanes.get(lane)
        if window is not None:
            window.discard(job.job_id)
            self.close_lane_if_drained(lane)
        self.delayed.discard(job.job_id)
        if job.definition.expires_at is not None:
            self.expiring.discard(job.job_id)

    # ---- what waits at gates

    def park(self, lane: Lane, job: Job, subject: Subject, opens_at: int | None) -> None:
        """Put a job aside that a gate of its own keeps from starting."""
        key = self.key_of(job)
        self._hand_on(self.waiting_room.park(lane, key, job, subject, opens_at))

    def put_back(self, lane: Lane, job: Job) -> None:
        """A ready job that was out of its lane waits in it again."""
        self.window(lane).offer(self.key_of(job), job, weight(job))

    def open_subject(self, subject: Subject) -> None:
        """A gate may have opened: whatever waits for it is looked at again in this message."""
        if self.waiting_room:
            self._let_out(self.waiting_room.open(subject))

    def open_tenant(self, tenant_id: str) -> None:
        """Controls have changed: look at everything again that waits at a gate of this tenant."""
        for subject in self.waiting_room.subjects_of(tenant_id):
            self._let_out(self.waiting_room.open(subject))

    def keep_buckets(self, draft: Draft, states: Mapping[str, BucketState]) -> None:
        """Store where buckets stand, with the grants that took from them."""
        for key, bucket in states.items():
            draft.keep_state(f"rate:{key}", _encoder.encode(bucket))

    def let_go(self, job: Job) -> None:
        """A job holds its places no longer; who waits for one of them is looked at again."""
        parts = self.occupancy.let_go(job)
        if self.waiting_room:
            for subject in self.gates.subjects_freed(parts):
                self.free_places(subject, 1)

    def free_places(self, subject: Subject, places: int) -> None:
        """So many of those who wait for a place may have one: each parked job that is first in its
        lane is looked at again, and of closed lanes as many (``freed_places``)."""
        if self.waiting_room.closes_lanes(subject):
            self.freed_places[subject] = self.freed_places.get(subject, 0) + places
        self._let_out(self.waiting_room.open_parked(subject))

    def reopen(self, lane: Lane) -> None:
        """A closed lane is looked at again."""
        self.waiting_room.reopen(lane)
        self.look_again(lane)

    def _hand_on(self, chance: tuple[Subject, Lane] | None) -> None:
        if chance is not None:
            self._let_out(self.waiting_room.open_next(*chance))

    def _let_out(self, opened: Sequence[tuple[Lane, Key, Job | None]]) -> None:
        for lane, _, job in opened:
            if job is not None:
                self.put_back(lane, job)
            self.look_again(lane)

    def look_again(self, lane: Lane) -> None:
        """A lane may be served again: it is offered to whoever asks, in this very message."""
        self.opened[lane] = None
        self.lane_changes.note(lane)

    def bound_windows(self) -> None:
        """Keep all lanes together within their bound: those nobody asks for are let go first."""
        if self.ready.items <= self.limits.window_jobs_max:
            return
        order = sorted(
            self.lanes.items(),
            key=lambda item: (self.sessions.wanted(item[0]), -len(item[1]), item[0]),
        )
        for _, window in order:
            if self.ready.items <= self.limits.window_jobs_max // 2:
                break
            window.evict()

    def remember_outcome(self, lease_id: str, outcome: tuple[str, bytes]) -> None:
        self.outcomes[lease_id] = outcome
        if len(self.outcomes) > self.limits.outcomes_max:
            self.outcomes.popitem(last=False)


def weight(job: Job) -> int:
    """Bytes a job in memory is taken to cost."""
    return _JOB_OVERHEAD_BYTES + len(job.payload) + len(job.definition_json)


def _topics(lane: Lane) -> Sequence[tuple[str, str, str]]:
    return (
        (lane.tenant_id, "queue", lane.queue),
        (lane.tenant_id, "type", lane.job_type),
        (lane.tenant_id, "any", ""),
    )
