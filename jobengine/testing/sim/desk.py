"""How a user asks the engine: over the network, again when no answer came, and written down.

I1  A request that may be repeated carries an idempotency key, the same in every repeat.
I2  What is asked is in the journal before it leaves, every time; an answer when it has come.
I3  Without an answer after `TRIES` tries the user gives up: the effect is unknown. A refusal for
    now, which HTTP answers by 503, is no answer.

Not here: what is asked (`users`).
"""

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from jobengine.actors.gateway import UnavailableError
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.engine import Engine
from jobengine.store.errors import StoreUnavailableError
from jobengine.testing.sim.journal import Answered, Asked, Journal
from jobengine.testing.sim.network import LostError, Network
from jobengine.testing.sim.trace import Trace
from jobengine.testing.sim.virtual_time import sleep
from jobengine.testing.sim.world import World

__all__ = ["TRIES", "Desk"]

TRIES: Final = 12
_FOR_NOW: Final = frozenset({ErrorCode.STORE_UNAVAILABLE, ErrorCode.OVERLOADED})
_AGAIN_S: Final = (0.1, 1.0, 5.0)


class Desk:
    """One for all users of a run; requests are numbered from 1."""

    def __init__(
        self, world: World, network: Network, journal: Journal, trace: Trace, dice: random.Random
    ) -> None:
        self._world = world
        self._network = network
        self._journal = journal
        self._trace = trace
        self._dice = dice
        self._last = 0

    async def ask(
        self,
        tenant_id: str,
        verb: str,
        about: dict[str, Any],
        attempt: Callable[[Engine], Awaitable[dict[str, Any]]],
        *,
        key: str | None = None,
        carry: Callable[[], Awaitable[dict[str, Any]]] | None = None,
        tries: int = TRIES,
    ) -> Answered | None:
        """What the engine answered, a refusal as well; None where it stays unknown. Without a `key`
        a request is sent once. `carry` takes it another way than the network's calls."""
        self._last += 1
        number = self._last
        for _ in range(tries if key is not None else 1):
            self._note(Asked(
                at=trio.current_time(), number=number, tenant_id=tenant_id, verb=verb, key=key,
                about=about,
            ))  # fmt: skip
            answered = await self._once(number, verb, attempt, carry)
            if answered is not None:
                self._journal.answered.append(answered)
                self._trace.note("user", f"{verb} answered", number=number, code=answered.refusal)
                return answered
            await sleep(self._dice.choice(_AGAIN_S))
        self._trace.note("user", f"{verb} unknown", number=number)
        return None

    async def _once(
        self,
        number: int,
        verb: str,
        attempt: Callable[[Engine], Awaitable[dict[str, Any]]],
        carry: Callable[[], Awaitable[dict[str, Any]]] | None,
    ) -> Answered | None:
        refusal, answer = None, {}
        try:
            if carry is None:
                answer = await self._network.call(verb, lambda: self._reach(attempt))
            else:
                answer = await carry()
        except (LostError, UnavailableError, StoreUnavailableError):
            return None
        except RefusedError as error:
            if error.refusal.code in _FOR_NOW:
                return None
            refusal = str(error.refusal.code)
        return Answered(at=trio.current_time(), number=number, refusal=refusal, answer=answer)

    async def _reach(
        self, attempt: Callable[[Engine], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        engine = self._world.engine
        if engine is None:
            raise LostError("no engine")
        return await attempt(engine)

    def _note(self, asked: Asked) -> None:
        self._journal.asked.append(asked)
        self._trace.note("user", asked.verb, number=asked.number, key=asked.key)
