"""The session against a model engine, with the connection dropped at any moment."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobengine.sdk.commands import (
    AbandonJob,
    HangUp,
    SessionConfig,
    StartJobs,
    StopJob,
    Stopped,
)
from jobengine.sdk.outbox import REPEAT_S_MAX
from jobengine.sdk.session import WorkerSession
from jobengine.wire.engine_messages import Ack, Cancel, Lease, Nack, Welcome
from jobengine.wire.frames import decode_engine_frame, decode_worker_frame, encode_frame
from jobengine.wire.jobs import JobFailure
from jobengine.wire.worker_messages import Complete, Fail, Hello, Release
from tests.sdk.model import EngineModel, cancel, lease

CAPACITY = 3
ENDINGS = ("complete", "fail", "release")


class DroppedConnections(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = SessionConfig(
            worker_id="w", capacity=CAPACITY, job_types=("noop",), stall_s=40.0, grace_s=2.0
        )
        self.session = WorkerSession(config, jitter=lambda: 0.5)
        self.engine = EngineModel()
        self.now = 0.0
        self.online = False
        self.up: deque[str] = deque()
        self.down: deque[str] = deque()
        self.handlers: dict[str, bool] = {}
        self.started: list[str] = []
        self.ended: set[str] = set()
        self.abandoned: set[str] = set()
        self.serial = 0
        # What the worker was told and has said, by lease id, kept apart from the session.
        self.delivered: set[str] = set()
        self.settled: set[str] = set()
        self.lost: set[str] = set()
        self.posted: set[str] = set()
        self.leases_by_ref: dict[object, str] = {}

    def settle(self) -> None:
        for command in self.session.commands():
            match command:
                case StartJobs():
                    for granted in command.leases:
                        self.started.append(granted.lease_id)
                        self.handlers[granted.lease_id] = False
                case StopJob():
                    assert self.handlers[command.lease_id] is False, "a handler is stopped once"
                    self.handlers[command.lease_id] = True
                case AbandonJob():
                    self.abandoned.add(command.lease_id)
                    if command.reason != "lost":
                        self.posted.add(command.lease_id)
                case HangUp():
                    self.disconnect()
        if not self.online:
            return
        for frame in self.session.frames():
            self.up.append(frame)
            for message in decode_worker_frame(frame):
                if isinstance(message, Complete | Fail | Release):
                    self.leases_by_ref[message.ref] = message.lease_id

    def disconnect(self) -> None:
        self.online = False
        self.up.clear()
        self.down.clear()
        self.session.disconnected(self.now)

    @precondition(lambda self: not self.online)
    @rule()
    def connect(self) -> None:
        self.now = max(self.now, self.session.dial_at)
        self.online = True
        self.session.connected(self.now)
        self.settle()
        self.hello_names_exactly_what_may_still_be_ours()

    def hello_names_exactly_what_may_still_be_ours(self) -> None:
        [hello] = decode_worker_frame(self.up[-1])
        assert isinstance(hello, Hello)
        named = [item.lease_id for item in hello.resume]
        assert len(named) == len(set(named))
        assert set(named) == self.delivered - self.settled - (self.lost - self.posted)

    @precondition(lambda self: self.online)
    @rule()
    def drop(self) -> None:
        self.disconnect()

    @precondition(lambda self: self.up)
    @rule()
    def engine_reads(self) -> None:
        if answers := self.engine.receive(self.up.popleft()):
            self.down.append(encode_frame(answers))

    @precondition(lambda self: self.down)
    @rule()
    def worker_reads(self) -> None:
        frame = self.down.popleft()
        for message in decode_engine_frame(frame):
            match message:
                case Lease():
                    self.delivered.add(message.lease_id)
                case Welcome():
                    self.lost.update(message.lost)
                case Nack(code="STORE_UNAVAILABLE"):
                    pass
                case Ack() | Nack():
                    self.settled.add(self.leases_by_ref.get(message.ref, ""))
                case Cancel():
                    if message.lease_id in self.delivered - set(self.started):
                        self.posted.add(message.lease_id)
        self.session.receive(frame, self.now)
        self.settle()

    @initialize()
    def begin(self) -> None:
        self.connect()
        self.pump()

    @precondition(lambda self: self.up or self.down)
    @rule()
    def pump(self) -> None:
        while self.up or self.down:
            if self.up:
                self.engine_reads()
            else:
                self.worker_reads()

    @precondition(lambda self: self.online)
    @rule(leases=st.integers(1, CAPACITY))
    def grant_and_deliver(self, leases: int) -> None:
        for _ in range(leases):
            self.grant()
        self.pump()

    @precondition(lambda self: self.online)
    @rule()
    def grant(self) -> None:
        self.serial += 1
        if (frame := self.engine.grant(lease(f"l{self.serial}", timeout_seconds=60))) is not None:
            self.down.append(frame)

    @precondition(lambda self: self.handlers)
    @rule(pick=st.integers(0, 9), ending=st.sampled_from(ENDINGS))
    def handler_ends(self, pick: int, ending: str) -> None:
        lease_id = sorted(self.handlers)[pick % len(self.handlers)]
        self.end(lease_id, ending)

    def end(self, lease_id: str, ending: str) -> None:
        stopped = self.handlers.pop(lease_id)
        self.ended.add(lease_id)
        outcome: Complete | Fail | Release | Stopped
        if stopped and ending == "release":
            outcome = Stopped(lease_id)
        elif ending == "complete":
            outcome = Complete(lease_id=lease_id, token=1)
        elif ending == "fail":
            outcome = Fail(lease_id=lease_id, token=1, error=JobFailure(class_="E", message="m"))
        else:
            outcome = Release(lease_id=lease_id, token=1, reason="snooze")
        said = not isinstance(outcome, Stopped) or lease_id not in self.lost
        if said and lease_id not in self.abandoned:
            self.posted.add(lease_id)
        self.session.post([outcome], self.now)
        self.settle()

    @precondition(lambda self: self.engine.live and self.online)
    @rule(pick=st.integers(0, 9))
    def engine_cancels(self, pick: int) -> None:
        self.down.append(cancel(sorted(self.engine.live)[pick % len(self.engine.live)]))

    @precondition(lambda self: self.engine.live)
    @rule(pick=st.integers(0, 9))
    def lease_expires(self, pick: int) -> None:
        self.engine.expire(sorted(self.engine.live)[pick % len(self.engine.live)])

    @rule(away=st.booleans())
    def store_goes_or_comes_back(self, away: bool) -> None:
        self.engine.store_away = away

    @rule(seconds=st.sampled_from([0.1, 3.0, 20.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.settle()

    @invariant()
    def no_more_handlers_run_than_there_are_slots(self) -> None:
        assert len(self.handlers) <= CAPACITY
        assert self.session.running == len(self.handlers)

    @invariant()
    def no_lease_is_started_twice(self) -> None:
        assert len(self.started) == len(set(self.started))

    @invariant()
    def no_lease_has_two_outcomes(self) -> None:
        assert all(len(outcomes) <= 1 for outcomes in self.engine.outcomes.values())

    def teardown(self) -> None:
        for lease_id in list(self.handlers):
            self.end(lease_id, "complete")
        if self.online:
            self.disconnect()
        self.connect()
        self.pump()
        self.engine.store_away = False
        while self.handlers:
            self.end(min(self.handlers), "complete")
            self.pump()
        self.time_passes(REPEAT_S_MAX)
        self.pump()
        assert self.session.unsettled == 0
        reported = {name for name, outcomes in self.engine.outcomes.items() if outcomes}
        assert set(self.started) - self.engine.expired <= reported


DroppedConnections.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None
)
TestDroppedConnections = DroppedConnections.TestCase
