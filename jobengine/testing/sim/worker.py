"""A worker of a simulated run: the SDK's own session on a simulated link, and handlers that do what
the fate in their job's payload says.

Faults of workers are the worker's own: it dies with all it holds, stalls, says a report twice, or
says it late, when its lease may long be another's.

I1  What a worker says and hears is in the journal, as it was on the wire.
I2  A worker that died comes back under the same name, knowing nothing.
I3  Whatever it is told to stop it stops; a lease has one outcome, but for faults.

Not here: decisions of the protocol (`sdk/session`), the link (`network`), fates (`fate`).
"""

import random
from math import inf
from typing import Any, Final

import msgspec
import trio

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.messages.session import SCOPE_SUBMIT, SCOPE_WORK, Peer
from jobengine.sdk.commands import HangUp, SessionConfig, StartJobs, StopJob, Stopped
from jobengine.sdk.session import Posted, WorkerSession
from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.fate import Fate
from jobengine.testing.sim.faults import Faults
from jobengine.testing.sim.handling import failure, outcome, slip
from jobengine.testing.sim.journal import Heard, Journal, Said
from jobengine.testing.sim.network import LinkEnd
from jobengine.testing.sim.trace import Trace
from jobengine.testing.sim.virtual_time import Alarm, set_alarm, sleep
from jobengine.testing.sim.world import World
from jobengine.wire.engine_messages import Lease
from jobengine.wire.worker_messages import Fail, Log, LogLine, Progress

__all__ = ["SimulatedWorker"]

_SCOPES: Final = frozenset({SCOPE_SUBMIT, SCOPE_WORK})
_LATE_S: Final = (20.0, 90.0)
_STALLS_S: Final = (5.0, 60.0)
_LIFE_S: Final = (0.5, 20.0)
_DRAINS: Final = 0.02
_AWAY_S: Final = (0.1, 5.0)
_INSTANT: Final = "2026-01-01T00:00:00Z"

_messages: Final = msgspec.json.Decoder(dict[str, Any] | list[dict[str, Any]])
_fate: Final = msgspec.json.Decoder(Fate)


