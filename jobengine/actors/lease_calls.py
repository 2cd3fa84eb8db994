"""Leases for those who hold no connection: one request, one brief session with the shard.

I1  A lease that was granted to a request is answered by it or given back.
I2  A request is made again to a restarted shard, as long as somebody waits for its answer.

Not here: JSON, status codes (``http``), what a report may hold (the door's translation).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import trio

from jobengine.actors.gateway import UnavailableError
from jobengine.actors.runtime.mailbox import MailboxClosedError, MailboxFullError
from jobengine.actors.session_registry import SessionRegistry, brief_attach
from jobengine.domain.errors import ErrorCode, RefusedError
from jobengine.messages.session import (
    Beaten,
    EngineStops,
    FromShard,
    Grant,
    Granted,
    Settled,
    ShardRestarted,
)
from jobengine.messages.worker_reports import Beat, Detach, LeaseClaim, Report, Reports, SetCredit

__all__ = ["LeaseCalls"]

_COMMIT_S: Final = 0.5
"""A claim that does not want to wait still lets a grant become durable."""

L = TypeVar("L")


class LeaseCalls(Generic[L]):
    """``read_grant`` makes of a grant what a claim answers with (see ``Grant``), with the task
    runner's name; ``answer_s_max`` bounds the wait for a commit."""

    def __init__(
        self,
        registry: SessionRegistry,
        read_grant: Callable[[Grant, str], L],
        *,
        answer_s_max: float = 10.0,
    ) -> None:
        self._registry = registry
        self._read_grant = read_grant
        self._answer_s_max = answer_s_max

    async def claim(
        self,
        tenant_id: str,
        worker_id: str,
        *,
        queues: frozenset[str],
        job_types: frozenset[str],
        leases_max: int,
        wait_s: float,
        task_runner_id: str | None = None,
    ) -> list[L]:
        """Up to ``leases_max`` leases; waits up to ``wait_s`` for a first. Cancelled: what was
        granted is given back. Raises `UnavailableError`."""
        runner = task_runner_id or worker_id
        leases: list[L] = []
        granted: list[Grant] = []

        def take(message: FromShard | EngineStops) -> bool:
            if isinstance(message, Granted):
                granted.extend(message.leases)
                leases.extend(self._read_grant(grant, runner) for grant in message.leases)
            return isinstance(message, Granted | EngineStops)

        call = _Call(self._registry, tenant_id, take)
        attach = brief_attach(
            call.session_id,
            tenant_id,
            worker_id,
            task_runner_id=runner,
            queues=queues,
            job_types=job_types,
            capacity=leases_max,
        )
        credit = SetCredit(session_id=call.session_id, slots=leases_max)
        try:
            await call.make((attach, credit), max(wait_s, _COMMIT_S))
            # A caller who went away at this very moment is noticed here.
            await trio.lowlevel.checkpoint()
        except BaseException:
            call.give_back(granted)
            raise
        finally:
            call.end()
        return leases

    async def report(self, tenant_id: str, subject: str, report: Report) -> None:
        """Report on one lease; returns after the commit.

        Raises `RefusedError` (``LEASE_LOST`` and others), `UnavailableError`: whether the report
        took effect is then unknown, and it may be repeated.
        """
        settled: list[Settled] = []

        def take(message: FromShard | EngineStops) -> bool:
            if isinstance(message, Settled) and (message.acks or message.nacks):
                settled.append(message)
            return bool(settled)

        call = _Call(self._registry, tenant_id, take)
        # Only what has a ref is sure to be answered.
        report = msgspec.structs.replace(report, ref=0)
        reports = Reports(session_id=call.session_id, reports=(report,))
        await self._answered(call, subject, reports)
        for nack in settled[0].nacks:
            raise RefusedError(nack.refusal)

    async def beat(
        self, tenant_id: str, subject: str, lease: LeaseClaim, progress: bytes | None = None
    ) -> Beaten:
        """Renew one lease; raises `UnavailableError`. A lost lease is named in the answer."""
        beaten: list[Beaten] = []

        def take(message: FromShard | EngineStops) -> bool:
            if isinstance(message, Beaten):
                beaten.append(message)
            return isinstance(message, Beaten)

        call = _Call(self._registry, tenant_id, take)
        notes = {} if progress is None else {lease.lease_id: progress}
        beat = Beat(session_id=call.session_id, leases=(lease,), progress=notes)
        await self._answered(call, subject, beat)
        return beaten[0]

    async def _answered(self, call: "_Call", subject: str, message: Any) -> None:
        attach = brief_attach(call.session_id, call.tenant_id, f"http:{subject}")
        try:
            if not await call.make((attach, message), self._answer_s_max):
                raise UnavailableError(
                    ErrorCode.STORE_UNAVAILABLE,
                    "no answer in time; the request may still take effect: repeat it",
                    2,
                )
        finally:
            call.end()


class _Call:
    """One request: a ``Listener`` from when it is made until ``end``."""

    def __init__(
        self,
        registry: SessionRegistry,
        tenant_id: str,
        take: Callable[[FromShard | EngineStops], bool],
    ) -> None:
        self.tenant_id = tenant_id
        self.session_id = registry.enlist(tenant_id, self)
        self._registry = registry
        self._shard = registry.shard(tenant_id)
        self._take = take
        self._answered = trio.Event()
        self._messages: Sequence[Any] = ()

    def hear(self, message: FromShard | EngineStops) -> None:
        if self._take(message):
            self._answered.set()
        elif isinstance(message, ShardRestarted):
            for again in self._messages:
                self._shard.deliver(again)

    def tick(self, mono: float) -> None:
        """Its maker keeps the time."""

    async def make(self, messages: Sequence[Any], within_s: float) -> bool:
        """Say these; whether the answer came in time. Raises `UnavailableError` when overloaded."""
        try:
            for message in messages:
                self._shard.tell_nowait(message)
        except MailboxFullError:
            why = "too many requests are waiting; retry later"
            raise UnavailableError(ErrorCode.OVERLOADED, why, 1) from None
        except MailboxClosedError:
            why = "the engine stops; retry later"
            raise UnavailableError(ErrorCode.STORE_UNAVAILABLE, why, 2) from None
        self._messages = messages
        with trio.move_on_after(within_s):
            await self._answered.wait()
        return self._answered.is_set()

    def give_back(self, granted: Sequence[Grant]) -> None:
        if granted:
            self._registry.give_back(self.session_id, granted)

    def end(self) -> None:
        self._registry.dismiss(self.session_id)
        self._shard.deliver(Detach(session_id=self.session_id))
