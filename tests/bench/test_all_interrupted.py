"""``bench all``, ended by its supervisor while it has a benchmark running."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest

from bench.results import BEGIN, END
from tests.bench.processes import alive, in_full_swing, until

ROOT = Path(__file__).resolve().parents[2]
PROSE = f"Before.\n{BEGIN}\n{END}\n"
WITHIN_S = 120
"""How long anything may take before it is held for lost, on the slowest of machines."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that the account of an embedded server may pass, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="bench-test-"))
    path.chmod(0o711)
    yield path
    rmtree(path)


def test_what_it_is_running_is_stopped_in_order_and_nothing_is_left(scratch: Path) -> None:
    document = scratch / "performance.md"
    document.write_text(PROSE)
    command = [*(sys.executable, "-m", "bench", "all", "--quick", "--only", "drain")]
    command += ["--document", str(document), "--plot", str(scratch / "plot.svg")]
    environ = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            # The benchmark itself, its engine, the guard of the database, producer or worker.
            started = until(lambda: in_full_swing(process.pid), WITHIN_S)
            process.terminate()
            code = process.wait(WITHIN_S)
        finally:
            process.kill()
    assert code == 130
    until(lambda: not alive(started), WITHIN_S)
    assert list(scratch.glob("jobengine-bench-*")) == []
    assert document.read_text() == PROSE
