"""Every gate that an operator opens: closed and opened live, with a real worker at the other door.

What a gate sees and names is one row of a table; each is played by a tenant of its own, in memory
and over PostgreSQL.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from jobengine.engine import open_database
from jobengine.settings import Settings
from tests.gates.gate_node import Tenant
from tests.http.opened import Opened, opened

Request = tuple[str, str] | tuple[str, str, Any]

SETTINGS: Final = Settings(shards=2, ask_timeout_s=20.0)
PLENTY: Final = {"rpm": 60_000, "burst": 1_000}
NOW: Final = {"startAt": "2025-12-31T00:00:00Z", "endAt": "2026-12-31T00:00:00Z"}
"""The wall clock of these engines starts with 2026."""
LATER: Final = {"startAt": "2998-01-01T00:00:00Z", "endAt": "2998-12-31T00:00:00Z"}


def source(source_id: str = "osv", **fields: Any) -> Request:
    body = {"sourceId": source_id, "sourceType": "advisories", "host": "api.osv.example"}
    return "POST", "/sources", {**body, "ratePolicy": PLENTY, **fields}


def quota(**fields: Any) -> Request:
    return "POST", "/quotas", {"quotaId": "q", "scope": "tenant", **fields}


def blackout(calendar: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    return {"calendar": [{"kind": "one_off", **calendar}], **fields}


def governed(strategy: str, capacity: int, **share: int) -> Request:
    tenants = [{"tenantId": "TENANT", **share}] if share else []
    body = {"strategy": strategy, "capacity": capacity, "tenants": tenants}
    return "PUT", "/governance", body


UNGOVERNED: Final = ("PUT", "/governance", {"strategy": "unlimited"})


@attrs.frozen(kw_only=True)
class Case:
    """`closing` is asked before anything; `before` runs while `job` waits at `gate`."""

    gate: str
    seen: Mapping[str, str]
    opening: Sequence[Request]
    closing: Sequence[Request] = ()
    before: Mapping[str, Any] | None = None
    job: Mapping[str, Any] = {}
    opens_at: bool = False


def seen(key: str, observed: str, limit: str) -> dict[str, str]:
    return {"key": key, "observed": observed, "limit": limit}


OF_OSV: Final = {"sourceId": "osv"}
CASES: Final = {
    "a hold": Case(
        gate="held",
        job={"hold": True},
        seen=seen("hold", "held", "released"),
        opening=[("POST", "/jobs/JOB:release")],
    ),
    "a pause of the tenant": Case(
        gate="paused",
        closing=[("POST", "/tenant:pause")],
        seen=seen("tenant", "paused", "running"),
        opening=[("POST", "/tenant:resume")],
    ),
    "a pause of a queue": Case(
        gate="paused",
        closing=[("POST", "/queues/slow:pause")],
        job={"queue": "slow"},
        seen=seen("queue:slow", "paused", "running"),
        opening=[("POST", "/queues/slow:resume")],
    ),
    "a pause of a source": Case(
        gate="paused",
        closing=[source(), ("POST", "/sources/osv:pause")],
        job=OF_OSV,
        seen=seen("source:osv", "paused", "running"),
        opening=[("POST", "/sources/osv:resume")],
    ),
    "a paused quota": Case(
        gate="paused",
        closing=[quota(scope="project", key="alpha", maxActive=9), ("POST", "/quotas/q/pause")],
        job={"projectId": "alpha"},
        seen=seen("quota:q", "paused", "running"),
        opening=[("POST", "/quotas/q/resume")],
    ),
    "a blackout that is taken away": Case(
        gate="blackout",
        closing=[("POST", "/blackouts", blackout(NOW, blackoutId="b", scope="tenant"))],
        seen=seen("b", "inside a window", "nothing starts"),
        opens_at=True,
        opening=[("DELETE", "/blackouts/b?force=true")],
    ),
    "a blackout of a source that is put off": Case(
        gate="blackout",
        closing=[
            source(),
            ("POST", "/blackouts", blackout(NOW, blackoutId="b", scope="source", key="osv")),
        ],
        job=OF_OSV,
        seen=seen("b", "inside a window", "nothing starts"),
        opens_at=True,
        opening=[("PATCH", "/blackouts/b", blackout(LATER))],
    ),
    "a breaker that is forced open": Case(
        gate="breaker",
        closing=[source(), ("POST", "/breakers/osv:open")],
        job=OF_OSV,
        seen=seen("osv", "forced_open: 0", "0"),
        opening=[("POST", "/breakers/osv:close")],
    ),
    "a breaker that is given back": Case(
        gate="breaker",
        closing=[source(), ("POST", "/breakers/osv:open")],
        job=OF_OSV,
        seen=seen("osv", "forced_open: 0", "0"),
        opening=[("POST", "/breakers/osv:release")],
    ),
    "a quota of running jobs": Case(
        gate="quota_active",
        closing=[quota(scope="job_type", key="scan", maxActive=1)],
        before={},
        seen=seen("quota:q", "1", "1"),
        opening=[("PATCH", "/quotas/q", {"maxActive": 2})],
    ),
    "a source's limit on running jobs": Case(
        gate="quota_active",
        closing=[source(maxActive=1)],
        before=OF_OSV,
        job=OF_OSV,
        seen=seen("source:osv", "1", "1"),
        opening=[("PATCH", "/sources/osv", {"maxActive": None})],
    ),
    "a quota of starts an hour": Case(
        gate="quota_hour",
        closing=[quota(maxPerHour=1)],
        before={},
        seen=seen("quota:q", "1 starts in an hour", "1 starts in any hour"),
        opens_at=True,
        opening=[("PATCH", "/quotas/q", {"maxPerHour": 2})],
    ),
    "a rate that is used up": Case(
        gate="rate",
        closing=[source(ratePolicy={"rpm": 1, "burst": 1})],
        before=OF_OSV,
        job=OF_OSV,
        seen={"key": "host:api.osv.example"},
        opens_at=True,
        opening=[("PATCH", "/sources/osv", {"ratePolicy": PLENTY})],
    ),
    "a source without a rate": Case(
        gate="rate",
        closing=[source(ratePolicy=None)],
        job=OF_OSV,
        seen=seen("source:osv", "no rate policy", "a rate policy"),
        opening=[("PATCH", "/sources/osv", {"ratePolicy": PLENTY})],
    ),
    "a throttle of a job type": Case(
        gate="rate",
        closing=[
            ("PUT", "/throttles", {"scope": "job_type", "key": "scan", "rate": {"rpm": 1}}),
        ],
        before={},
        seen={"key": "throttle:job_type:scan"},
        opens_at=True,
        opening=[("PUT", "/throttles", {"scope": "job_type", "key": "scan", "rate": None})],
    ),
    "a throttle of a source": Case(
        gate="rate",
        closing=[source(), ("POST", "/sources/osv:throttle", {"rpm": 1, "burst": 1})],
        before=OF_OSV,
        job=OF_OSV,
        seen={"key": "throttle:source:osv"},
        opens_at=True,
        opening=[("POST", "/sources/osv:throttle", {"rate": None})],
    ),
    "a lock that another source holds": Case(
        gate="concurrency_key",
        closing=[source(lockKey="one"), source("nvd", lockKey="one")],
        before={"sourceId": "nvd"},
        job=OF_OSV,
        seen=seen("one", "1", "1"),
        opening=[("PATCH", "/sources/nvd", {"lockKey": None})],
    ),
    "a proportional allotment": Case(
        gate="quota_active",
        closing=[governed("proportional", 1)],
        before={},
        seen=seen("governance", "1", "1"),
        opening=[governed("proportional", 2), UNGOVERNED],
    ),
    "a cap by governance": Case(
        gate="quota_active",
        closing=[governed("max-limit", 9, cap=1)],
        before={},
        seen=seen("governance", "1", "1"),
        opening=[governed("max-limit", 9, cap=2), UNGOVERNED],
    ),
}


async def play(tenant: Tenant, case: Case) -> None:
    """Closed: explained, and the job not given. Open: given."""
    for request in case.closing:
        await asked(tenant, request)
    async with tenant.worker() as worker:
        if case.before is not None:
            await worker.given(await tenant.submit(**case.before))
        job_id = await tenant.submit(**case.job)
        gate = await tenant.closed(worker, job_id, case.gate, **case.seen)
        assert ("opensAt" in gate) is case.opens_at
        first, *others = case.opening
        await asked(tenant, first, job_id)
        await tenant.opened(worker, job_id)
        for request in others:
            await asked(tenant, request)
        for held in list(worker.leases):
            await worker.complete(held)


async def asked(tenant: Tenant, request: Request, job_id: str = "") -> None:
    method, path, *body = request
    content: Any = body[0] if body else None
    if path == "/governance":
        listed = [{**one, "tenantId": tenant.name} for one in content.get("tenants", ())]
        content = {**content, "tenants": listed}
    await tenant.asked(method, path.replace("JOB", job_id), content)


async def play_all(node: Opened) -> None:
    """Each by a tenant of its own; what fails names its case."""
    for number, (name, case) in enumerate(CASES.items()):
        try:
            await play(Tenant(node, f"tenant-{number}"), case)
        except BaseException as error:
            error.add_note(f"the case is {name!r}")
            raise


async def test_a_closed_gate_keeps_a_job_from_the_worker_until_an_operator_opens_it() -> None:
    async with opened(SETTINGS) as node:
        await play_all(node)


async def test_every_gate_does_the_same_over_postgresql(migrated_database: str) -> None:
    async with (
        open_database(SETTINGS, conninfo=migrated_database) as store,
        opened(SETTINGS, store=store) as node,
    ):
        await play_all(node)
