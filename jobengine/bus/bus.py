"""The bus of a node: one connection at a time, kept up, with the publisher and the intake on it.

I1  Whatever fails here, the engine goes on. A connection that ends is opened again, after pauses
    that grow up to `_PAUSE_S[1]`; nothing is lost meanwhile, for cursors and requests stay where
    they are.
I2  `open_bus` raises for what no waiting mends, and for nothing else.
I3  When the block is left, nothing is published any more, and the last cursors are written.

Not here: the engine, which surrounds the block; metrics (`metrics`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import structlog
import trio

from jobengine.bus.address import BusAddress, address_of
from jobengine.bus.errors import BusAwayError, BusUnusableError
from jobengine.bus.intake import Intake
from jobengine.bus.jetstream import JetStreamLinks
from jobengine.bus.link import Link, OpenLink
from jobengine.bus.names import Names
from jobengine.bus.publisher import Publisher
from jobengine.bus.valkey_streams import ValkeyLinks
from jobengine.domain.redaction import Redactor
from jobengine.engine import Engine

__all__ = ["Bus", "open_bus"]

_PAUSE_S: Final = (0.25, 15.0)
_STEADY_S: Final = 30.0
_FAILED_PAUSE_S: Final = 15.0

_log = structlog.get_logger("jobengine.bus")


@attrs.define(eq=False, kw_only=True)
class Bus:
    """How a bus does; `publisher` and `intake` are None where they were not asked for.
    `away_reason` says why there is no connection."""

    address: BusAddress
    publisher: Publisher | None
    intake: Intake | None
    _open_link: OpenLink
    connected: bool = attrs.field(init=False, default=False)
    connects_total: int = attrs.field(init=False, default=0)
    away_reason: str = attrs.field(init=False, default="not connected yet")

    @property
    def condition(self) -> str:
        """In one line, for people."""
        if not self.connected:
            return f"away: {self.away_reason}"
        behind = self.publisher.turns.tenants_behind if self.publisher else 0
        tail = f"; {behind} tenants behind" if behind else ""
        return f"connected to {self.address.shown}{tail}"

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            if self.publisher is not None:
                nursery.start_soon(self._for_ever, self.publisher.follow)
            nursery.start_soon(self._for_ever, self._keep_connected)

    async def _for_ever(self, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except* Exception as group:  # noqa: BLE001 - I1
                _log.error("bus_failed", bus=self.address.shown, exc_info=group)
            self.connected = False
            await trio.sleep(_FAILED_PAUSE_S)

    async def _keep_connected(self) -> None:
        pause_s, pause_s_max = _PAUSE_S
        while True:
            began = trio.current_time()
            try:
                async with self._open_link() as link:
                    self._connected()
                    await self._use(link)
            except* BusAwayError as group:
                self._away(str(next(_leaves(group))))
            if trio.current_time() - began >= _STEADY_S:
                pause_s = _PAUSE_S[0]
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, pause_s_max)

    async def _use(self, link: Link) -> None:
        async with trio.open_nursery() as nursery:
            if self.publisher is not None:
                nursery.start_soon(self.publisher.run, link)
            if self.intake is not None:
                nursery.start_soon(self.intake.run, link)

    def _connected(self) -> None:
        self.connected = True
        self.connects_total += 1
        _log.info("bus_connected", bus=self.address.shown)

    def _away(self, reason: str) -> None:
        if self.connected or reason != self.away_reason:
            _log.warning("bus_away", bus=self.address.shown, reason=reason)
        self.connected = False
        self.away_reason = reason


@asynccontextmanager
async def open_bus(engine: Engine, redactor: Redactor) -> AsyncIterator[Bus | None]:
    """The bus that the engine's settings name, for the length of the block; None without one.

    Raises `BusUnusableError`, before anything has begun. A server that cannot be reached is no
    error: it is waited for.
    """
    bus = _bus_of(engine, redactor)
    if bus is None:
        yield None
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.run)
        yield bus
        nursery.cancel_scope.cancel()


def _bus_of(engine: Engine, redactor: Redactor) -> Bus | None:
    settings = engine.settings
    if settings.bus_url is None:
        return None
    publishes, takes_jobs = settings.bus_events == "on", settings.bus_jobs == "on"
    if not publishes and not takes_jobs:
        raise BusUnusableError(
            "bus_url names a bus, and nothing uses it; set bus_events or bus_jobs to on"
        )
    address = address_of(settings.bus_url)
    named = frozenset(name.strip() for name in settings.bus_tenants.split(",")) - {"", "*"}
    wanted = named.__contains__ if named else _everybody
    publisher = Publisher(gateway=engine.gateway, feed=f"bus:{address.kind}", wanted=wanted)
    intake = Intake(
        gateway=engine.gateway,
        redactor=redactor,
        subject=f"bus:{address.kind}",
        named=named,
        wanted=wanted,
    )
    return Bus(
        address=address,
        publisher=publisher if publishes else None,
        intake=intake if takes_jobs else None,
        open_link=_links(engine, address, publishes, takes_jobs),
    )


def _links(engine: Engine, address: BusAddress, publishes: bool, takes_jobs: bool) -> OpenLink:
    settings = engine.settings
    names = Names(settings.bus_prefix)
    if address.kind == "valkey":
        return ValkeyLinks(
            address=address,
            names=names,
            consumer=settings.node_id,
            events_max=settings.bus_stream_events_max,
            retry_s=settings.bus_retry_s,
            takes_jobs=takes_jobs,
        )
    return JetStreamLinks(
        address=address,
        names=names,
        dice=engine.dice,
        keep_s=settings.bus_keep_s,
        retry_s=settings.bus_retry_s,
        ack_wait_s=settings.bus_retry_s + settings.ask_timeout_s,
        publishes=publishes,
        takes_jobs=takes_jobs,
    )


def _everybody(_: str) -> bool:
    return True


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
