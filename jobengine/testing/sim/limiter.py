"""Who sets limits in a simulated run: quotas, rates, pauses, sources, blackouts, breakers, while
jobs run.

I1  When it has finished, nothing is left that keeps a job from ever starting: pauses, blackouts and
    hourly quotas are gone, breakers are the engine's again. Limits that only slow down stay.
I2  Where jobs of a source fail again and again, its breaker lets one try in ten minutes: after a
    while it is held closed, so that they come to their end.
"""

import random
from typing import Any, Final

import trio

from jobengine.domain.blackout import Blackout, BlackoutScope, OneOff
from jobengine.domain.control import (
    Control,
    ControlKind,
    Pause,
    Quota,
    RatePolicy,
    Source,
    Throttle,
    Weight,
    control_name,
)
from jobengine.domain.instant import SECOND
from jobengine.engine import Engine
from jobengine.messages.admission import BreakerVerb, ChangeControl, OperateBreaker
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.operator import OPERATOR
from jobengine.testing.sim.producer import JOB_TYPES, SOURCES
from jobengine.testing.sim.virtual_time import sleep
from jobengine.testing.sim.world import World

__all__ = ["Limiter"]

_PAUSES_S: Final = (1.0, 5.0, 20.0)
_KINDS: Final = ("quota", "quota", "hour", "throttle", "pause", "source", "weight", "breaker")
_KINDS_MORE: Final = ("blackout", "lift", "lift")
_TRIES: Final = 40
_PATIENCE_S: Final = 600.0

_Found = tuple[ControlKind, str, Control]


class Limiter:
    """One for a tenant."""

    def __init__(self, tenant_id: str, world: World, desk: Desk, dice: random.Random) -> None:
        self._tenant_id = tenant_id
        self._world = world
        self._desk = desk
        self._dice = dice
        self._set_now: dict[tuple[ControlKind, str], Control] = {}
        self._last = 0

    async def prepare(self) -> None:
        """Make the sources that jobs may belong to."""
        for source_id in SOURCES:
            await self._set("source", source_id, self._source(source_id))

    async def run(self) -> None:
        while True:
            await trio.sleep(self._dice.choice(_PAUSES_S))
            await self._change(self._dice.choice(_KINDS + _KINDS_MORE))

    async def finish(self) -> None:
        for (kind, name), control in list(self._set_now.items()):
            by_the_hour = isinstance(control, Quota) and control.max_per_hour is not None
            closes = kind in ("pause", "blackout") or by_the_hour
            # What stays is set once more: of the last change of it nobody may have heard.
            await self._set(kind, name, None if closes else control)
        for source_id in SOURCES:
            await self._operate_breaker(source_id, "close")
            await self._operate_breaker(source_id, "release")

    async def look_after(self) -> None:
        await sleep(_PATIENCE_S)
        for source_id in SOURCES:
            await self._operate_breaker(source_id, "close")

    async def _change(self, kind: str) -> None:
        dice = self._dice
        match kind:
            case "breaker":
                verbs: tuple[BreakerVerb, ...] = ("open", "close", "release")
                await self._operate_breaker(dice.choice(SOURCES), dice.choice(verbs))
            case "lift":
                if self._set_now:
                    found, name = dice.choice(list(self._set_now))
                    await self._set(found, name, None)
            case _:
                await self._set(*self._draw(kind))

    def _draw(self, kind: str) -> _Found:
        dice = self._dice
        job_type = dice.choice(JOB_TYPES)
        of_type = control_name("job_type", job_type)
        match kind:
            case "quota":
                if dice.random() < 0.3:
                    return "quota", "tenant", Quota(max_active=dice.choice((2, 4, 8)))
                return (
                    "quota",
                    of_type,
                    Quota(scope="job_type", key=job_type, max_active=dice.choice((1, 2, 3, 5))),
                )
            case "hour":
                per_hour = dice.choice((3, 10, 40))
                burst = dice.choice((None, 1, 2))
                quota = Quota(scope="job_type", key=job_type, max_per_hour=per_hour, burst=burst)
                return "quota", of_type, quota
            case "throttle":
                rate = _rate(dice.choice((60, 300, 1_200)), dice.choice((2, 3, 10)))
                if dice.random() < 0.3:
                    return "throttle", "tenant", Throttle(rate=rate)
                return "throttle", of_type, Throttle(scope="job_type", key=job_type, rate=rate)
            case "pause":
                return "pause", of_type, Pause(scope="job_type", key=job_type)
            case "weight":
                weight = Weight(key=job_type, weight=dice.choice((1, 3, 10)))
                return "weight", of_type, weight
            case "blackout":
                return self._blackout(job_type)
            case _:
                source_id = dice.choice(SOURCES)
                return "source", source_id, self._source(source_id)

    def _blackout(self, job_type: str) -> _Found:
        at = self._world.clock.moment().at
        begins_at = at + self._dice.choice((1, 10)) * SECOND
        window = OneOff(start_at=begins_at, end_at=begins_at + self._dice.choice((2, 15)) * SECOND)
        self._last += 1
        name = f"b{self._last}"
        blackout = Blackout(
            blackout_id=name,
            calendar=(window,),
            drain=self._dice.random() < 0.3,
            key=job_type,
            reason="simulated",
            scope=BlackoutScope.JOB_TYPE,
        )
        return "blackout", name, blackout

    def _source(self, source_id: str) -> Source:
        dice = self._dice
        return Source(
            host="upstream.example" if dice.random() < 0.2 else f"{source_id}.example",
            source_type="registry",
            rate_policy=_rate(dice.choice((300, 1_200, 3_000)), dice.choice((5, 20, 50))),
            max_active=dice.choice((None, 2, 4)),
            lock_key=dice.choice((None, None, None, "single")),
        )

    async def _set(self, kind: ControlKind, name: str, control: Control | None) -> None:
        """Set a control or take it away, until the engine has said what it did."""

        async def attempt(engine: Engine) -> dict[str, Any]:
            await engine.gateway.change_control(
                self._tenant_id,
                lambda ask_id: ChangeControl(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=OPERATOR,
                    event=f"{kind}.{'dropped' if control is None else 'set'}",
                    kind=kind,
                    name=name,
                    control=control,
                    force=True,
                ),
            )
            return {}

        if control is not None and kind != "source":
            self._set_now[kind, name] = control
        about = {"kind": kind, "name": name, "dropped": control is None}
        for _ in range(_TRIES):
            if await self._desk.ask(self._tenant_id, "limit", about, attempt) is not None:
                break
        if control is None:
            self._set_now.pop((kind, name), None)

    async def _operate_breaker(self, source_id: str, verb: BreakerVerb) -> None:
        async def attempt(engine: Engine) -> dict[str, Any]:
            await engine.gateway.gates(
                self._tenant_id,
                lambda ask_id: OperateBreaker(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=OPERATOR,
                    source_id=source_id,
                    verb=verb,
                ),
            )
            return {}

        about = {"sourceId": source_id, "verb": verb}
        for _ in range(_TRIES):
            if await self._desk.ask(self._tenant_id, "breaker", about, attempt) is not None:
                break


def _rate(per_minute: int, burst: int) -> RatePolicy:
    return RatePolicy(burst=burst, per_minute_micro=per_minute * SECOND)
