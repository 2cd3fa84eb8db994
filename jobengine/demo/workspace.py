"""The directory that the demo's jobs share: blobs by content, and witnesses.

    blobs/<sha256>                      what a job produced, named by its content
    attempts/<job id>.<attempt>         who started this attempt (process id); created exclusively

Invariants:
    I1  A file is complete as soon as it has its name (written aside, then renamed or linked).
    I2  An attempt has at most one witness: a second owner of one raises `AttemptSeenTwiceError`.

Not here: which blob is for whom. Jobs name blobs in their results, payloads of later ones read it
there.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec


class AttemptSeenTwiceError(RuntimeError):
    """The same attempt of a job was started by two owners."""


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """That a process started an attempt of a job."""

    job_id: str
    job_type: str
    attempt: int
    pid: int


@attrs.frozen
class Workspace:
    """A workspace at `root`, which is created on first use. Safe for many processes at once."""

    root: Path

    def put(self, content: bytes) -> str:
        """Store a blob; answers its digest (sha256, lower-case hex)."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.blob_path(digest)
        if not path.exists():
            self._write(path, content)
        return digest

    def get(self, digest: str) -> bytes:
        """A blob, checked against its digest. Raises `FileNotFoundError` or `ValueError`."""
        content = self.blob_path(digest).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"blob {digest} does not have the content it is named for")
        return content

    def blob_path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        if len(digest) != 64 or not digest.isalnum():
            raise ValueError(f"not a digest: {digest!r}")
        return self.root / "blobs" / digest

    def witness(self, witness: Witness) -> None:
        """Record the start of an attempt (I2)."""
        path = self.root / "attempts" / f"{witness.job_id}.{witness.attempt}"
        aside = self._aside(msgspec.json.encode(witness))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(aside)
        except FileExistsError as error:
            raise AttemptSeenTwiceError(path.name) from error
        finally:
            aside.unlink()

    def witnesses(self) -> Iterator[Witness]:
        """Every attempt that was started, in the order of job id and attempt."""
        seen = (
            msgspec.json.decode(path.read_bytes(), type=Witness)
            for path in (self.root / "attempts").glob("*.*")
        )
        yield from sorted(seen, key=lambda witness: (witness.job_id, witness.attempt))

    def export(self, name: str, content: bytes) -> Path:
        """Write a file for people at the root; a later one of that name replaces it."""
        self._write(self.root / name, content)
        return self.root / name

    def _write(self, path: Path, content: bytes) -> None:
        aside = self._aside(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(path)

    def _aside(self, content: bytes) -> Path:
        directory = self.root / "aside"
        directory.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=directory)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(name)
