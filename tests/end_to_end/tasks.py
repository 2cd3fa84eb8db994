"""A worker for the tests: it leaves a line in a file for every attempt it starts and finishes."""

import os
import time
from pathlib import Path

from jobengine.sdk import JobContext, Worker

worker = Worker(capacity=4, drain_timeout_s=5.0)
_witnesses = Path(os.environ.get("JOBENGINE_DEMO_WITNESSES", os.devnull))


def _witness(what: str, job: JobContext) -> None:
    with _witnesses.open("a") as file:
        file.write(f"{what} {job.job_id} {job.attempt} {os.getpid()}\n")


@worker.handler("square")
def square(job: JobContext) -> dict[str, int]:
    """The square of `number`, after `seconds`, or once there is a file `until`."""
    _witness("started", job)
    time.sleep(job.payload.get("seconds", 0))
    while "until" in job.payload and not Path(job.payload["until"]).exists():
        time.sleep(0.02)
    _witness("finished", job)
    return {"square": job.payload["number"] ** 2}


quick = Worker(capacity=200, drain_timeout_s=5.0)


@quick.handler("quick")
async def nothing(job: JobContext) -> None:
    """As little as can be asked of a worker."""
