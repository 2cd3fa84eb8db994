"""What a client can ask about packs and their runs.

`reason` and `ticket` of an act are kept in the audit. A run of a pack is a run: graph, approvals
and reruns are asked for by `run_operations`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from jobengine.sdk.exchange import ApiError, Exchange, Operation, named, query_of
from jobengine.wire.jobs import Page
from jobengine.wire.packs import (
    PackArtifactView,
    PackLogLine,
    PackRequest,
    PackRunRequest,
    PackRunView,
    PackSummary,
    PackView,
)
from jobengine.wire.run_views import RunStateName

__all__ = ["PackOperations"]


@attrs.frozen
class PackOperations(Exchange):
    def register_pack(self, document: PackRequest | Mapping[str, Any]) -> Operation[PackView]:
        """Register a version of a pack, the next one unless it names one; versions never change.

        A mapping has the names of the wire.
        """
        return (yield from self._post("/packs", PackView, msgspec.json.encode(document)))

    def packs_page(
        self,
        *,
        pack_id: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[PackSummary]]:
        """One page of versions, by pack and version; those of one pack or of all."""
        query = query_of(packId=pack_id, pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/packs", Page[PackSummary], query))

    def pack(self, pack_id: str, version: int | None = None) -> Operation[PackView]:
        """A version of a pack; the newest one, disabled or not, unless one is named. In place of
        the id there may be a digest (`sha256:…`), which names the version too."""
        if pack_id.startswith("sha256:"):
            return (yield from self._get(f"/packs/{pack_id}", PackView))
        if version is None:
            version = yield from self._newest_pack(pack_id)
        return (yield from self._get(f"{named('packs', pack_id)}/{version}", PackView))

    def disable_pack(
        self, pack_id: str, version: int, *, reason: str, ticket: str
    ) -> Operation[PackView]:
        """Let no new run use a version; runs that are under way go on."""
        path = f"{named('packs', pack_id)}/{version}:disable"
        return (yield from self._operate(path, PackView, reason, ticket))

    def enable_pack(
        self, pack_id: str, version: int, *, reason: str, ticket: str
    ) -> Operation[PackView]:
        """Let new runs use a version again."""
        path = f"{named('packs', pack_id)}/{version}:enable"
        return (yield from self._operate(path, PackView, reason, ticket))

    def create_pack_run(
        self, document: PackRunRequest | Mapping[str, Any]
    ) -> Operation[PackRunView]:
        """Begin a run of a pack. The first of a `run_token` is answered to every call that asks for
        the same. A mapping has the names of the wire."""
        return (yield from self._post("/pack-runs", PackRunView, msgspec.json.encode(document)))

    def pack_runs_page(
        self,
        *,
        state: RunStateName | Sequence[RunStateName] | None = None,
        pack_id: str | None = None,
        project: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Operation[Page[PackRunView]]:
        """One page of runs of packs, newest first, filtered."""
        query = query_of(
            state=state if state is None or isinstance(state, str) else ",".join(state) or None,
            packId=pack_id,
            project=project,
            pageSize=page_size,
            pageToken=page_token,
        )
        return (yield from self._get("/pack-runs", Page[PackRunView], query))

    def pack_run(self, run_id: str) -> Operation[PackRunView]:
        """One run of a pack as it is now."""
        return (yield from self._get(named("pack-runs", run_id), PackRunView))

    def pack_run_logs_page(
        self, run_id: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[PackLogLine]]:
        """One page of the log lines of all jobs of a run, in the order they were stored."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        path = f"{named('pack-runs', run_id)}/logs"
        return (yield from self._get(path, Page[PackLogLine], query))

    def pack_run_artifacts_page(
        self, run_id: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[PackArtifactView]]:
        """One page of the artifacts of all jobs of a run, by key, attempt and name."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        path = f"{named('pack-runs', run_id)}/artifacts"
        return (yield from self._get(path, Page[PackArtifactView], query))

    def cancel_pack_run(self, run_id: str, *, reason: str, ticket: str) -> Operation[PackRunView]:
        """Give a run up; it is `cancelled` once all that runs has stopped."""
        path = f"{named('pack-runs', run_id)}:cancel"
        return (yield from self._operate(path, PackRunView, reason, ticket))

    def _newest_pack(self, pack_id: str) -> Operation[int]:
        newest, token = 0, None
        while True:
            page = yield from self.packs_page(pack_id=pack_id, page_token=token)
            newest = max([newest, *(each.version for each in page.items)])
            if (token := page.next_page_token) is None:
                break
        if not newest:
            raise ApiError(404, "NOT_FOUND", f"there is no pack {pack_id} here")
        return newest
