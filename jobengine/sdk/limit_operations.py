"""What a client can ask about limits: quotas, rates, shares of job types, and governance.

Fields of what is created or changed have the names of the wire types (`jobengine.wire.quotas`),
which say what they mean. A change that names the `revision` it was made from raises `ApiError` 412
when there is another by now. Removing again what was removed raises 404, also where the first
answer was lost.

Governance is no tenant's: the client that asks for it is one of the tenant `_system`.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from jobengine.sdk.exchange import Exchange, Operation, forced, named, query_of, signed
from jobengine.wire.controls import Removed
from jobengine.wire.governance import (
    GovernanceRequest,
    GovernanceView,
    ShareRequest,
    StrategyName,
)
from jobengine.wire.jobs import Page
from jobengine.wire.quotas import QuotaPatch, QuotaRequest, QuotaUse, QuotaView
from jobengine.wire.rates import (
    RatePolicy,
    ThrottleRequest,
    ThrottleScope,
    ThrottleView,
    WeightRequest,
    WeightView,
)

__all__ = ["LimitOperations"]


@attrs.frozen
class LimitOperations(Exchange):
    def create_quota(
        self, /, *, reason: str, ticket: str | None = None, **fields: Any
    ) -> Operation[QuotaView]:
        """Bound what runs at once and starts in an hour; `fields` are QuotaRequest's."""
        body = QuotaRequest(**fields)
        return (yield from self._operate("/quotas", QuotaView, reason, ticket, body))

    def quotas_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[QuotaView]]:
        """One page of the quotas, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/quotas", Page[QuotaView], query))

    def quota_summary_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[QuotaUse]]:
        """One page of how much of each quota is used, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/quotas/summary", Page[QuotaUse], query))

    def quota(self, quota_id: str) -> Operation[QuotaView]:
        """One quota."""
        return (yield from self._get(named("quotas", quota_id), QuotaView))

    def update_quota(
        self,
        /,
        quota_id: str,
        *,
        reason: str,
        ticket: str | None = None,
        revision: int | None = None,
        **fields: Any,
    ) -> Operation[QuotaView]:
        """Change the `fields` (QuotaPatch's) of a quota; what runs above it goes on."""
        path, body = named("quotas", quota_id), QuotaPatch(**fields)
        headers = signed(reason, ticket, revision)
        return (yield from self._change("PATCH", path, QuotaView, headers, body))

    def delete_quota(
        self,
        quota_id: str,
        *,
        reason: str,
        ticket: str | None = None,
        revision: int | None = None,
        force: bool = False,
    ) -> Operation[Removed]:
        """Take a quota away; one that jobs wait at, with `force` only."""
        path, headers = named("quotas", quota_id), signed(reason, ticket, revision)
        return (yield from self._change("DELETE", path, Removed, headers, query=forced(force)))

    def pause_quota(
        self, quota_id: str, *, reason: str, ticket: str | None = None
    ) -> Operation[QuotaView]:
        """Let nothing start that a quota is about."""
        path = f"{named('quotas', quota_id)}/pause"
        return (yield from self._operate(path, QuotaView, reason, ticket))

    def resume_quota(
        self, quota_id: str, *, reason: str, ticket: str | None = None
    ) -> Operation[QuotaView]:
        """Let what a quota is about start again."""
        path = f"{named('quotas', quota_id)}/resume"
        return (yield from self._operate(path, QuotaView, reason, ticket))

    def throttles_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[ThrottleView]]:
        """One page of the rates of the tenant, its job types and sources."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/throttles", Page[ThrottleView], query))

    def set_throttle(
        self,
        scope: ThrottleScope,
        key: str | None,
        rate: RatePolicy | None,
        *,
        reason: str,
        ticket: str | None = None,
    ) -> Operation[ThrottleView]:
        """Set the rate of the tenant (without `key`), a job type or a source; None lifts it."""
        body = ThrottleRequest(scope=scope, key=key, rate=rate)
        headers = signed(reason, ticket)
        return (yield from self._change("PUT", "/throttles", ThrottleView, headers, body))

    def weights_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[WeightView]]:
        """One page of the shares that differ from 1, by job type."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/weights", Page[WeightView], query))

    def set_weight(
        self, job_type: str, weight: int | None, *, reason: str, ticket: str | None = None
    ) -> Operation[WeightView]:
        """Set the share of a job type against others of its source; None makes it 1 again."""
        body = WeightRequest(job_type=job_type, weight=weight)
        headers = signed(reason, ticket)
        return (yield from self._change("PUT", "/weights", WeightView, headers, body))

    def governance(self) -> Operation[GovernanceView]:
        """How tenants share what may run at once, and what each of them has."""
        return (yield from self._get("/governance", GovernanceView))

    def set_governance(
        self,
        strategy: StrategyName,
        capacity: int | None = None,
        tenants: Sequence[ShareRequest] = (),
        *,
        reason: str,
        ticket: str | None = None,
        revision: int | None = None,
    ) -> Operation[GovernanceView]:
        """Set the whole policy; tenants that are not listed have the defaults."""
        body = GovernanceRequest(strategy=strategy, capacity=capacity, tenants=list(tenants))
        headers = signed(reason, ticket, revision)
        return (yield from self._change("PUT", "/governance", GovernanceView, headers, body))
