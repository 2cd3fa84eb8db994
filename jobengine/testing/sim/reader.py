"""A reader of a tenant's live events, that leaves and comes back where it was.

I1  What it got is in the journal, in order, over all of its connections.
"""

import random
from contextlib import aclosing
from typing import Any, Final

import msgspec
import trio

from jobengine.domain.event_filter import EventFilter
from jobengine.testing.sim.journal import Journal, Read
from jobengine.testing.sim.virtual_time import sleep
from jobengine.testing.sim.world import World

__all__ = ["Reader"]

_WISHES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"types": "job."},
    {"types": "job.c"},
    {"types": "run."},
    {"jobType": "scan"},
    {"types": "job.", "jobType": "fetch"},
)
_STAYS_S: Final = (0.5, 5.0, 60.0)
_SLOW: Final = 1 / 3
_SLOW_S: Final = 0.5
"""How long it then takes over a batch."""


class Reader:
    """Wants everything or, with `choosy`, a part of it."""

    def __init__(
        self,
        name: str,
        tenant_id: str,
        world: World,
        journal: Journal,
        dice: random.Random,
        *,
        choosy: bool,
    ) -> None:
        self.name = name
        self.last_seq = 0
        self.tenant_id = tenant_id
        self._world = world
        self._journal = journal
        self._dice = dice
        wish = dice.choice(_WISHES) if choosy else {}
        journal.readers[name] = (tenant_id, wish)
        self.wants_all = not wish
        self._stays = journal.stays.setdefault(name, [])
        self._wanted = EventFilter.of(
            (f"{wish['types']}*",) if "types" in wish else (), job_type=wish.get("jobType")
        )

    async def run(self) -> None:
        while True:
            engine = await self._world.started()
            since = trio.current_time()
            with trio.move_on_after(self._dice.choice(_STAYS_S)):
                events = engine.gateway.events(self.tenant_id, self.last_seq, self._wanted)
                async with aclosing(events) as feed:
                    async for batch in feed:
                        for event in batch.events:
                            self._take(event.seq, event.body)
                        self.last_seq = batch.through_seq
                        if self._world.engine is not engine:
                            break
                        if self._dice.random() < _SLOW:
                            await sleep(_SLOW_S)
            self._stays.append((since, trio.current_time()))
            await trio.lowlevel.checkpoint()

    def _take(self, seq: int, body: bytes) -> None:
        self._journal.read.append(
            Read(
                at=trio.current_time(),
                reader=self.name,
                tenant_id=self.tenant_id,
                seq=seq,
                event=msgspec.json.decode(body),
            )
        )