class SimulatedWorker:
    """Serves one tenant until it is cancelled. Now and then it drains, also because the engine asks
    for it, and comes back after a while."""

    def __init__(
        self,
        worker_id: str,
        tenant_id: str,
        job_types: tuple[str, ...],
        *,
        world: World,
        chance: Chance,
        faults: Faults,
        journal: Journal,
        trace: Trace,
    ) -> None:
        self.worker_id = worker_id
        self.tenant_id = tenant_id
        self._job_types = job_types
        self._world = world
        self._dice = chance.fork("worker", worker_id)
        self._faults = faults
        self._journal = journal
        self._arrivals = journal.arrivals.setdefault(worker_id, [])
        self._trace = trace
        self._connections = 0
        self._handlers: trio.Nursery | None = None
        self._begin()

    async def run(self) -> None:
        """One life after the other."""
        while True:
            async with trio.open_nursery() as nursery:
                self._handlers = nursery
                nursery.start_soon(self._dial_again_and_again)
                nursery.start_soon(self._die_some_time, nursery.cancel_scope)
                await self._keep_time()
                nursery.cancel_scope.cancel()
            if self._session.finished:
                self._trace.note(self.worker_id, "drained")
                await sleep(self._dice.choice(_AWAY_S))
            self._begin()

    def drain(self) -> None:
        """Take no more leases, finish what runs, then end."""
        self._session.begin_drain(trio.current_time())
        self._go_on()

    def _begin(self) -> None:
        config = SessionConfig(
            worker_id=self.worker_id,
            capacity=self._dice.choice((1, 2, 5, 20)),
            job_types=self._job_types,
            stall_s=None,
            sdk="simulated",
        )
        self._session = WorkerSession(config, self._dice.random)
        self._handlers = None
        self._at_work: dict[str, trio.CancelScope] = {}
        self._conversation: trio.CancelScope | None = None
        self._link: LinkEnd | None = None
        self._is_asked_to_drain = False
        self._wake = trio.Event()
        self._wakes_at = inf
        self._alarm = Alarm(self._wake.set)

    # ---- time

    async def _keep_time(self) -> None:
        session = self._session
        try:
            while not session.finished:
                self._wake = trio.Event()
                if trio.current_time() >= session.wakeup_at:
                    session.tick(trio.current_time())
                self._go_on()
                self._wake_at(session.wakeup_at)
                await self._wake.wait()
        finally:
            self._alarm.cancel()

    def _wake_at(self, at: float) -> None:
        self._alarm.cancel()
        self._wakes_at = at
        self._alarm = set_alarm(at, self._wake.set)

    async def _die_some_time(self, life: trio.CancelScope) -> None:
        while not self._faults.healed:
            await sleep(self._dice.uniform(*_LIFE_S))
            if self._faults.strike("crash.worker", self._session.state):
                self._trace.note(self.worker_id, "dies", running=len(self._at_work))
                life.cancel()
            elif self._dice.random() < _DRAINS:
                self.drain()

    def _go_on(self) -> None:
        """Do what the session wants: its commands, its frames, and its wake-up if it is earlier."""
        session = self._session
        for command in session.commands():
            match command:
                case StartJobs() if self._handlers is not None:
                    for lease in command.leases:
                        self._handlers.start_soon(self._handle, lease)
                case StopJob() if command.lease_id in self._at_work:
                    self._at_work[command.lease_id].cancel()
                case HangUp() if self._conversation is not None:
                    self._conversation.cancel()
                case _:
                    pass
        if self._link is not None:
            self._write(self._link)
        if session.finished:
            self._wake.set()
        elif session.wakeup_at < self._wakes_at:
            self._wake_at(session.wakeup_at)

    # ---- the connection

    async def _dial_again_and_again(self) -> None:
        session = self._session
        while not session.finished:
            await sleep(session.dial_at - trio.current_time())
            peer = Peer(tenant_id=self.tenant_id, subject=self.worker_id, scopes=_SCOPES)
            try:
                link = self._world.open_link(self.worker_id, peer)
            except OSError:
                await trio.lowlevel.checkpoint()
            else:
                await self._converse(link)
            if not session.finished:
                session.disconnected(trio.current_time())
                self._go_on()

    async def _converse(self, link: LinkEnd) -> None:
        self._connections += 1
        self._link = link
        try:
            with trio.CancelScope() as self._conversation:
                self._session.connected(trio.current_time())
                self._go_on()
                await self._read(link)
        finally:
            self._conversation = self._link = None
            link.cut()

    async def _read(self, link: LinkEnd) -> None:
        while True:
            try:
                frame = await link.receive()
            except ChannelClosedError:
                return
            self._note(Heard, frame)
            self._session.receive(frame, trio.current_time())
            if self._is_asked_to_drain:
                self._session.begin_drain(trio.current_time())
            self._go_on()

    def _write(self, link: LinkEnd) -> None:
        """Send what the session has to say; on a link that has ended, leave the rest unsaid."""
        for frame in self._session.frames():
            repeats = self._faults.strike("worker.repeats", self._session.state)
            for _ in range(2 if repeats else 1):
                self._note(Said, frame)
                try:
                    link.put(frame)
                    self._arrivals.append(link.arrives_at)
                except ChannelClosedError:
                    if self._conversation is not None:
                        self._conversation.cancel()
                    return

    def _note(self, kind: type[Said] | type[Heard], frame: str | bytes) -> None:
        found = _messages.decode(frame)
        lines = self._journal.said if kind is Said else self._journal.heard
        for message in found if isinstance(found, list) else [found]:
            line = kind(
                at=trio.current_time(),
                worker_id=self.worker_id,
                connection=self._connections,
                tenant_id=self.tenant_id,
                message=message,
            )
            if message["op"] == "drain" and kind is Heard:
                self._is_asked_to_drain = True
            lines.append(line)  # type: ignore[arg-type] # the list is that of the kind
            self._trace.note(
                self.worker_id,
                f"{kind.__name__.lower()} {message['op']}",
                lease=message.get("leaseId"),
                ref=message.get("ref"),
            )

    # ---- handlers

    async def _handle(self, lease: Lease) -> None:
        fate, dice = _fate.decode(lease.payload), self._dice
        with trio.CancelScope() as scope:
            self._at_work[lease.lease_id] = scope
            await self._work(lease, fate, dice)
        self._at_work.pop(lease.lease_id, None)
        if scope.cancelled_caught:
            self._post(Stopped(lease.lease_id))

    async def _work(self, lease: Lease, fate: Fate, dice: random.Random) -> None:
        named: dict[str, Any] = {"lease_id": lease.lease_id, "token": lease.token}
        if fate.progress:
            self._post(
                Progress(percent=50.0, message=f"half of {fate.number}{slip(fate)}", **named)
            )
        if fate.logs:
            line = LogLine(at=_INSTANT, level="info", text=f"a line{slip(fate)}")
            lines = [line] * fate.logs
            self._post(Log(lines=lines, **named))
        await sleep(fate.work_ms / 1000)
        if self._faults.strike("worker.crashes_handler", lease.job_type):
            self._post(Fail(error=failure("Crash", fate), **named))
            return
        if self._faults.strike("worker.stalls", lease.job_type):
            await sleep(self._faults.pause_s("worker.stalls", *_STALLS_S))
        if self._faults.strike("worker.late", lease.job_type):
            with trio.CancelScope(shield=True):
                await sleep(dice.choice(_LATE_S))
        self._post(outcome(lease, fate, named))

    def _post(self, message: Posted) -> None:
        self._session.post([message], trio.current_time())
        self._go_on()
