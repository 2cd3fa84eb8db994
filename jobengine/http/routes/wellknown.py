"""The API's own description: where it is, and the OpenAPI document. Without a token.

I1  An application describes exactly the rows that it answers, these two among them.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import attrs
import msgspec

from jobengine import __version__
from jobengine.domain.instant import to_rfc3339
from jobengine.http.answer import Answer
from jobengine.http.front import Front
from jobengine.http.openapi import document
from jobengine.http.route import OpenRoute, Route, SignedRoute
from jobengine.wire.fields import Instant

__all__ = ["DOCUMENT_PATH", "Discovery", "wellknown_routes"]

DOCUMENT_PATH: Final = "/openapi/jobengine.json"

_CACHED: Final = {"Cache-Control": "no-cache"}


class Discovery(msgspec.Struct, rename="camel", kw_only=True):
    """Where the description is, of which version, and since when it is served."""

    spec: str
    version: str
    generated_at: Instant


def wellknown_routes(
    routes: Sequence[Route],
    open_routes: Sequence[OpenRoute],
    signed_routes: Sequence[SignedRoute],
    generated_at: int = 0,
) -> tuple[OpenRoute, ...]:
    """Two rows that describe these rows and themselves. `generated_at`: UTC microseconds."""
    description = _Description(routes, open_routes, signed_routes, generated_at)
    return description.rows


@attrs.define(slots=False)
class _Description:
    _routes: Sequence[Route]
    _open_routes: Sequence[OpenRoute]
    _signed_routes: Sequence[SignedRoute]
    _generated_at: int

    @cached_property
    def rows(self) -> tuple[OpenRoute, ...]:
        return (
            OpenRoute(
                path="/.well-known/openapi",
                name="discoverDescription",
                summary="Where the description of this API is",
                handler=self._discover,
                answers={200: Discovery},
            ),
            OpenRoute(
                path=DOCUMENT_PATH,
                name="getDescription",
                summary="This API as an OpenAPI 3.1 document",
                handler=self._show,
                answers={200: dict[str, msgspec.Raw]},
            ),
        )

    @cached_property
    def _document(self) -> bytes:
        rows = document(self._routes, (*self._open_routes, *self.rows), self._signed_routes)
        return msgspec.json.encode(rows)

    async def _discover(self, _: Front) -> Answer:
        found = Discovery(
            spec=DOCUMENT_PATH, version=__version__, generated_at=to_rfc3339(self._generated_at)
        )
        return Answer(msgspec.json.encode(found), headers=dict(_CACHED))

    async def _show(self, _: Front) -> Answer:
        return Answer(self._document, headers=dict(_CACHED))
