"""The engine of a simulated run: it starts, dies and starts again over one store.

A *life* is one engine from its start to its end. Death is the machine's: what was on its way to the
store may have arrived or not, nothing is answered, and every connection is gone. Actors fail one by
one as well, by a message that no core understands; then their supervisor starts them again.

I1  A life that is over changes nothing: its store refuses it, its links are cut.
I2  There is at most one life at a time, and while it heals there is one.
I3  A failure of the engine that no fault explains ends the run with it.

Not here: the store's faults (`store`), what workers and users do (`worker`, `users`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import attrs
import trio

from jobengine.actors.frame_channel import ChannelClosedError
from jobengine.actors.runtime.address import ActorStoppedError
from jobengine.actors.runtime.clock import SimulatedClock
from jobengine.actors.runtime.dice import SeededDice
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.supervisor import Supervised, SupervisionFailedError
from jobengine.actors.session import run_session
from jobengine.actors.session_ports import SessionPorts
from jobengine.core.session import SessionLimits
from jobengine.domain.redaction import Redactor
from jobengine.engine import Engine, open_engine
from jobengine.http.worker_frames import WorkerFrames
from jobengine.http.worker_reading import WorkerReader
from jobengine.messages.session import Peer
from jobengine.settings import Settings
from jobengine.store.port import Store
from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.faults import Faults
from jobengine.testing.sim.journal import Journal
from jobengine.testing.sim.network import LinkEnd, Network
from jobengine.testing.sim.store import SimulatedStore
from jobengine.testing.sim.trace import Trace
from jobengine.testing.sim.virtual_time import sleep

__all__ = ["EPOCH_AT", "EngineFailedError", "World", "leaves_of"]

EPOCH_AT: Final = 1_767_225_600_000_000
"""What the wall clock says where a run begins, in microseconds."""

_DISTURBED_S: Final = (0.2, 3.0)
_WATCHED_S: Final = 10.0
"""How often it is asked for errors once nothing strikes any more."""
_DEAD_S: Final = (0.1, 1.0, 20.0)
_STEPS_US: Final = (-30_000_000, -1_000_000, -1_000, 1_000, 5_000_000, 120_000_000)
_HOURS_US: Final = (-3_600_000_000, 5_400_000_000)
_SKEWS_US: Final = (-3_600_000_000, 1_800_000_000)
"""How far a clock may be off after such a step. A retry that was told of before shards began anew
waits until a clock that was set back has caught up, which has to be within `Scenario.heal_s`."""


class EngineFailedError(Exception):
    """The engine ended, or a session did, by an error of its own."""


@attrs.frozen
class _Poison:
    """A message that no core understands."""


class _Mortal:
    """A life's way to the store; after its death it is answered nothing any more."""

    def __init__(self, store: SimulatedStore) -> None:
        self._store = store
        self.dead = False

    @property
    def port(self) -> Store:
        """Every verb of the port is there, by name."""
        return cast("Store", self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **named: Any) -> Any:
            await self._survive()
            answer = await method(*args, **named)
            await self._survive()
            return answer

        setattr(self, name, call)
        return call

    async def _survive(self) -> None:
        if self.dead:
            await trio.sleep_forever()


