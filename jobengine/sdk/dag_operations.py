"""What a client can ask about DAG templates: register, find, disable and enable their versions.

Not here: runs of them (`run_operations`).
"""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from jobengine.sdk.exchange import ApiError, Exchange, Operation, named, query_of
from jobengine.wire.documents import DagRequest, DagSummary, DagTemplateView
from jobengine.wire.jobs import Page

__all__ = ["DagOperations"]


@attrs.frozen
class DagOperations(Exchange):
    def register_dag(self, document: DagRequest | Mapping[str, Any]) -> Operation[DagTemplateView]:
        """Register a version of a DAG, the next one unless it names one; versions never change.

        A mapping has the names of the wire.
        """
        return (yield from self._post("/dags", DagTemplateView, msgspec.json.encode(document)))

    def dags_page(
        self,
        *,
        dag_id: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[DagSummary]]:
        """One page of versions, by DAG and version; those of one DAG or of all."""
        query = query_of(dagId=dag_id, pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/dags", Page[DagSummary], query))

    def dag(self, dag_id: str, version: int | None = None) -> Operation[DagTemplateView]:
        """A version of a DAG; the newest one, disabled or not, unless one is named."""
        if version is None:
            version = yield from self._newest(dag_id)
        path = f"{named('dags', dag_id)}/{version}"
        return (yield from self._get(path, DagTemplateView))

    def disable_dag(
        self, dag_id: str, version: int, *, reason: str, ticket: str
    ) -> Operation[DagTemplateView]:
        """Let no new run use a version; runs that are under way go on."""
        path = f"{named('dags', dag_id)}/{version}:disable"
        return (yield from self._operate(path, DagTemplateView, reason, ticket))

    def enable_dag(
        self, dag_id: str, version: int, *, reason: str, ticket: str
    ) -> Operation[DagTemplateView]:
        """Let new runs use a version again."""
        path = f"{named('dags', dag_id)}/{version}:enable"
        return (yield from self._operate(path, DagTemplateView, reason, ticket))

    def _newest(self, dag_id: str) -> Operation[int]:
        newest, token = 0, None
        while True:
            page = yield from self.dags_page(dag_id=dag_id, page_token=token)
            newest = max([newest, *(each.version for each in page.items)])
            if (token := page.next_page_token) is None:
                break
        if not newest:
            raise ApiError(404, "NOT_FOUND", f"there is no DAG {dag_id} here")
        return newest
