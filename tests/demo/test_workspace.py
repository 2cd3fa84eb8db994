"""The directory that the demo's jobs share."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobengine.demo.workspace import AttemptSeenTwice, Witness, Workspace


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
    with pytest.raises(AttemptSeenTwice):
        workspace.witness(witness(pid=8))
    workspace.witness(witness(attempt=10))
    workspace.witness(witness(attempt=2))
    assert [seen.attempt for seen in workspace.witnesses()] == [1, 2, 10]
    assert next(iter(workspace.witnesses())).pid == 7


def test_marks_of_one_run_and_stage_are_apart_from_others(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.mark("r1", "match", "b", "2")
    workspace.mark("r1", "match", "a", "1")
    workspace.mark("r1", "build", "x", "3")
    workspace.mark("../r2", "match", "y", "4")
    assert list(workspace.marks("r1", "match").items()) == [("a", "1"), ("b", "2")]
    assert workspace.marks("r3", "match") == {}


def test_whoever_marks_last_sees_all_marks(tmp_path: Path) -> None:
    parts = 8
    for race in range(20):
        workspace = Workspace(tmp_path / str(race))
        together = threading.Barrier(parts)
        seen: list[Mapping[str, str]] = []

        def part(
            number: int,
            workspace: Workspace = workspace,
            together: threading.Barrier = together,
            seen: list[Mapping[str, str]] = seen,
        ) -> None:
            together.wait()
            workspace.mark("run", "match", str(number), "digest")
            seen.append(workspace.marks("run", "match"))

        threads = [threading.Thread(target=part, args=(number,)) for number in range(parts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(len(marks) for marks in seen) == parts
