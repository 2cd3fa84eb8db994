"""The directory that the demo's jobs share."""

from pathlib import Path

import pytest

from jobengine.demo.workspace import AttemptSeenTwiceError, Witness, Workspace


def witness(attempt: int = 1, pid: int = 7, job_id: str = "j") -> Witness:
    return Witness(job_id=job_id, job_type="components.match", attempt=attempt, pid=pid)


def test_a_blob_is_named_by_its_content_and_checked_when_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    digest = workspace.put(b"content")
    assert workspace.put(b"content") == digest
    assert workspace.get(digest) == b"content"
    workspace.blob_path(digest).write_bytes(b"other")
    with pytest.raises(ValueError, match="does not have the content"):
        workspace.get(digest)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "a/" * 32])
def test_what_is_no_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        Workspace(tmp_path).get(digest)


def test_an_attempt_that_is_started_twice_is_refused_and_the_first_witness_stays(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    workspace.witness(witness(pid=7))
    with pytest.raises(AttemptSeenTwiceError):
        workspace.witness(witness(pid=8))
    workspace.witness(witness(attempt=10))
    workspace.witness(witness(attempt=2))
    assert [seen.attempt for seen in workspace.witnesses()] == [1, 2, 10]
    assert next(iter(workspace.witnesses())).pid == 7
