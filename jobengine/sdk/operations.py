"""What a client can ask of the REST interface: all operations, each decided once.

`blocking` drives them for blocking code, `awaiting` for async; an operation itself does no I/O.
Here stand those on workers and artifacts; those on jobs, runs, DAGs, packs, dead letters, sources,
limits, pauses and webhooks have modules of their own.
Not here: how an exchange goes, and when it is repeated (`exchange`). Paths: see `docs`, REST
contract.
"""

import attrs
import msgspec

from jobengine.sdk.artifacts import OCTETS, ArtifactDamagedError, Upload, path_of
from jobengine.sdk.dag_operations import DagOperations
from jobengine.sdk.dead_letter_operations import DeadLetterOperations
from jobengine.sdk.exchange import BASE, ApiError, Call, Operation, named, query_of
from jobengine.sdk.job_operations import JobOperations
from jobengine.sdk.limit_operations import LimitOperations
from jobengine.sdk.pack_operations import PackOperations
from jobengine.sdk.pause_operations import PauseOperations
from jobengine.sdk.run_operations import RunOperations
from jobengine.sdk.source_operations import SourceOperations
from jobengine.sdk.webhook_operations import WebhookOperations
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import Page
from jobengine.wire.operating import DrainRequest, WorkerView

__all__ = ["Operations"]


@attrs.frozen
class Operations(
    JobOperations,
    RunOperations,
    DagOperations,
    PackOperations,
    DeadLetterOperations,
    SourceOperations,
    LimitOperations,
    PauseOperations,
    WebhookOperations,
):
    """The operations of one client, with what all of their requests share."""

    def workers_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[WorkerView]]:
        """One page of the workers that are attached, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/workers", Page[WorkerView], query))

    def worker(self, worker_id: str) -> Operation[WorkerView]:
        """One attached worker."""
        return (yield from self._get(named("workers", worker_id), WorkerView))

    def drain_worker(
        self, worker_id: str, *, reason: str, ticket: str, within_s: int = 300
    ) -> Operation[WorkerView]:
        """Grant a worker no more leases, and tell it to end what it holds by then."""
        path, body = f"{named('workers', worker_id)}:drain", DrainRequest(within_s)
        return (yield from self._operate(path, WorkerView, reason, ticket, body))

    def upload_artifact(self, upload: Upload) -> Operation[StoredArtifact]:
        """Store the bytes of an upload, under the digest that it has."""
        sent = {**self.headers, **upload.headers()}
        answer = yield from self._exchange(Call("POST", BASE + "/artifacts", {}, sent, upload))
        stored = msgspec.json.decode(answer.body, type=StoredArtifact)
        if stored.digest != upload.digest:
            raise ArtifactDamagedError(f"{upload.digest} was stored as {stored.digest}")
        return stored

    def artifact(self, digest: str) -> Operation[StoredArtifact]:
        """What there is under a digest, without its bytes."""
        call = Call("HEAD", path_of(digest), {}, self.headers, None)
        try:
            answer = yield from self._exchange(call)
        except ApiError as error:
            if error.http_status != 404:
                raise
            # The answer to HEAD has no body to say it with.
            message = "the tenant has no artifact with this digest"
            raise ApiError(404, "NOT_FOUND", message, trace_id=error.trace_id) from None
        found = answer.headers.get("etag", "").strip('"')
        return StoredArtifact(
            digest=found,
            size_bytes=int(answer.headers.get("content-length", "0")),
            mime=answer.headers.get("content-type", OCTETS),
            uri=path_of(found),
        )
