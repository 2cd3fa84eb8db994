"""Job requests from a bus: each becomes one job, or is set aside with the reason.

I1  A request is acknowledged after the commit of its job, or once its letter is safe. So it is lost
    nowhere; delivered again it finds the answer of its first time, and makes no second job.
I2  What the engine cannot do now is given back and comes again; where it takes no new work at all,
    nothing is taken meanwhile.
I3  Nothing that a message holds ends the intake.

Not here: what a request may say (`requests`), the connection (`jetstream`, `valkey_streams`).
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import attrs
import msgspec
import structlog
import trio

from jobengine.actors.gateway import Gateway, UnavailableError
from jobengine.bus.link import Link, Taken
from jobengine.bus.requests import Request, request_of
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.redaction import Redactor
from jobengine.messages.answers import decode_submit_facts, submit_facts
from jobengine.messages.lease_shard import Actor
from jobengine.store.errors import StoreUnavailableError

__all__ = ["Intake", "Letter"]

_TAKE_S: Final = 5.0
_PAUSE_S: Final = (0.5, 15.0)
_KEPT_BYTES: Final = 64 * 1024
_PASSING: Final = frozenset(
    {
        ErrorCode.BACKLOG_FULL,
        ErrorCode.CAPACITY_EXCEEDED,
        ErrorCode.IDEMPOTENCY_IN_PROGRESS,
        ErrorCode.INTERNAL,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.STORE_UNAVAILABLE,
    }
)
"""Refusals that a later delivery may not meet."""
_NO_NEW_WORK: Final = frozenset({ErrorCode.OVERLOADED, ErrorCode.STORE_UNAVAILABLE})

_INTERNAL: Final = Refusal(ErrorCode.INTERNAL, "the request failed; it comes again")

_log = structlog.get_logger("jobengine.bus")


class Letter(msgspec.Struct, rename="camel", kw_only=True):
    """A request that was set aside. `body` is the beginning of it, as text; `bodyDigest` is that
    of all of it."""

    schema_version: str = "orch.bus.dead.v1"
    code: str
    message: str
    path: str | None = None
    source: str
    message_id: str
    tenant_id: str | None
    at: str
    body_bytes: int
    body_digest: str
    body: str


@attrs.define(eq=False, kw_only=True)
class Intake:
    """`named` are tenants that may submit also before they have done anything; `wanted` says which
    may submit at all."""

    gateway: Gateway
    redactor: Redactor
    subject: str
    named: Collection[str]
    wanted: Callable[[str], bool]
    taken_total: int = attrs.field(init=False, default=0)
    dead_total: int = attrs.field(init=False, default=0)
    deferred_total: int = attrs.field(init=False, default=0)

    async def run(self, link: Link) -> None:
        """Take requests from a link, until it ends."""
        pause_s, pause_s_max = _PAUSE_S
        while True:
            taken = await link.take(_TAKE_S)
            if not taken:
                continue
            if await self._handle(link, taken):
                pause_s = _PAUSE_S[0]
            else:
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, pause_s_max)

    async def _handle(self, link: Link, taken: Sequence[Taken]) -> bool:
        """All that was taken; whether the engine takes new work."""
        read = [await self._read(each) for each in taken]
        tenants = {each.tenant_id for each in read if isinstance(each, Request)}
        judged = await self._judge(sorted(tenants))
        outcomes: list[Refusal | None] = [None] * len(taken)
        async with trio.open_nursery() as nursery:
            for place, request in enumerate(read):
                if isinstance(request, Refusal):
                    outcomes[place] = request
                elif (refusal := judged[request.tenant_id]) is not None:
                    outcomes[place] = refusal
                else:
                    nursery.start_soon(self._submit, request, outcomes, place)
        await self._settle(link, list(zip(taken, outcomes, strict=True)))
        return not any(each is not None and each.code in _NO_NEW_WORK for each in outcomes)

    async def _read(self, taken: Taken) -> Request | Refusal:
        await trio.lowlevel.checkpoint()
        try:
            return request_of(taken, self.gateway.new_job_ids(1)[0], self.redactor)
        except RefusedError as error:
            return error.refusal
        except Exception:  # noqa: BLE001 - I3
            _log.exception("bus_request_failed", source=taken.source, id=taken.message_id)
            return Refusal(ErrorCode.INVALID_FIELD, "the message cannot be read", {"path": "$"})

    async def _judge(self, tenant_ids: Sequence[str]) -> dict[str, Refusal | None]:
        """Why these may not submit. They may where they are wanted, and named or have done
        something before."""
        wanted = [tenant_id for tenant_id in tenant_ids if self.wanted(tenant_id)]
        unnamed = [tenant_id for tenant_id in wanted if tenant_id not in self.named]
        try:
            heads = await self.gateway.store.heads(unnamed) if unnamed else {}
        except StoreUnavailableError as error:
            return dict.fromkeys(tenant_ids, Refusal(ErrorCode.STORE_UNAVAILABLE, str(error)))
        except Exception:  # noqa: BLE001 - I3
            if len(tenant_ids) > 1:
                return {key: (await self._judge([key]))[key] for key in tenant_ids}
            _log.exception("bus_tenant_failed", tenant=tenant_ids[0])
            return dict.fromkeys(tenant_ids, _INTERNAL)
        known = {tenant_id for tenant_id in wanted if tenant_id in heads or tenant_id in self.named}
        return {key: None if key in known else _stranger(key) for key in tenant_ids}

    async def _submit(self, request: Request, outcomes: list[Refusal | None], place: int) -> None:
        try:
            answer = await self.gateway.submit(
                request.tenant_id, Actor(self.subject), [request.job], request.claim
            )
        except (RefusedError, UnavailableError) as error:
            outcomes[place] = error.refusal
            return
        except Exception:  # noqa: BLE001 - I3
            _log.exception("bus_submit_failed", tenant=request.tenant_id)
            outcomes[place] = _INTERNAL
            return
        facts = (
            submit_facts(answer.outcomes, answer.jobs)
            if answer.stored is None
            else decode_submit_facts(answer.stored)
        )
        refused = facts.outcomes[0].refusal
        outcomes[place] = None if refused is None else refused.refusal()

    async def _settle(self, link: Link, settled: Sequence[tuple[Taken, Refusal | None]]) -> None:
        done, dead, later = [], [], []
        for taken, refusal in settled:
            if refusal is None:
                done.append(taken)
            elif refusal.code in _PASSING:
                later.append(taken)
            else:
                dead.append((taken, self._letter(taken, refusal)))
        if dead:
            await link.bury(dead)
        await link.done([*done, *(taken for taken, _ in dead)])
        await link.later(later)
        self.taken_total += len(done)
        self.dead_total += len(dead)
        self.deferred_total += len(later)

    def _letter(self, taken: Taken, refusal: Refusal) -> bytes:
        _log.warning(
            "bus_request_refused", source=taken.source, id=taken.message_id, code=refusal.code
        )
        return msgspec.json.encode(
            Letter(
                code=str(refusal.code),
                message=refusal.message,
                path=refusal.details.get("path"),
                source=taken.source,
                message_id=taken.message_id,
                tenant_id=taken.tenant_id,
                at=to_rfc3339(self.gateway.clock.moment().at),
                body_bytes=len(taken.body),
                body_digest=f"sha256:{hashlib.sha256(taken.body).hexdigest()}",
                body=taken.body[:_KEPT_BYTES].decode(errors="replace"),
            )
        )


def _stranger(tenant_id: str) -> Refusal:
    return Refusal(
        ErrorCode.TENANT_FORBIDDEN,
        f"{tenant_id} may not submit by bus: it has done nothing yet, or bus_tenants leaves it out",
        {"path": "tenantId"},
    )
