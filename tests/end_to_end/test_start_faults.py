"""What stands in the way of a start is said in one line, with an exit code."""

import re
import subprocess

from tests.end_to_end.processes import Stage


def test_what_stands_in_the_way_is_said_in_one_line(stage: Stage) -> None:
    engine = stage.engine()
    taken = engine.http.removeprefix("http://")
    other = str(stage.directory / "other")

    in_use = stage.run("up", "--data", str(stage.data), "--http", "127.0.0.1:0")
    assert _line(in_use, 1) == (
        f"jobengine: {stage.data}/postgres is in use by another engine, process "
        f"{engine.popen.pid}: stop that one or choose another data directory"
    )
    flags = ("--worker", "127.0.0.1:0", "--log-level", "error")
    http_taken = stage.run("up", "--data", other, "--http", taken, *flags)
    assert "the port is taken" in _line(http_taken, 1)
    flags = ("--http", "127.0.0.1:0", "--log-level", "error")
    worker_taken = stage.run("up", "--data", other, "--worker", taken, *flags)
    assert re.search(r"port \d+ on 127.0.0.1 is taken", _line(worker_taken, 1))

    environ = {**engine.environ, "JOBENGINE_TOKEN": "nonsense"}
    assert "TOKEN_INVALID" in _line(stage.run("job", "list", environ=environ), 2)
    foreign = {**engine.environ, "JOBENGINE_TENANT": "somebody-else"}
    assert "TENANT_FORBIDDEN" in _line(stage.run("job", "list", environ=foreign), 2)
    worker = stage.run("worker", "run", "tests.end_to_end.tasks:worker", environ=environ)
    assert worker.returncode == 2
    assert engine.terminate() == 0


def test_serve_says_that_it_waits_for_its_database_and_gives_up(stage: Stage) -> None:
    key = stage.directory / "key.pem"
    assert stage.run("token", "new-key", "--key-file", str(key)).returncode == 0
    refused = stage.run(
        *("serve", "--key-file", str(key), "--wait-database", "1"),
        environ={"JOBENGINE_DATABASE_URL": "postgresql://127.0.0.1:1/none?connect_timeout=2"},
    )
    assert refused.returncode == 1
    lines = refused.stderr.strip().splitlines()
    assert '"database_not_ready"' in lines[0]
    assert lines[-1].startswith("jobengine: the database does not answer")
    assert "Traceback" not in refused.stderr


def _line(done: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line that a command said before it ended."""
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]
