"""Where a worker's handlers leave the bytes that they produce: the REST interface of its engine."""

import ssl
from collections.abc import Callable

from jobengine.sdk.artifacts import Source
from jobengine.sdk.client import Client
from jobengine.wire.artifacts import StoredArtifact

__all__ = ["Uploader"]


class Uploader:
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

    def __call__(self, source: Source, mime: str | None, tenant: str) -> StoredArtifact:
        """Store bytes for a tenant. Blocks; raises as `Client.upload_artifact`."""
        with Client(
            self._url, token=self._token(), tenant=self._tenant or tenant, verify=self._tls
        ) as client:
            return client.upload_artifact(source, mime=mime)
