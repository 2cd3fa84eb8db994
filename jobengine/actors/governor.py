"""Shell of the governor: the policy from the store, allotments to the shards."""

from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from jobengine.actors.runtime.address import Address, Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.governor import Governor, GovernorLimits, GovernorMessage
from jobengine.domain.control import decode_control
from jobengine.domain.governance import POLICY_NAME, SYSTEM_TENANT, UNLIMITED, Governance
from jobengine.domain.ids import shard_of
from jobengine.messages.admission import Allot
from jobengine.messages.governor import Govern, PolicyChanged
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["GovernorActor"]

_AGAIN_S: Final = 1.0


@attrs.define(kw_only=True)
class GovernorActor:
    """``shards`` in the order in which ``shard_of`` numbers them.

    ``governed``: what the shards were told last, which outlives this actor and them. A shard that
    begins reads it, so that it starts nothing before it is allotted; a change of it that it has
    missed lies in its mailbox.
    """

    mailbox: Mailbox[GovernorMessage]
    shards: Sequence[Address[Any]]
    store: Store
    clock: Clock
    asks: Asks
    limits: GovernorLimits = attrs.field(factory=GovernorLimits)
    governed: bool = False
    core: Governor | None = attrs.field(init=False, default=None)
    """What decides in this life, for those who look."""

    async def run(self, life: Life) -> None:
        """One life. A change of the policy that is committed after it was read is told."""
        core = self.core = Governor(
            len(self.shards), self.limits, life.incarnation, governed=self.governed
        )
        perform: Perform = {Govern: self._govern, Allot: self._allot}
        policy = await self._policy_patiently()
        for command in core.handle(policy, self.clock.moment()):
            perform[type(command)](command)
        life.ready()
        await run_shell(core, self.mailbox, perform, self.clock, asks=self.asks)

    async def _policy_patiently(self) -> PolicyChanged:
        """A database that is away is no failure: there will be one again."""
        while True:
            try:
                row = await self.store.control(SYSTEM_TENANT, "governance", POLICY_NAME)
            except StoreUnavailableError:
                await trio.sleep(_AGAIN_S)
                continue
            if row is None:
                return PolicyChanged(policy=UNLIMITED, revision=0, changed_at=0)
            policy = decode_control(row.kind, bytes(row.body))
            assert isinstance(policy, Governance)
            return PolicyChanged(policy=policy, revision=row.revision, changed_at=row.at)

    def _govern(self, command: Govern) -> None:
        self.governed = command.governed
        self.shards[command.shard].deliver(command)

    def _allot(self, command: Allot) -> None:
        self.shards[shard_of(command.tenant_id, len(self.shards))].deliver(command)
