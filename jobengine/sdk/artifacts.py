"""Bytes on their way to and from the engine: read in pieces, hashed, resumed, verified.

No request is made here: `Upload` is what a request sends, `Download` takes what answers bring.

Invariants
    I1  No more than a piece of an artifact is in memory, unless it came from there or goes there.
    I2  A file named as the target of a download appears under its name only when it is complete and
        has its digest.

Sources: RFC 9530 (Content-Digest), RFC 9110 §14 (ranges).
"""

import base64
import hashlib
import io
import mimetypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, Final, Self, TypeAlias

import anyio
import httpx

from jobengine.wire.artifacts import StoredArtifact
from jobengine.wire.engine_messages import Lease
from jobengine.wire.fields import INDEXED_BYTES_MAX
from jobengine.wire.worker_messages import ArtifactNote

__all__ = [
    "ArtifactDamagedError",
    "Download",
    "Progress",
    "Source",
    "Upload",
    "note_of_file",
    "note_of_stored",
    "path_of",
]

PIECE_BYTES: Final = 256 * 1024
OCTETS: Final = "application/octet-stream"
Source: TypeAlias = bytes | str | Path | BinaryIO
"""Bytes, the path of a file, or an open file, which is read from where it stands."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with bytes done and bytes in all, from the thread that does them."""


class ArtifactDamagedError(Exception):
    """What arrived does not have the digest it was asked by."""


class Upload(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Bytes to send, with their digest; a request that is repeated reads them again.

    Reads the source once to hash it. One that cannot go back (a pipe) is copied to a file first.
    """

    def __init__(
        self, source: Source, mime: str | None = None, progress: Progress | None = None
    ) -> None:
        self._file, self._is_ours = _opened(source)
        self._start = self._file.tell()
        self._progress = progress
        self.digest, self.size_bytes = _digest_of(self._file)
        self.mime = mime or _mime_of(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._file.close()

    def headers(self) -> dict[str, str]:
        """What a request says of these bytes."""
        octets = bytes.fromhex(self.digest.removeprefix("sha256:"))
        return {
            "Content-Type": self.mime,
            "Content-Length": str(self.size_bytes),
            "Content-Digest": f"sha-256=:{base64.b64encode(octets).decode()}:",
        }

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        sent = 0
        while piece := self._file.read(PIECE_BYTES):
            yield piece
            sent += len(piece)
            if self._progress is not None:
                self._progress(sent, self.size_bytes)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _InThread(iter(self))


class _InThread(AsyncIterator[bytes]):
    """No async generator, for nobody closes it when an answer comes before the end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        piece = await anyio.to_thread.run_sync(next, self._pieces, b"")
        if not piece:
            raise StopAsyncIteration
        return piece


class Download:
    """Takes the pieces of one artifact, over as many connections as it needs.

    `to` is a path, an open file, or None for memory. Use as a context manager: left before `finish`
    has returned, a path is as it was.
    """

    def __init__(
        self, digest: str, to: str | Path | BinaryIO | None, progress: Progress | None = None
    ) -> None:
        self.digest = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        self._path = Path(to) if isinstance(to, str | Path) else None
        self._part: IO[bytes] | None = None
        self._sink: IO[bytes] = io.BytesIO()
        if self._path is not None:
            self._part = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by __exit__
                dir=self._path.parent, prefix=f".{self._path.name}.", delete=False
            )
            self._sink = self._part
        elif to is not None and not isinstance(to, str | Path):
            self._sink = to
        self._progress = progress
        self._found = hashlib.sha256()
        self._received = self._size_bytes = 0
        self._mime = OCTETS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._part is not None:
            self._part.close()
            Path(self._part.name).unlink(missing_ok=True)

    @property
    def data(self) -> bytes:
        """What was kept in memory."""
        return self._sink.getvalue() if isinstance(self._sink, io.BytesIO) else b""

    def headers(self) -> dict[str, str]:
        """What the next request asks for beside the digest."""
        return {"Range": f"bytes={self._received}-"} if self._received else {}

    def begin(self, http_status: int, headers: Mapping[str, str]) -> None:
        """An answer has begun. Header names are in lower case."""
        self._mime = headers.get("content-type", OCTETS)
        coming = int(headers.get("content-length", "0"))
        if http_status != 206 and self._received:
            raise ArtifactDamagedError(
                f"the engine does not go on with {self.digest} where it ended"
            )
        self._size_bytes = self._received + coming

    def take(self, piece: bytes) -> None:
        """The next bytes of the answer."""
        self._sink.write(piece)
        self._found.update(piece)
        self._received += len(piece)
        if self._progress is not None:
            self._progress(self._received, self._size_bytes)

    def finish(self) -> StoredArtifact:
        """All pieces were taken. Raises `ArtifactDamagedError`."""
        if f"sha256:{self._found.hexdigest()}" != self.digest:
            raise ArtifactDamagedError(f"what arrived as {self.digest} is something else")
        if self._part is not None and self._path is not None:
            self._part.close()
            # The part was made for its owner alone; the file gets what others here would have.
            umask = os.umask(0)
            os.umask(umask)
            Path(self._part.name).chmod(0o666 & ~umask)
            Path(self._part.name).replace(self._path)
        return StoredArtifact(
            digest=self.digest,
            size_bytes=self._received,
            mime=self._mime,
            uri=path_of(self.digest),
        )


def path_of(digest: str) -> str:
    """The path of an artifact, below the engine's URL."""
    return f"/api/v1/jobengine/artifacts/{digest}"


def _digest_of(file: BinaryIO) -> tuple[str, int]:
    """`sha256:…` and size of what is left of a file, read in pieces."""
    found, size_bytes = hashlib.sha256(), 0
    while piece := file.read(PIECE_BYTES):
        found.update(piece)
        size_bytes += len(piece)
    return f"sha256:{found.hexdigest()}", size_bytes


def note_of_file(lease: Lease, path: Path, name: str | None, mime: str | None) -> ArtifactNote:
    """What names a file whose bytes stay where they are."""
    file = path.resolve()
    with file.open("rb") as opened:
        digest, size_bytes = _digest_of(opened)
    return ArtifactNote(
        lease_id=lease.lease_id,
        token=lease.token,
        uri=file.as_uri(),
        digest=digest,
        mime=mime or _mime_of(file),
        size_bytes=size_bytes,
        name=checked_name(name or file.name),
    )


def note_of_stored(
    lease: Lease, stored: StoredArtifact, name: str, mime: str | None
) -> ArtifactNote:
    """What names bytes that the engine has, by a name that was checked."""
    return ArtifactNote(
        lease_id=lease.lease_id,
        token=lease.token,
        uri=stored.uri,
        digest=stored.digest,
        mime=mime or stored.mime,
        size_bytes=stored.size_bytes,
        name=name,
    )


def checked_name(name: str) -> str:
    """The name of an artifact. Raises `ValueError` where it is too long for the engine."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > INDEXED_BYTES_MAX:
        raise ValueError(f"name: {size} bytes are more than {INDEXED_BYTES_MAX}; shorten it")
    return name


def _mime_of(source: Source) -> str:
    guessed = mimetypes.guess_type(source)[0] if isinstance(source, str | Path) else None
    return guessed or OCTETS


def _opened(source: Source) -> tuple[BinaryIO, bool]:
    """A file that can go back, and whether it is ours to close."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), True
    if isinstance(source, str | Path):
        return Path(source).open("rb"), True
    if source.seekable():
        return source, False
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the upload closes it
    shutil.copyfileobj(source, copy, PIECE_BYTES)
    copy.seek(0)
    return copy, True
