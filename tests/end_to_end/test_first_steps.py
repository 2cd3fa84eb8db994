"""What a new user does first: start it, submit, work, look, stop."""

import json
from pathlib import Path

import httpx
import msgspec

from tests.end_to_end.processes import LOOPBACK, PATIENCE_S, STOP_S, Stage, wait_for

_WORKER = "tests.end_to_end.tasks:worker"


def test_jobs_from_rest_sdk_and_cli_are_done_by_a_worker_and_the_engine_stops_in_order(
    stage: Stage,
) -> None:
    engine = stage.engine()
    worker = stage.worker(engine, _WORKER)
    with engine.client() as client:
        by_rest = httpx.post(
            f"{engine.http}/api/v1/jobengine/jobs",
            headers={
                "Authorization": f"Bearer {engine.token}",
                "X-Stella-Tenant": engine.tenant,
                "Content-Type": "application/json",
            },
            content=b'{"jobType": "square", "payload": {"number": 3}}',
        )
        assert by_rest.status_code == 201
        by_sdk = client.submit("square", {"number": 4})
        by_cli = stage.run(
            *("job", "submit", "square", "--payload", '{"number": 5}'),
            *("--wait", str(PATIENCE_S), "--output", "json"),
            environ=engine.environ,
        )
        assert by_cli.returncode == 0, by_cli.stderr
        assert json.loads(by_cli.stdout)["result"] == {"square": 25}
        for job_id, square in ((by_rest.json()["jobId"], 9), (by_sdk.job_id, 16)):
            result = client.wait(job_id, PATIENCE_S).result
            assert isinstance(result, msgspec.Raw)
            assert msgspec.json.decode(result) == {"square": square}
    listed = stage.run("job", "list", "--state", "completed", environ=engine.environ)
    assert listed.stdout.count("completed") == 3
    metrics = httpx.get(f"{engine.http}/metrics").text
    assert 'jobengine_transitions_total{kind="job.completed"} 3.0' in metrics
    assert worker.terminate() == 0
    postmasters = _postmasters(stage.data)
    assert postmasters
    assert engine.terminate() == 0
    assert engine.stdout.read_text().count("\n") == 1
    wait_for(lambda: not _postmasters(stage.data), PATIENCE_S, "the end of the database")


def test_the_second_signal_ends_an_engine_that_waits_for_its_workers(stage: Stage) -> None:
    config = stage.directory / "patient.toml"
    config.write_text("drain_s = 3600\n")
    engine = stage.engine("--config", str(config), *LOOPBACK)
    worker = stage.worker(engine, _WORKER)
    with engine.client() as client:
        job = client.submit("square", {"number": 1, "seconds": 3600})
        wait_for(lambda: client.get(job.job_id).state == "running", PATIENCE_S, "a running job")
    engine.popen.terminate()
    wait_for(
        lambda: '"stopping"' in engine.log.read_text(), PATIENCE_S, "the first signal's effect"
    )
    engine.popen.terminate()
    assert engine.popen.wait(STOP_S) == 1
    worker.kill()


def _postmasters(data: Path) -> list[str]:
    """Processes that run on a cluster of this data directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(data).encode() in command and b"postgres" in command.split(b"\0")[0]:
                found.append(process.name)
    return found
