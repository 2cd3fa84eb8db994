"""The worker's side of the protocol: which frames to send, which handlers to run and stop.

A synchronous machine. Its surroundings tell it what happened (`connected`, `receive`, `post`,
`tick`, `disconnected`, `begin_drain`, `release_all`) with the monotonic time in seconds, and then
take what it wants: `frames()` to send and `commands()` to perform, in order.

A *report* is a message that must not be lost: complete, fail, release, artifact, watermark.

Invariants
    I1  At most `capacity` handlers run, abandoned ones included.
    I2  A report is sent again after every reconnect, in order, until it is acked or refused; an
        outcome that is refused for a reason that passes, after a while, too.
    I3  A lease has at most one outcome, and nothing about a lease follows its outcome.
    I4  `hello` names every lease that is held, waiting, or reported and not settled; no other.
    I5  Nothing but `hello` is sent before `welcome`.
    I6  Once draining, no handler starts; once `finished`, nothing is held or unsettled unless
        the final deadline has passed.

Deliberately not here: what becomes of a lease (`leases`); sockets, threads, clocks and chance
(`transport`, `worker`).
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import Final, Literal, TypeAlias, assert_never

from jobengine.sdk.commands import Command, HangUp, SessionConfig, SignOfLife, Stopped
from jobengine.sdk.leases import Leases
from jobengine.sdk.outbox import Outbox, Outcome
from jobengine.sdk.slots import Slots
from jobengine.wire.engine_messages import (
    Ack,
    Cancel,
    DrainNotice,
    ErrorFrame,
    Lease,
    Nack,
    Redirect,
    Welcome,
)
from jobengine.wire.frames import Malformed, decode_engine_frame
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Complete,
    Drain,
    Fail,
    Heartbeat,
    Hello,
    LeaseRef,
    Log,
    Progress,
    Release,
    Throttled,
    Watermark,
)

Posted: TypeAlias = (
    Outcome | Stopped | Log | Progress | ArtifactNote | Throttled | Watermark | SignOfLife
)
HEARTBEAT_S_MIN: Final = 0.05
IDLE_BEATS: Final = 3
FINAL_S: Final = 5.0


class WorkerSession:
    """See the module. `jitter` draws from [0, 1) and spreads reconnects."""

    def __init__(self, config: SessionConfig, jitter: Callable[[], float]) -> None:
        self.config = config
        self.state: Literal["offline", "greeting", "online"] = "offline"
        self.dial_at = -inf
        self.redirect_url: str | None = None
        self.welcomed_ever = False
        self.finished = False
        self._jitter = jitter
        stall_s = inf if config.stall_s is None else config.stall_s
        self._slots = Slots(config.capacity, config.timeouts_s, stall_s)
        self._outbox = Outbox(config.offline_logs_max, config.progress_every_s)
        self._leases = Leases(config, self._slots, self._outbox)
        self._dials_failed = 0
        self._greeted_by = inf
        self._heard_at = self._beat_sent_at = -inf
        self._session_beat_s = self._beat_s = 10.0
        self._beat_at = inf
        self._beat_ref: int | None = None
        self._drain_at = self._final_at = inf
        self._drain_ref: int | None = None
        self._drain_acked = False

    def frames(self) -> list[str]:
        """Text frames to send, in order; empties the outbox."""
        return self._leases.frames()

    def commands(self) -> list[Command]:
        """Commands to perform, in order; empties the list."""
        return self._leases.take_commands()

    @property
    def wakeup_at(self) -> float:
        """When `tick` next has something to do, in the time given to the inputs."""
        at = min(self._slots.check_at, self._drain_at, self._final_at)
        if self.state == "online":
            return min(at, self._beat_at, self._outbox.progress_due_at, self._outbox.repeat_at)
        return min(at, self._greeted_by) if self.state == "greeting" else at

    @property
    def draining(self) -> bool:
        """Whether no more leases are taken."""
        return self._leases.draining

    @property
    def running(self) -> int:
        """Slots in use, abandoned handlers included."""
        return len(self._slots.held)

    @property
    def unsettled(self) -> int:
        """Reports the engine has not answered."""
        return len(self._outbox)

    def connected(self, now: float) -> None:
        """A connection is open: greet, and name what is held (I4)."""
        self.state = "greeting"
        self._heard_at = now
        self._greeted_by = now + self.config.greeting_s_max
        resume = self._slots.resumable() | dict(self._outbox.reported())
        config = self.config
        self._outbox.greet(
            Hello(
                worker_id=config.worker_id,
                task_runner_id=config.task_runner_id,
                capacity=config.capacity,
                queues=list(config.queues),
                job_types=list(config.job_types),
                labels=dict(config.labels),
                sdk=config.sdk,
                resume=[LeaseRef(lease_id, token) for lease_id, token in resume.items()],
                auto_credit=True,
            )
        )

    def disconnected(self, now: float) -> None:
        """The connection is gone or could not be opened; `dial_at` says when to try again."""
        self.state = "offline"
        self._outbox.close()
        self._beat_ref = None
        config = self.config
        self._dials_failed += 1
        ceiling_s = config.reconnect_base_s * 2.0 ** min(self._dials_failed - 1, 30)
        self.dial_at = now + self._jitter() * min(config.reconnect_max_s, ceiling_s)
        self._settle_drain(now)

    def receive(self, data: str | bytes, now: float) -> None:
        """A frame arrived."""
        self._heard_at = now
        for message in decode_engine_frame(data):
            # The most frequent first: each case is one look at the type.
            match message:
                case Lease():
                    self._leased(message, now)
                case Ack():
                    if self._outbox.settle(message.ref) is None:
                        self._acked(message, now)
                case Nack() | ErrorFrame():
                    self._leases.refused(message, now)
                case Cancel():
                    self._leases.cancel(message, now)
                case Welcome():
                    self._welcomed(message, now)
                case Redirect():
                    self.redirect_url = message.url
                    self._leases.commands.append(HangUp(f"redirected to {message.url}"))
                case DrainNotice():
                    self._leases.notice(
                        "info", f"the engine asks to drain until {message.deadline}"
                    )
                case Malformed():
                    if message.code != "UNKNOWN_OP":
                        self._leases.notice("warning", f"unreadable message: {message.message}")
                case _:
                    assert_never(message)
        self._settle_drain(now)

    def _leased(self, lease: Lease, now: float) -> None:
        if not self._leases.take(lease, now):
            return
        if lease.heartbeat_seconds < self._beat_s:
            self._beat_s = max(lease.heartbeat_seconds, HEARTBEAT_S_MIN)
        self._beat_at = min(self._beat_at, now + self._beat_s)

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        self.state = "online"
        self.welcomed_ever = True
        self._dials_failed = 0
        self._greeted_by = inf
        self._session_beat_s = self._beat_s = max(welcome.heartbeat_seconds, HEARTBEAT_S_MIN)
        self._beat_at = now + self._beat_s
        for lease_id in welcome.lost:
            self._leases.lose(lease_id, now)
        self._outbox.reopen()
        if self.draining:
            self._drain_ref = self._outbox.ask(Drain())
        else:
            self._leases.grant()

    def post(self, messages: Iterable[Posted], now: float) -> None:
        """Handlers said this, in this order; what abandoned ones say is dropped (I3)."""
        for message in messages:
            match message:
                case Complete() | Fail() | Release() | Stopped():
                    self._leases.ended(message)
                case SignOfLife():
                    self._slots.alive(message.lease_id, now)
                    if message.renew and not self._is_unanswered:
                        soonest = max(now, self._beat_sent_at + HEARTBEAT_S_MIN)
                        self._beat_at = min(self._beat_at, soonest)
                case Log() | Progress() | ArtifactNote() | Throttled() | Watermark():
                    self._leases.noted(message, now)
                case _:
                    assert_never(message)
        self._leases.start_waiting(now)
        self._settle_drain(now)

    def _acked(self, ack: Ack, now: float) -> None:
        """The engine answered what is no report."""
        if ack.ref is None:
            return
        if ack.ref == self._beat_ref:
            self._beat_ref = None
        elif ack.ref == self._drain_ref:
            self._drain_acked = True
        for lease_id in ack.stop:
            self._leases.stop(lease_id, "cancelled", now + self.config.grace_s)
        for lease_id in ack.lost:
            self._leases.lose(lease_id, now)

    def tick(self, now: float) -> None:
        """Do what has become due; harmless at any time."""
        self._leases.check(now)
        if self.state == "online":
            self._outbox.flush_progress(now)
            self._outbox.repeat_put_off(now)
            if now >= self._beat_at:
                self._beat(now)
        elif self.state == "greeting" and now >= self._greeted_by:
            self._greeted_by = inf
            self._leases.commands.append(HangUp("no welcome in time"))
        if now >= self._drain_at:
            self._drain_at = inf
            for lease_id in self._slots.active():
                self._leases.stop(lease_id, "drain", now + self.config.grace_s)
        self._settle_drain(now)

    @property
    def _is_unanswered(self) -> bool:
        return self._beat_ref is not None and self._heard_at < self._beat_sent_at

    def _beat(self, now: float) -> None:
        if self._is_unanswered:
            self._beat_at = inf
            self._leases.commands.append(HangUp("the engine fell silent"))
            return
        busy = bool(self._slots.held or self._slots.waiting or self._outbox)
        if not busy:
            self._beat_s = self._session_beat_s
        self._beat_ref = self._outbox.ask(Heartbeat())
        self._beat_sent_at = now
        self._beat_at = now + (self._beat_s if busy else IDLE_BEATS * self._beat_s)

    def begin_drain(self, now: float) -> None:
        """Take no more leases; finish what runs within `drain_timeout_s`, then stop and release.

        The engine's ack of `drain` comes behind every lease it has sent, so waiting for it
        leaves none behind on the wire.
        """
        if self.draining:
            return
        self._leases.draining = True
        self._drain_at = now + self.config.drain_timeout_s
        self._final_at = self._drain_at + self.config.grace_s + FINAL_S
        self._drain_ref = self._outbox.ask(Drain())
        self._leases.release_waiting()
        self._settle_drain(now)

    def release_all(self, now: float) -> None:
        """Stop every handler and release its lease at once, without a grace."""
        self.begin_drain(now)
        self._drain_at = inf
        self._final_at = now + FINAL_S
        for lease_id in self._slots.active():
            self._leases.stop(lease_id, "drain", now)
            self._leases.abandon(lease_id)
        self._settle_drain(now)

    def _settle_drain(self, now: float) -> None:
        if self.draining and not self.finished:
            told = self._drain_acked or self.state == "offline"
            idle = told and not self._slots.active() and not self._outbox
            self.finished = idle or now >= self._final_at
