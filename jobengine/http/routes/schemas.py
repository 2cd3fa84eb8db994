"""The published schemas, without a token: consumers fetch them once and keep them.

I1  What is served is the file of the package, byte for byte.
"""

import hashlib
from importlib.resources import files
from typing import Final

import msgspec

from jobengine.http.answer import Answer
from jobengine.http.front import Front
from jobengine.http.representation import etag_of
from jobengine.http.route import OpenRoute
from jobengine.wire.event_schema import SCHEMA_NAME

__all__ = ["EVENT_SCHEMA_PATH", "ROUTES"]

EVENT_SCHEMA_PATH: Final = f"/schemas/{SCHEMA_NAME}"

_EVENT_SCHEMA: Final = files("jobengine.wire").joinpath(SCHEMA_NAME).read_bytes()
_HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "ETag": etag_of(f"sha256:{hashlib.sha256(_EVENT_SCHEMA).hexdigest()}"),
}


async def show_event_schema(_: Front) -> Answer:
    return Answer(_EVENT_SCHEMA, headers=dict(_HEADERS), media_type="application/schema+json")


ROUTES: Final = (
    OpenRoute(
        path=EVENT_SCHEMA_PATH,
        name="getEventSchema",
        summary="The JSON Schema (2020-12) of events, orch.event.v1",
        handler=show_event_schema,
        answers={200: dict[str, msgspec.Raw]},
        media_type="application/schema+json",
    ),
)
