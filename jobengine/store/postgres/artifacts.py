"""The bytes of artifacts on PostgreSQL: chunks in rows, a statement a chunk.

An upload holds no connection and no transaction between two chunks, so a slow one costs others
nothing. Uploads are written as the role that sees their tenant alone; the sweep spans tenants.
"""

from typing import Any, Final, Protocol

from jobengine.store.artifacts import ArtifactContent, Swept, UploadGoneError
from jobengine.store.errors import StatementRefusedError
from jobengine.store.postgres.fetching import Rows

__all__ = ["PostgresArtifacts"]

_GONE: Final = "JE003"
_ONE_CONTENT: Final = "artifact_contents_digest_is_one_contents"
_BEFORE_FIRST: Final = (-(2**63), "", "00000000-0000-0000-0000-000000000000")


class PostgresArtifacts(Rows, Protocol):
    """`jobengine.store.artifacts.ArtifactStore`, for a store that can fetch."""

    async def begin_artifact(self, tenant_id: str, content_id: str, mime: str, now_at: int) -> None:
        await self._fetch_of(
            tenant_id, "artifact_begin", content_id=content_id, mime=mime, now_at=now_at
        )

    async def put_artifact_chunk(
        self,
        tenant_id: str,
        content_id: str,
        number: int,
        chunk: bytes,
        tenant_bytes_max: int,
        now_at: int,
    ) -> bool:
        try:
            rows = await self._fetch_of(
                tenant_id,
                "artifact_put",
                content_id=content_id,
                number=number,
                chunk=chunk,
                tenant_bytes_max=tenant_bytes_max,
                now_at=now_at,
            )
        except StatementRefusedError as error:
            if error.sqlstate == _GONE:
                raise UploadGoneError(content_id) from None
            raise
        return bool(rows[0][0])

    async def finish_artifact(
        self, tenant_id: str, content_id: str, digest: str, now_at: int
    ) -> tuple[ArtifactContent, bool]:
        parameters = {"content_id": content_id, "digest": digest, "now_at": now_at}
        try:
            rows = await self._fetch_of(tenant_id, "artifact_finish", **parameters)
        except StatementRefusedError as error:
            if error.constraint_name != _ONE_CONTENT:
                raise
            # Another upload of the same bytes came first in this moment: it is there by now.
            rows = await self._fetch_of(tenant_id, "artifact_finish", **parameters)
        if not rows:
            raise UploadGoneError(content_id)
        is_new, *content = rows[0]
        return _content(content), is_new

    async def discard_artifact(self, tenant_id: str, content_id: str) -> None:
        await self._fetch_of(tenant_id, "artifact_discard", content_id=content_id)

    async def artifact_content(self, tenant_id: str, digest: str) -> ArtifactContent | None:
        rows = await self._fetch_of(tenant_id, "artifact_content", digest=digest)
        return _content(rows[0]) if rows else None

    async def artifact_chunk(self, tenant_id: str, content_id: str, number: int) -> bytes | None:
        rows = await self._fetch_of(
            tenant_id, "artifact_chunk", content_id=content_id, number=number
        )
        return rows[0][0] if rows else None

    async def artifact_bytes(self, tenant_id: str) -> int:
        rows = await self._fetch_of(tenant_id, "artifact_usage")
        return rows[0][0] if rows else 0

    async def sweep_artifacts(
        self,
        after: tuple[int, str, str] | None,
        unnamed_before_at: int,
        unfinished_before_at: int,
        contents_max: int,
    ) -> Swept:
        after_at, after_tenant, after_id = after or _BEFORE_FIRST
        rows = await self._fetch(
            "artifact_sweep",
            after_at=after_at,
            after_tenant=after_tenant,
            after_id=after_id,
            unnamed_before_at=unnamed_before_at,
            unfinished_before_at=unfinished_before_at,
            contents_max=contents_max,
        )
        removed, looked_at, *last = rows[0]
        return Swept(removed, (last[0], last[1], last[2]) if looked_at == contents_max else None)


def _content(row: Any) -> ArtifactContent:
    content_id, digest, mime, size_bytes, stored_at = row
    return ArtifactContent(
        content_id=content_id, digest=digest, mime=mime, size_bytes=size_bytes, stored_at=stored_at
    )
