"""The worker protocol as plain requests: rows for the route table.

Not here: what a lease call does (``actors/lease_calls``), sessions (`worker_path`).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from jobengine.actors.lease_calls import LeaseCalls
from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.answer import Answer
from jobengine.http.route import Call, NoQuery, Route
from jobengine.http.worker_reading import WorkerReader
from jobengine.messages.session import Nacked, Peer
from jobengine.messages.worker_reports import LeaseClaim, Progressed, Report
from jobengine.wire.engine_messages import Lease
from jobengine.wire.worker_calls import (
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    ProgressRequest,
    ReleaseRequest,
    ReportAnswer,
)
from jobengine.wire.worker_messages import Complete, Fail, Progress, Release, WorkerMessage

__all__ = ["WorkerCalls", "worker_routes"]

_encoder: Final = msgspec.json.Encoder()


class WorkerCalls:
    """Handlers of the plain requests."""

    def __init__(self, leases: LeaseCalls[Lease], reader: WorkerReader) -> None:
        self._leases = leases
        self._reader = reader

    async def claim(self, call: Call[NoQuery, ClaimRequest]) -> Answer:
        body = call.body
        leases = await self._leases.claim(
            call.tenant_id,
            body.worker_id,
            queues=frozenset(body.queues),
            job_types=frozenset(body.job_types),
            leases_max=body.max_,
            wait_s=body.wait_seconds,
            task_runner_id=body.task_runner_id,
        )
        return Answer(_encoder.encode(ClaimAnswer(leases)))

    async def heartbeat(self, call: Call[NoQuery, HeartbeatRequest]) -> Answer:
        lease_id, body = call.path["leaseId"], call.body
        note = None
        if body.percent is not None or body.message is not None:
            progress = Progress(
                lease_id=lease_id, token=body.token, percent=body.percent, message=body.message
            )
            report = self._understood(call, progress)
            assert isinstance(report, Progressed)
            note = report.note
        claim = LeaseClaim(lease_id, body.token)
        beaten = await self._leases.beat(call.tenant_id, call.actor.subject, claim, note)
        if beaten.lost:
            raise RefusedError(
                Refusal(ErrorCode.LEASE_LOST, f"lease {lease_id} has ended", {"path": "leaseId"})
            )
        return Answer(_encoder.encode(HeartbeatAnswer(stop=bool(beaten.stop))))

    async def progress(self, call: Call[NoQuery, ProgressRequest]) -> Answer:
        return await self._report(
            call,
            Progress(
                lease_id=call.path["leaseId"],
                token=call.body.token,
                percent=call.body.percent,
                message=call.body.message,
            ),
        )

    async def complete(self, call: Call[NoQuery, CompleteRequest]) -> Answer:
        return await self._report(
            call,
            Complete(
                lease_id=call.path["leaseId"],
                token=call.body.token,
                result=call.body.result,
                artifacts=call.body.artifacts,
                follow_ups=call.body.follow_ups,
            ),
        )

    async def fail(self, call: Call[NoQuery, FailRequest]) -> Answer:
        return await self._report(
            call,
            Fail(
                lease_id=call.path["leaseId"],
                token=call.body.token,
                error=call.body.error,
                retry_after=call.body.retry_after,
            ),
        )

    async def release(self, call: Call[NoQuery, ReleaseRequest]) -> Answer:
        return await self._report(
            call,
            Release(
                lease_id=call.path["leaseId"],
                token=call.body.token,
                reason=call.body.reason,
                delay_seconds=call.body.delay_seconds,
            ),
        )

    async def _report(self, call: Call[NoQuery, Any], message: WorkerMessage) -> Answer:
        report = self._understood(call, message)
        await self._leases.report(call.tenant_id, call.actor.subject, report)
        return Answer(_encoder.encode(ReportAnswer(lease_id=report.lease_id)))

    def _understood(self, call: Call[NoQuery, Any], message: WorkerMessage) -> Report:
        peer = Peer(
            tenant_id=call.tenant_id, subject=call.actor.subject, scopes=call.identity.scopes
        )
        now_at = call.front.gateway.clock.moment().at
        said: Any = self._reader.understand(message, peer, now_at)
        if isinstance(said, Nacked):
            raise RefusedError(said.refusal)
        report: Report = said
        return report


def worker_routes(calls: WorkerCalls) -> tuple[Route, ...]:
    """Rows for the route table."""

    def of_lease(
        verb: str, summary: str, handler: Callable[[Call[Any, Any]], Awaitable[Answer]], body: Any
    ) -> Route:
        return Route(
            method="POST",
            path=f"/worker/leases/{{leaseId}}:{verb}",
            name=f"{verb}Lease",
            summary=summary,
            handler=handler,
            scopes=(Scope.WORK,),
            answers={200: HeartbeatAnswer if verb == "heartbeat" else ReportAnswer},
            body=body,
            errors=(ErrorCode.LEASE_LOST,),
        )

    return (
        Route(
            method="POST",
            path="/worker/claim",
            name="claimLeases",
            summary="Take leases, waiting for a first one up to waitSeconds",
            handler=calls.claim,
            scopes=(Scope.WORK,),
            answers={200: ClaimAnswer},
            body=ClaimRequest,
        ),
        of_lease("heartbeat", "Renew a lease", calls.heartbeat, HeartbeatRequest),
        of_lease("progress", "Say how far an attempt is", calls.progress, ProgressRequest),
        of_lease("complete", "Report success", calls.complete, CompleteRequest),
        of_lease("fail", "Report failure", calls.fail, FailRequest),
        of_lease("release", "Give a lease back; costs no retry", calls.release, ReleaseRequest),
    )
