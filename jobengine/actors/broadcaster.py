"""Shell of the broadcaster: it only answers."""

from typing import Any

import attrs

from jobengine.actors.runtime.address import Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.broadcaster import BroadcasterCore, BroadcasterLimits

__all__ = ["BroadcasterActor"]


@attrs.define(kw_only=True)
class BroadcasterActor:
    mailbox: Mailbox[Any]
    clock: Clock
    asks: Asks
    limits: BroadcasterLimits
    core: BroadcasterCore | None = None

    async def run(self, life: Life) -> None:
        """A new life knows no readers: their asks are refused, and they follow anew."""
        self.core = BroadcasterCore(self.limits)
        life.ready()
        await run_shell(self.core, self.mailbox, {}, self.clock, asks=self.asks)
