"""The demo's worker: binds the handlers of `pipeline` to the SDK. Run with `jobengine worker run`.

`worker` is made from the environment, which the driver sets:

| variable | meaning |
|---|---|
| `JOBENGINE_WORKER_URL`, `JOBENGINE_TOKEN`, `JOBENGINE_TENANT` | where the engine is and who asks |
| `JOBENGINE_DEMO_WORKSPACE` | the directory all workers share |
| `JOBENGINE_DEMO_PACE_S` | how long one shard of components is stretched, so that one can watch |
"""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobengine.demo import sbom
from jobengine.demo.fetch import UpstreamRefusedError, fetch
from jobengine.demo.pipeline import Handler, Pipeline
from jobengine.demo.workspace import Workspace
from jobengine.sdk import JobContext, JobError, Worker

CAPACITY = 2
HANDLER_TIMEOUT_S = 60.0


def build_worker(environ: Mapping[str, str]) -> Worker:
    """A worker with all handlers of the demo. Raises `KeyError` naming a missing variable."""
    worker = Worker(
        environ["JOBENGINE_WORKER_URL"],
        token=environ["JOBENGINE_TOKEN"],
        tenant=environ["JOBENGINE_TENANT"],
        capacity=CAPACITY,
    )
    pipeline = Pipeline(
        workspace=Workspace(Path(environ["JOBENGINE_DEMO_WORKSPACE"])),
        fetch=fetch,
        installed=sbom.installed_components,
        pace_s=float(environ["JOBENGINE_DEMO_PACE_S"]),
        pid=os.getpid(),
    )
    for job_type, handler in pipeline.handlers().items():
        worker.handler(job_type, timeout=HANDLER_TIMEOUT_S)(_reporting_refusals(handler))
    return worker


def _reporting_refusals(handler: Handler) -> Callable[[JobContext], dict[str, Any]]:
    @functools.wraps(handler)
    def handle(job: JobContext) -> dict[str, Any]:
        try:
            return handler(job)
        except UpstreamRefusedError as refused:
            raise JobError(
                str(refused),
                class_="http_429" if refused.http_status == 429 else "http_5xx",
                retryable=True,
                http_status=refused.http_status,
                retry_after_s=refused.retry_after_s,
            ) from refused

    return handle


worker = build_worker(os.environ)
