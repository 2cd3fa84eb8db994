"""Jobs of runs as they were created, for their release: a cache of what the store has.

I1  A job is here only while nobody has held it since its creation was committed; who holds a job
    takes it out. So what is here is the job as committed.
I2  All together are taken to cost ``bytes_max`` at most; beyond that the oldest go, and are read.

Not here: who holds a job (``held_jobs``).
"""

from jobengine.domain.job import Job

__all__ = ["FreshJobs"]


class FreshJobs:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._jobs: dict[str, tuple[Job, int]] = {}
        self._bytes = 0

    def keep(self, job: Job, size: int) -> None:
        """A job whose creation is committed, and that nobody holds; it takes ``size`` bytes."""
        self._jobs[job.job_id] = (job, size)
        self._bytes += size
        while self._bytes > self._bytes_max:
            self.take(next(iter(self._jobs)))

    def take(self, job_id: str) -> Job | None:
        job, size = self._jobs.pop(job_id, (None, 0))
        self._bytes -= size
        return job
