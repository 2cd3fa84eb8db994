"""The route table: every endpoint of the REST front, group by group."""

from typing import Final

from jobengine.http.route import OpenRoute, Route, SignedRoute
from jobengine.http.routes import (
    activity,
    apikeys,
    artifacts,
    blackouts,
    buckets,
    console,
    dags,
    deadletter,
    explain,
    governance,
    health,
    job_logs,
    jobs,
    keys,
    legacy,
    letter_counts,
    limits,
    operations,
    pack_run_reads,
    pack_runs,
    packs,
    pauses,
    quotas,
    redrives,
    run_nodes,
    run_reads,
    runs,
    schemas,
    sources,
    streams,
    submits,
    webhook_acts,
    webhooks,
    workers,
)

__all__ = ["OPEN_ROUTES", "ROUTES", "SIGNED_ROUTES"]

ROUTES: Final[tuple[Route, ...]] = (
    *submits.ROUTES,
    *jobs.ROUTES,
    *job_logs.ROUTES,
    *operations.ROUTES,
    *deadletter.ROUTES,
    *letter_counts.ROUTES,
    *redrives.ROUTES,
    *explain.ROUTES,
    *runs.ROUTES,
    *run_reads.ROUTES,
    *run_nodes.ROUTES,
    *dags.ROUTES,
    *packs.ROUTES,
    *pack_runs.ROUTES,
    *pack_run_reads.ROUTES,
    *sources.ROUTES,
    *buckets.ROUTES,
    *quotas.ROUTES,
    *limits.ROUTES,
    *blackouts.ROUTES,
    *pauses.ROUTES,
    *governance.ROUTES,
    *workers.ROUTES,
    *activity.ROUTES,
    *streams.ROUTES,
    *webhooks.ROUTES,
    *webhook_acts.ROUTES,
    *artifacts.ROUTES,
    *apikeys.ROUTES,
    *legacy.ROUTES,
)

OPEN_ROUTES: Final[tuple[OpenRoute, ...]] = (
    *health.ROUTES,
    *keys.ROUTES,
    *schemas.ROUTES,
    *console.ROUTES,
)

SIGNED_ROUTES: Final[tuple[SignedRoute, ...]] = run_nodes.SIGNED_ROUTES
