"""Shell of the custodian."""

from typing import Any

import attrs
import trio

from jobengine.actors.runtime.address import Asks
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.mailbox import Mailbox
from jobengine.actors.runtime.shell import Perform, open_calls, run_shell
from jobengine.actors.runtime.supervisor import Life
from jobengine.core.custodian import CustodianCore
from jobengine.messages.custodian import (
    ArtifactsSwept,
    DropOld,
    OldDropped,
    Prepare,
    Prepared,
    PrepareFailed,
    SweepArtifacts,
)
from jobengine.store.errors import StoreUnavailableError
from jobengine.store.port import Store

__all__ = ["CustodianActor"]

_SWEPT_MAX = 64
"""Artifacts looked at in one statement."""

_UPLOAD_S_MAX = 3_600
"""An upload of which nothing came for so long was cut, and its node had no time to clear up."""


@attrs.define(kw_only=True)
class CustodianActor:
    store: Store
    clock: Clock
    asks: Asks
    interval_s: float
    artifact_grace_s: float
    log_retention_s: float

    async def run(self, life: Life) -> None:
        """The first preparation is due at once; nobody waits for it."""
        mailbox: Mailbox[Any] = Mailbox("custodian", 16)
        retention_us = round(self.log_retention_s * 1_000_000)
        core = CustodianCore(self.interval_s, trio.current_time(), retention_us)

        async def prepare(command: Prepare) -> Prepared:
            await self.store.prepare(command.now_at)
            return Prepared()

        async def drop_old(command: DropOld) -> OldDropped:
            await self.store.drop_over(command.now_at)
            await self.store.drop_logs(command.logs_before_at)
            return OldDropped()

        async def sweep(command: SweepArtifacts) -> ArtifactsSwept:
            swept = await self.store.sweep_artifacts(
                command.after,
                command.now_at - round(self.artifact_grace_s * 1_000_000),
                command.now_at - _UPLOAD_S_MAX * 1_000_000,
                _SWEPT_MAX,
            )
            return ArtifactsSwept(after=swept.after)

        async with open_calls(mailbox, (StoreUnavailableError,)) as calls:

            def perform_prepare(command: Prepare) -> None:
                calls.spawn(prepare, command, failed=lambda _: PrepareFailed())

            def perform_drop_old(command: DropOld) -> None:
                calls.spawn(drop_old, command, failed=lambda _: PrepareFailed())

            def perform_sweep(command: SweepArtifacts) -> None:
                calls.spawn(sweep, command, failed=lambda _: PrepareFailed())

            perform: Perform = {
                Prepare: perform_prepare,
                DropOld: perform_drop_old,
                SweepArtifacts: perform_sweep,
            }
            life.ready()
            await run_shell(core, mailbox, perform, self.clock, asks=self.asks)
