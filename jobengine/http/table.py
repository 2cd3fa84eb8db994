"""The route table: every endpoint of the REST front, group by group."""

from typing import Final

from jobengine.http.route import OpenRoute, Route
from jobengine.http.routes import (
    apikeys,
    console,
    deadletter,
    health,
    jobs,
    keys,
    legacy,
    operations,
    streams,
    submits,
)

__all__ = ["OPEN_ROUTES", "ROUTES"]

ROUTES: Final[tuple[Route, ...]] = (
    *submits.ROUTES,
    *jobs.ROUTES,
    *operations.ROUTES,
    *deadletter.ROUTES,
    *streams.ROUTES,
    *apikeys.ROUTES,
    *legacy.ROUTES,
)

OPEN_ROUTES: Final[tuple[OpenRoute, ...]] = (*health.ROUTES, *keys.ROUTES, *console.ROUTES)
