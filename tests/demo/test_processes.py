"""Starting the demo's processes: what happens when one does not come up."""

from pathlib import Path

import pytest

from jobengine.demo import processes


def test_an_engine_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    """Its data directory is a file, so it must give up by itself."""
    occupied = tmp_path / "data"
    occupied.write_text("not a directory")
    with (
        pytest.raises(processes.ProcessFailedError, match=r"engine ended with [1-9]"),
        processes.engine(occupied, tmp_path / "logs"),
    ):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "logs" / "engine.log").exists()


def test_a_worker_that_ends_early_says_why_and_is_gone_with_its_block(tmp_path: Path) -> None:
    address = processes.EngineAddress("", "ws://127.0.0.1:1", "", "token", "demo")
    with processes.worker("w", "no.such.module:worker", address, {}, tmp_path) as process:
        assert process.popen.wait(60) != 0
        assert not process.running
        assert "w is not there" in str(process.failure("is not there"))
