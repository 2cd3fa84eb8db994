"""A client that a generator makes from the published document, without help, does real work."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.http.conftest import Rest

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
PACKAGE = "jobengine_generated_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    directory = tmp_path_factory.mktemp("client")
    config = directory / "config.yml"
    # Its formatting of the code it has made would take most of the time.
    config.write_text("post_hooks: []\n")
    generator = Path(sys.executable).parent / "openapi-python-client"
    command: list[str | Path] = [generator, "generate", "--path", DOCUMENT]
    command += ["--meta", "none", "--config", config]
    said = subprocess.run(
        [*command, "--output-path", directory / PACKAGE],
        cwd=directory,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    # The one thing it cannot make is the second form of a bulk body; it makes the first.
    assert said.stdout.count("WARNING") <= 1, said.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        yield importlib.import_module(PACKAGE)
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def part(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


async def test_a_generated_client_submits_reads_lists_and_cancels_a_job(
    rest: Rest, generated: ModuleType
) -> None:
    url = f"http://127.0.0.1:{rest.port}"
    client = generated.AuthenticatedClient(
        base_url=url, token=rest.token(), raise_on_unexpected_status=True
    )
    async with client:
        await use(client)


async def use(client: Any) -> None:
    models = part("models")
    wanted = models.JobRequest(job_type="scan", payload={"image": "a:1"}, hold=True)
    made = await part("api.jobs.create_job").asyncio_detailed(
        client=client, body=wanted, x_stella_tenant="demo", idempotency_key="order-1"
    )
    assert made.status_code == 201
    job = made.parsed
    assert (job.job_type, job.payload, job.state) == ("scan", {"image": "a:1"}, "pending")
    again = await part("api.jobs.create_job").asyncio_detailed(
        client=client, body=wanted, x_stella_tenant="demo", idempotency_key="order-1"
    )
    assert (again.status_code, again.parsed.job_id) == (200, job.job_id)

    read = await part("api.jobs.get_job").asyncio(job.job_id, client=client, x_stella_tenant="demo")
    assert read == job
    page = await part("api.jobs.list_jobs").asyncio(
        client=client, x_stella_tenant="demo", state=[models.ListJobsStateItem.PENDING]
    )
    assert [one.job_id for one in page.items] == [job.job_id]
    gone = await part("api.jobs.cancel_job").asyncio(
        job.job_id,
        client=client,
        body=models.NoBody(),
        x_stella_tenant="demo",
        x_stella_operator_reason="not needed",
        x_stella_operator_ticket="T-1",
    )
    assert gone.state == "cancelled"


async def test_a_generated_client_reads_a_refusal(rest: Rest, generated: ModuleType) -> None:
    client = generated.AuthenticatedClient(
        base_url=f"http://127.0.0.1:{rest.port}", token=rest.token()
    )
    summarise = part("api.jobs.summarise_jobs")
    async with client:
        refused = await summarise.asyncio(client=client, x_stella_tenant="other")
    assert isinstance(refused, part("models").ErrorEnvelope)
    assert refused.error.code == "TENANT_FORBIDDEN"
