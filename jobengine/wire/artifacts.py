"""The bytes of artifacts as REST names them."""

import msgspec

__all__ = ["StoredArtifact"]


class StoredArtifact(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Bytes that the tenant has. `digest` is `sha256:` and 64 hex digits; `uri` is the path under
    which they are read, and what to name them by in a job."""

    digest: str
    size_bytes: int
    mime: str
    uri: str
