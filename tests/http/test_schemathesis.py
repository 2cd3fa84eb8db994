"""The whole REST front against its own description, with a real database behind it.

Schemathesis makes requests from the document (well formed and not) and holds the answers to it: no
5xx, no status, media type, header or body that the document does not have, and nothing accepted
that the document does not allow. `make fuzz` runs the same for longer: `JOBENGINE_FUZZ_S` is the
time it may take.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from jobengine.sdk import AsyncClient, JobContext, Worker
from tests.http.node import running_node
from tests.postgres_server import fresh_database, installed_binaries, running_server

ROOT = Path(__file__).parents[2]
FUZZ_S = int(os.environ.get("JOBENGINE_FUZZ_S", "30"))
CASES_MIN = 100
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)
# A stream has no end; `test_streams.py` reads them.
UNENDING = (
    "streamEvents",
    "streamJobEvents",
    "streamJobLogs",
    "streamPackRunEvents",
    "streamRunEvents",
)
# It ends in an error of its own (4.32) where it merges bodies that hold lists of objects: as links
# inferred from fields, and as bodies made of what answers said. Both are left out.
CONFIGURATION = """\
[phases.stateful.inference]
algorithms = ["location-headers"]

[phases.fuzzing.extra-data-sources]
responses = false
"""


@pytest.mark.timeout(FUZZ_S + 90)
async def test_the_engine_does_what_its_description_says(tmp_path: Path) -> None:
    binaries = installed_binaries()
    with (
        running_server(binaries[max(binaries)]) as server,
        fresh_database(server) as conninfo,
    ):
        async with running_node(tmp_path / "key.pem", conninfo) as client:
            url = f"http://{client.base_url.netloc.decode()}"
            token = client.headers["Authorization"].removeprefix("Bearer ")
            await fill(url, token)
            # It looks for its configuration in the directory it runs in.
            (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
            with trio.fail_after(FUZZ_S + 60):
                ended = await trio.run_process(
                    command(url, token),
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                    cwd=tmp_path,
                    env={
                        **os.environ,
                        "SCHEMATHESIS_HOOKS": "tests.http.schemathesis_hooks",
                        "PYTHONPATH": str(ROOT),
                    },
                )
    said = ended.stdout.decode()
    assert ended.returncode == 0, said
    generated = re.search(r"([0-9]+) generated", said)
    assert generated is not None, said
    assert int(generated[1]) > CASES_MIN, said


async def fill(url: str, token: str) -> None:
    """Something to list: jobs with history, one of them a dead letter."""
    worker = Worker(f"{url}/api/v1/jobengine/worker", token, "demo", capacity=2)

    @worker.handler("scan")
    async def scan(job: JobContext) -> object:
        if job.payload == {"fails": True}:
            raise ValueError("a job that fails for good")
        return {"found": 3}

    async with (
        AsyncClient(url, token=token, tenant="demo") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker.run_async)
        jobs = [
            await client.submit("scan", {"fails": fails}, max_retries=0) for fails in (True, False)
        ]
        ended = [await client.wait(job.job_id, 20) for job in jobs]
        assert [job.state for job in ended] == ["failed", "completed"]
        await client.submit("waits", {}, hold=True)
        worker.drain()


def command(url: str, token: str) -> list[str]:
    """Schemathesis in a process of its own: it brings its own event loop, warnings and signals."""
    return [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{url}/openapi/jobengine.json",
        f"--url={url}",
        f"--header=Authorization: Bearer {token}",
        "--header=X-Stella-Tenant: demo",
        f"--checks={','.join(CHECKS)}",
        # The document's examples are held to their schemas in `test_openapi.py`.
        "--phases=coverage,fuzzing,stateful",
        f"--max-time={FUZZ_S}",
        *(f"--exclude-operation-id={name}" for name in UNENDING),
        "--continue-on-failure",
        # The suite repeats itself; `make fuzz` goes where nobody has been.
        *(() if "JOBENGINE_FUZZ_S" in os.environ else ("--seed=1",)),
        "--no-color",
    ]
