"""What a worker's handlers ask of its engine's REST interface: to store bytes, to grow a run."""

import ssl
from collections.abc import Callable

from jobengine.sdk.artifacts import Source
from jobengine.sdk.client import Client
from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.runs import ExtendRequest

__all__ = ["RestDoor"]


class RestDoor:
    """Called from any thread; each call has a connection and reads the token as it is then."""

    def __init__(
        self,
        url: str,
        token: Callable[[], str | None],
        tenant: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._url = url
        self._token = token
        self._tenant = tenant
        self._tls = tls

    def store(self, source: Source, mime: str | None, tenant: str) -> StoredArtifact:
        """Store bytes for a tenant. Blocks; raises as `Client.upload_artifact`."""
        with self._client(tenant) as client:
            return client.upload_artifact(source, mime=mime)

    def extend(self, run_id: str, growth: ExtendRequest, tenant: str) -> list[str]:
        """Grow a run of a tenant; answers the ids of the new jobs. Blocks; raises as
        `Client.extend_run`."""
        with self._client(tenant) as client:
            return client.extend_run(run_id, growth.jobs, growth.edges).job_ids

    def _client(self, tenant: str) -> Client:
        return Client(
            self._url, token=self._token(), tenant=self._tenant or tenant, verify=self._tls
        )
