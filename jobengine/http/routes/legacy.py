"""Paths of the earlier API that still answer, as their successors do, and say that they will go.

Each answer to an admitted request carries `Deprecation` (RFC 9745), `Sunset`
(RFC 8594) and the path that answers in its place as `Link` (RFC 8288).
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

import attrs

from jobengine.http.answer import AnyAnswer
from jobengine.http.route import BASE, Call, Route
from jobengine.http.routes import jobs

__all__ = ["LEGACY_BASE", "ROUTES"]

LEGACY_BASE: Final = "/api/v1/orchestrator"

_DEPRECATED: Final = datetime(2026, 11, 1, tzinfo=UTC)
_SUNSET: Final = datetime(2027, 12, 31, tzinfo=UTC)
_NAMES: Final = {
    "listJobs": "listJobsLegacy",
    "summariseJobs": "summariseJobsLegacy",
    "getJob": "getJobLegacy",
}


def _legacy(row: Route, name: str) -> Route:
    """The row under its earlier path."""

    async def answer(call: Call[Any, Any]) -> AnyAnswer:
        given = await row.handler(call)
        successor = BASE + row.path.format(**call.path)
        return attrs.evolve(given, headers={**given.headers, **_leaving(successor)})

    return attrs.evolve(
        row,
        base="",
        path=LEGACY_BASE + row.path,
        name=name,
        handler=answer,
        successor=row.path,
    )


def _leaving(successor: str) -> dict[str, str]:
    return {
        "Deprecation": f"@{int(_DEPRECATED.timestamp())}",
        "Sunset": format_datetime(_SUNSET, usegmt=True),
        "Link": f'<{successor}>; rel="successor-version"',
    }


ROUTES: Final = tuple(_legacy(row, _NAMES[row.name]) for row in jobs.ROUTES if row.name in _NAMES)
