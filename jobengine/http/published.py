"""The description of all that a node answers, without a node: for `docs/` and the command line."""

import json
from typing import Any, Final, cast

from jobengine.http.openapi import document
from jobengine.http.routes.wellknown import wellknown_routes
from jobengine.http.table import OPEN_ROUTES, ROUTES, SIGNED_ROUTES
from jobengine.http.worker_calls import WorkerCalls, worker_routes

__all__ = ["published_document", "published_text"]

# These rows are described and never called, so nothing stands behind them.
_UNSERVED: Final = WorkerCalls(cast(Any, None), cast(Any, None))


def published_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of a node's HTTP port."""
    routes = (*ROUTES, *worker_routes(_UNSERVED))
    described = wellknown_routes(routes, OPEN_ROUTES, SIGNED_ROUTES)
    return document(routes, (*OPEN_ROUTES, *described), SIGNED_ROUTES)


def published_text() -> str:
    """The document as JSON text for people and diffs, with a final newline."""
    return json.dumps(published_document(), indent=2, ensure_ascii=False) + "\n"