class World:
    """`engine` is None while there is none."""

    def __init__(
        self,
        chance: Chance,
        settings: Settings,
        faults: Faults,
        trace: Trace,
        network: Network,
        store: SimulatedStore,
        journal: Journal,
    ) -> None:
        self.settings = settings
        self.store = store
        self.network = network
        self.clock = SimulatedClock(EPOCH_AT)
        self.engine: Engine | None = None
        self.lives = 0
        self._chance = chance
        self._dice = chance.fork("world")
        self._faults = faults
        self._trace = trace
        self._journal = journal
        self._changed = trio.Event()
        self._sessions: trio.Nursery | None = None
        self._ports: SessionPorts | None = None
        self._poisoned = 0
        self._errors: list[BaseException] = []

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life after the other, until cancelled; started when the first has begun."""
        while True:
            await self._live(task_status)
            task_status = trio.TASK_STATUS_IGNORED
            self._raise_errors()
            if not self._faults.healed:
                await sleep(self._dice.choice(_DEAD_S))

    @property
    def names_instants(self) -> bool:
        """Whether users name instants of the wall clock: not where that goes wrong by hours, and
        what they have put off would rightly not be done before the run is over."""
        return "clock.hours" not in self._faults.on

    async def started(self) -> Engine:
        """The engine, as soon as there is one."""
        while self.engine is None:
            await self._changed.wait()
        return self.engine

    def open_link(self, worker_id: str, peer: Peer) -> LinkEnd:
        """The worker's end of a new connection. Raises `OSError` where there is no engine."""
        if self._sessions is None:
            raise ConnectionRefusedError("no engine")
        near, far = self.network.connect(worker_id)
        self._sessions.start_soon(self._serve, far, peer)
        return near

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        self.lives += 1
        self._journal.lives.append(trio.current_time())
        store = _Mortal(self.store)
        dice = SeededDice(self._chance.fork("life", self.lives).getrandbits(64))
        with trio.CancelScope() as life:
            try:
                async with (
                    open_engine(
                        store.port,
                        self.settings,
                        clock=self.clock,
                        dice=dice,
                        observe=self._observe,
                    ) as engine,
                    trio.open_nursery() as sessions,
                ):
                    with self._serving(engine, sessions):
                        task_status.started()
                        await self._disturb(engine)
                        self._trace.note("world", "kills the engine", life=self.lives)
                        store.dead = True
                        self.network.cut_all()
                        life.cancel()
            except* SupervisionFailedError as group:
                if not self._poisoned:
                    raise EngineFailedError("the engine gave up") from group
                self._trace.note("world", "the engine gave up", life=self.lives)
        self.network.cut_all()

    @contextmanager
    def _serving(self, engine: Engine, sessions: trio.Nursery) -> Iterator[None]:
        self._ports = _session_ports(engine, self._errors.append)
        self.engine, self._sessions = engine, sessions
        ledger = next(box for box in engine.mailboxes if box.name == "ledger")
        self.store.kill_ledger = lambda: self._fail(ledger)
        self._trace.note("world", "engine starts", life=self.lives)
        self._change()
        try:
            yield
        finally:
            self.engine = self._sessions = self._ports = None
            self.store.kill_ledger = None
            self._change()

    async def _disturb(self, engine: Engine) -> None:
        """Let actors fail and clocks step; returns when the engine is to die."""
        faults = self._faults
        while True:
            await sleep(_WATCHED_S if faults.healed else self._dice.uniform(*_DISTURBED_S))
            self._raise_errors()
            if faults.strike("clock.step"):
                self.clock.skew += self._dice.choice(_STEPS_US)
            if faults.strike("clock.hours"):
                step_us = self._dice.choice(_HOURS_US)
                behind_us, ahead_us = _SKEWS_US
                self.clock.skew = min(max(self.clock.skew + step_us, behind_us), ahead_us)
            if faults.strike("clock.skew"):
                self.clock.skew += self._dice.randrange(-50_000, 50_000)
            if faults.strike("crash.actor"):
                self._fail(self._dice.choice(engine.mailboxes))
            if faults.strike("crash.engine"):
                return

    def _fail(self, box: Mailbox[Any]) -> None:
        self._trace.note("world", "an actor fails", actor=box.name)
        self._poisoned += 1
        box.deliver(_Poison())

    async def _serve(self, far: LinkEnd, peer: Peer) -> None:
        assert self._ports is not None
        try:
            await run_session(far, peer, self._ports)
        except ChannelClosedError:
            pass
        finally:
            self.network.forget(far)
            far.cut()

    def _observe(self, change: Supervised) -> None:
        if change.error is None:
            return
        name = type(change.error).__name__
        self._trace.note("supervisor", change.change, actor=change.actor, error=name)
        # A group that gave up says so beside what it gave up for, which was told before; and who
        # waited for an actor that failed fails with it.
        self._errors += [
            leaf
            for leaf in leaves_of(change.error)
            if _Poison.__name__ not in str(leaf)
            and not isinstance(leaf, SupervisionFailedError | ActorStoppedError)
        ]

    def _raise_errors(self) -> None:
        if self._errors:
            raise EngineFailedError("the engine failed by itself") from self._errors[0]

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def leaves_of(error: BaseException) -> list[BaseException]:
    """The errors in a group, at any depth; an error that is none is its own only one."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves_of(each)]


def _session_ports(engine: Engine, failed: Any) -> SessionPorts:
    settings = engine.settings
    reader = WorkerReader(engine.gateway.new_job_ids, Redactor())
    return SessionPorts(
        registry=engine.registry,
        gateway=engine.gateway,
        clock=engine.clock,
        codec=WorkerFrames(reader, settings.node_id, heartbeat_s=settings.heartbeat_s),
        limits=SessionLimits(
            hello_s_max=settings.hello_within_s, silent_s_max=4 * settings.heartbeat_s
        ),
        failed=failed,
    )
