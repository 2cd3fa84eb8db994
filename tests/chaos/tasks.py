"""What the workers of these tests run. It leaves a line for every handler that begins and ends."""

import os
import time
from pathlib import Path

from jobengine.sdk import JobContext, Worker

worker = Worker(capacity=8, drain_timeout_s=5.0)
_witnesses = os.open(Path(os.environ.get("CHAOS_WITNESSES", os.devnull)), os.O_WRONLY | os.O_APPEND)


def _witness(what: str, job: JobContext) -> None:
    """One write, so that lines of several processes do not mix. The clock is the machine's."""
    line = f"{what} {job.job_id} {job.attempt} {os.getpid()} {time.monotonic():.6f}\n"
    os.write(_witnesses, line.encode())


@worker.handler("chaos")
def work(job: JobContext) -> dict[str, int]:
    """Takes `seconds`, and cannot be interrupted meanwhile."""
    _witness("began", job)
    time.sleep(job.payload["seconds"])
    _witness("ended", job)
    return {"number": job.payload["number"]}
