"""Who redrives in a simulated run: starts redrives of dead letters, holds them up, lets them go on,
stops some.

Each redrive is begun under a name of its own, by which the ledger tells its replays from others.

I1  In the end every redrive goes on, so that it ends.

Not here: single letters (`operator`), what has to come of a redrive (`rules/redrives`).
"""

import hashlib
import random
from typing import Any, Final

import trio

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import SECOND
from jobengine.domain.redrive import UNFINISHED, Redrive, RedriveOrder, RedriveState
from jobengine.engine import Engine
from jobengine.messages.lease_shard import Actor, IdempotencyClaim
from jobengine.messages.redriver import ChangeRedrive, StartRedrive
from jobengine.store.port import DeadLetterFilter
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.operator import OPERATOR
from jobengine.testing.sim.producer import JOB_TYPES

__all__ = ["Redriver"]

_PAUSES_S: Final = (1.0, 4.0, 12.0)
_BEGUN_MAX: Final = 3
"""What is replayed dies again: each redrive may find as many letters as the one before."""
_SPACINGS_US: Final = (SECOND // 20, SECOND, 4 * SECOND)
_COUNTED_MAX: Final = 100_000
_LISTED_MAX: Final = 100
_WISHES: Final = (
    RedriveState.PAUSED,
    RedriveState.PAUSED,
    RedriveState.RUNNING,
    RedriveState.RUNNING,
    RedriveState.STOPPED,
)


class Redriver:
    """One for a tenant."""

    def __init__(self, tenant_id: str, desk: Desk, dice: random.Random) -> None:
        self._tenant_id = tenant_id
        self._desk = desk
        self._dice = dice
        self._begun = 0

    async def run(self) -> None:
        dice = self._dice
        while True:
            await trio.sleep(dice.choice(_PAUSES_S))
            found = await self._unfinished()
            if found and dice.random() < 0.7:
                await self._change(dice.choice(found).redrive_id, dice.choice(_WISHES))
            elif self._begun < _BEGUN_MAX:
                await self._begin()

    async def finish(self) -> None:
        while (found := await self._unfinished()) is None or found:
            for redrive in found or ():
                if redrive.state == RedriveState.PAUSED:
                    await self._change(redrive.redrive_id, RedriveState.RUNNING)
            await trio.sleep(_PAUSES_S[0])

    async def _unfinished(self) -> list[Redrive] | None:
        """Redrives that have not ended, of nobody's request as well; None where no answer came."""
        found: list[Redrive] = []

        async def attempt(engine: Engine) -> dict[str, Any]:
            rows = await engine.gateway.store.redrives(self._tenant_id, None, _LISTED_MAX)
            found[:] = [row for row in rows if row.state in UNFINISHED]
            return {}

        answered = await self._desk.ask(self._tenant_id, "redrives", {}, attempt)
        return None if answered is None else found

    async def _begin(self) -> None:
        dice = self._dice
        self._begun += 1
        actor = Actor(f"redriver-{self._begun}", "simulated", "SIM-2")
        job_type = dice.choice((None, None, *JOB_TYPES))
        spacing_us, letters_max = dice.choice(_SPACINGS_US), dice.choice((None, None, 2, 5))
        claim = self._claim("/deadletter:redrive", f"{job_type} {spacing_us} {letters_max}")

        async def attempt(engine: Engine) -> dict[str, Any]:
            gateway = engine.gateway
            wanted = DeadLetterFilter(states=frozenset({"open"}), job_type=job_type)
            found = await gateway.store.dead_letter_groups(self._tenant_id, wanted, _COUNTED_MAX, 1)
            order = RedriveOrder(
                created_at=gateway.clock.moment().at,
                created_by=actor.subject,
                job_type=job_type,
                letters_max=letters_max,
                matched=found.letters,
                reason=actor.reason,
                spacing_us=spacing_us,
                ticket=actor.ticket,
            )
            redrive_id = gateway.new_id()
            answer = await gateway.redrive(
                self._tenant_id,
                lambda ask_id: StartRedrive(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=actor,
                    redrive_id=redrive_id,
                    order=order,
                    claim=claim,
                ),
            )
            return {"redriveId": answer.redrive and answer.redrive.redrive_id}

        about = {"by": actor.subject}
        await self._desk.ask(self._tenant_id, "redrive", about, attempt, key=claim.key)

    async def _change(self, redrive_id: str, target: RedriveState) -> None:
        claim = self._claim(f"/deadletter/redrives/{redrive_id}", str(target))

        async def attempt(engine: Engine) -> dict[str, Any]:
            answer = await engine.gateway.redrive(
                self._tenant_id,
                lambda ask_id: ChangeRedrive(
                    ask_id=ask_id,
                    tenant_id=self._tenant_id,
                    actor=OPERATOR,
                    redrive_id=redrive_id,
                    target=target,
                    claim=claim,
                ),
            )
            if answer.redrive is None:
                raise RefusedError(Refusal(ErrorCode.ILLEGAL_TRANSITION, "it has ended"))
            return {"state": str(answer.redrive.state)}

        about = {"redriveId": redrive_id, "target": str(target)}
        await self._desk.ask(self._tenant_id, "change", about, attempt, key=claim.key)

    def _claim(self, path: str, asked: str) -> IdempotencyClaim:
        key = f"d{self._dice.getrandbits(48):x}"
        return IdempotencyClaim(key, path, hashlib.sha256(asked.encode()).hexdigest())
