"""What the engine asks of its store about the bytes of artifacts.

An upload is begun, gets its chunks one after another, and is finished under the digest of all of
them or discarded. Bytes belong to one tenant and are found by their digest.

I1  Nothing of an upload is found before it is finished.
I2  A tenant has bytes once: finishing an upload of bytes that are there drops the upload.
I3  What a tenant's chunks add up to, those of unfinished uploads included, is never above the limit
    that came with the last of them.
I4  Bytes that an attempt has named are never swept.

Not here: who computes and checks digests (the door), what attempts name (`port.Store.artifacts`).
"""

from typing import Final, Protocol

import attrs

__all__ = ["CHUNK_BYTES", "ArtifactContent", "ArtifactStore", "Swept", "UploadGoneError"]

CHUNK_BYTES: Final = 256 * 1024
"""Every chunk but the last has this length, so that a position says which chunk holds it."""


class UploadGoneError(Exception):
    """The upload was swept, for nothing of it had come for long. Nothing changed."""


@attrs.frozen(kw_only=True)
class ArtifactContent:
    """Bytes that a tenant has, by their `digest` (`sha256:` and hex)."""

    content_id: str
    digest: str
    mime: str
    size_bytes: int
    stored_at: int


@attrs.frozen
class Swept:
    """`after` is where to go on, or None at the end."""

    removed: int
    after: tuple[int, str, str] | None


class ArtifactStore(Protocol):
    async def begin_artifact(
        self, tenant_id: str, content_id: str, mime: str, now_at: int
    ) -> None: ...

    async def put_artifact_chunk(
        self,
        tenant_id: str,
        content_id: str,
        number: int,
        chunk: bytes,
        tenant_bytes_max: int,
        now_at: int,
    ) -> bool:
        """Add the chunk of this number, from 0; False, and nothing done, without room for it.

        Raises `UploadGoneError`.
        """

    async def finish_artifact(
        self, tenant_id: str, content_id: str, digest: str, now_at: int
    ) -> tuple[ArtifactContent, bool]:
        """What the tenant now has under the digest, and whether it is new; if it is not, the bytes
        that were there count as touched now. Raises `UploadGoneError`."""

    async def discard_artifact(self, tenant_id: str, content_id: str) -> None:
        """Forget an unfinished upload; one that is finished, or not there, is left alone."""

    async def artifact_content(self, tenant_id: str, digest: str) -> ArtifactContent | None: ...

    async def artifact_chunk(self, tenant_id: str, content_id: str, number: int) -> bytes | None:
        """None behind the last chunk, and when the bytes have been swept."""

    async def artifact_bytes(self, tenant_id: str) -> int:
        """What the tenant's chunks add up to (I3)."""

    async def sweep_artifacts(
        self,
        after: tuple[int, str, str] | None,
        unnamed_before_at: int,
        unfinished_before_at: int,
        contents_max: int,
    ) -> Swept:
        """Look at the next `contents_max` contents of any tenant, by the time they were touched
        last, and remove finished ones from before the first instant that no attempt has named and
        unfinished ones from before the second."""
