"""The route table: every endpoint of the REST front, group by group."""

from typing import Final

from jobengine.http.route import OpenRoute, Route
from jobengine.http.routes import (
    apikeys,
    artifacts,
    blackouts,
    buckets,
    console,
    deadletter,
    explain,
    governance,
    health,
    jobs,
    keys,
    legacy,
    letter_counts,
    limits,
    operations,
    pauses,
    quotas,
    redrives,
    sources,
    streams,
    submits,
    workers,
)

__all__ = ["OPEN_ROUTES", "ROUTES"]

ROUTES: Final[tuple[Route, ...]] = (
    *submits.ROUTES,
    *jobs.ROUTES,
    *operations.ROUTES,
    *deadletter.ROUTES,
    *letter_counts.ROUTES,
    *redrives.ROUTES,
    *explain.ROUTES,
    *sources.ROUTES,
    *buckets.ROUTES,
    *quotas.ROUTES,
    *limits.ROUTES,
    *blackouts.ROUTES,
    *pauses.ROUTES,
    *governance.ROUTES,
    *workers.ROUTES,
    *streams.ROUTES,
    *artifacts.ROUTES,
    *apikeys.ROUTES,
    *legacy.ROUTES,
)

OPEN_ROUTES: Final[tuple[OpenRoute, ...]] = (*health.ROUTES, *keys.ROUTES, *console.ROUTES)
