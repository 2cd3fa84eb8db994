"""What a client can ask of the REST interface: all operations, each decided once.

`client` has one driver for blocking and one for async use; an operation itself does no I/O.
Here stand those on workers and artifacts; those on jobs, dead letters and admission have modules of
their own.
Not here: how an exchange goes, and when it is repeated (`exchange`). Paths: see `docs`, REST
contract.
"""

from urllib.parse import quote

import attrs
import msgspec

from jobengine.sdk.admission_operations import AdmissionOperations
from jobengine.sdk.artifacts import OCTETS, ArtifactDamaged, Upload, path_of
from jobengine.sdk.dead_letter_operations import DeadLetterOperations
from jobengine.sdk.exchange import BASE, ApiError, Call, Operation, query_of
from jobengine.sdk.job_operations import JobOperations
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.jobs import Page
from jobengine.wire.operating import DrainRequest, WorkerView

__all__ = ["Operations"]


@attrs.frozen
class Operations(JobOperations, DeadLetterOperations, AdmissionOperations):
    """The operations of one client, with what all of their requests share."""

    def workers_page(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Operation[Page[WorkerView]]:
        """One page of the workers that are attached, by id."""
        query = query_of(pageSize=page_size, pageToken=page_token)
        return (yield from self._get("/workers", Page[WorkerView], query))

    def worker(self, worker_id: str) -> Operation[WorkerView]:
        """One attached worker."""
        return (yield from self._get(f"/workers/{quote(worker_id, safe='')}", WorkerView))

    def drain_worker(
        self, worker_id: str, *, reason: str, ticket: str, within_s: int = 300
    ) -> Operation[WorkerView]:
        """Grant a worker no more leases, and tell it to end what it holds by then."""
        path, body = f"/workers/{quote(worker_id, safe='')}:drain", DrainRequest(within_s)
        return (yield from self._operate(path, WorkerView, reason, ticket, body))

    def upload_artifact(self, upload: Upload) -> Operation[StoredArtifact]:
        """Store the bytes of an upload, under the digest that it has."""
        sent = {**self.headers, **upload.headers()}
        answer = yield from self._exchange(Call("POST", BASE + "/artifacts", {}, sent, upload))
        stored = msgspec.json.decode(answer.body, type=StoredArtifact)
        if stored.digest != upload.digest:
            raise ArtifactDamaged(f"{upload.digest} was stored as {stored.digest}")
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
