"""The bytes of artifacts in memory: what the database is held against."""

import attrs
import trio

from jobengine.store.artifacts import ArtifactContent, Swept, UploadGoneError
from jobengine.store.memory.tables import Tables

__all__ = ["MemoryArtifacts"]


@attrs.define(eq=False)
class _Content:
    """Without a digest: still coming."""

    mime: str
    stored_at: int
    touched_at: int
    digest: str | None = None
    chunks: dict[int, bytes] = attrs.field(factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.chunks.values()))


class MemoryArtifacts:
    """`jobengine.store.artifacts.ArtifactStore` in dictionaries."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._contents: dict[tuple[str, str], _Content] = {}

    async def begin_artifact(self, tenant_id: str, content_id: str, mime: str, now_at: int) -> None:
        await trio.lowlevel.checkpoint()
        self._contents[tenant_id, content_id] = _Content(mime, now_at, now_at)

    async def put_artifact_chunk(
        self,
        tenant_id: str,
        content_id: str,
        number: int,
        chunk: bytes,
        tenant_bytes_max: int,
        now_at: int,
    ) -> bool:
        await trio.lowlevel.checkpoint()
        if self._size_bytes(tenant_id) + len(chunk) > tenant_bytes_max:
            return False
        upload = self._upload(tenant_id, content_id)
        upload.chunks[number] = bytes(chunk)
        upload.touched_at = now_at
        return True

    async def finish_artifact(
        self, tenant_id: str, content_id: str, digest: str, now_at: int
    ) -> tuple[ArtifactContent, bool]:
        await trio.lowlevel.checkpoint()
        found = self._found(tenant_id, digest)
        if found is not None and found.content_id != content_id:
            content = self._contents[tenant_id, found.content_id]
            content.touched_at = max(content.touched_at, now_at)
            self._contents.pop((tenant_id, content_id), None)
            return found, False
        upload = self._upload(tenant_id, content_id)
        upload.digest = digest
        upload.stored_at = upload.touched_at = now_at
        made = self._found(tenant_id, digest)
        assert made is not None
        return made, True

    async def discard_artifact(self, tenant_id: str, content_id: str) -> None:
        await trio.lowlevel.checkpoint()
        content = self._contents.get((tenant_id, content_id))
        if content is not None and content.digest is None:
            del self._contents[tenant_id, content_id]

    async def artifact_content(self, tenant_id: str, digest: str) -> ArtifactContent | None:
        await trio.lowlevel.checkpoint()
        return self._found(tenant_id, digest)

    async def artifact_chunk(self, tenant_id: str, content_id: str, number: int) -> bytes | None:
        await trio.lowlevel.checkpoint()
        content = self._contents.get((tenant_id, content_id))
        return None if content is None else content.chunks.get(number)

    async def artifact_bytes(self, tenant_id: str) -> int:
        await trio.lowlevel.checkpoint()
        return self._size_bytes(tenant_id)

    async def sweep_artifacts(
        self,
        after: tuple[int, str, str] | None,
        unnamed_before_at: int,
        unfinished_before_at: int,
        contents_max: int,
    ) -> Swept:
        await trio.lowlevel.checkpoint()
        before_at = max(unnamed_before_at, unfinished_before_at)
        places = sorted(
            (content.touched_at, *place)
            for place, content in self._contents.items()
            if content.touched_at < before_at
        )
        looked = [place for place in places if after is None or place > after][:contents_max]
        named = {(row.tenant_id, row.digest) for row in self._tables.artifacts.values()}
        removed = 0
        for touched_at, tenant_id, content_id in looked:
            digest = self._contents[tenant_id, content_id].digest
            if digest is None:
                is_over = touched_at < unfinished_before_at
            else:
                is_over = touched_at < unnamed_before_at and (tenant_id, digest) not in named
            if is_over:
                del self._contents[tenant_id, content_id]
                removed += 1
        return Swept(removed, looked[-1] if len(looked) == contents_max else None)

    def _upload(self, tenant_id: str, content_id: str) -> _Content:
        content = self._contents.get((tenant_id, content_id))
        if content is None or content.digest is not None:
            raise UploadGoneError(content_id)
        return content

    def _found(self, tenant_id: str, digest: str) -> ArtifactContent | None:
        for (owner, content_id), content in self._contents.items():
            if owner == tenant_id and content.digest == digest:
                return ArtifactContent(
                    content_id=content_id,
                    digest=digest,
                    mime=content.mime,
                    size_bytes=content.size_bytes,
                    stored_at=content.stored_at,
                )
        return None

    def _size_bytes(self, tenant_id: str) -> int:
        return sum(
            content.size_bytes
            for (owner, _), content in self._contents.items()
            if owner == tenant_id
        )
