"""Jobs on their way in, and jobs read back with the facts that place them."""

from typing import NamedTuple

import attrs
import msgspec

from jobengine.domain.job import Definition, Job, Likeness

__all__ = ["DueJob", "Lane", "LeasedJob", "NewJob", "Ranked"]


class Lane(NamedTuple):
    """One ordered stream of ready jobs; jobs of no source have the source id ""."""

    tenant_id: str
    queue: str
    job_type: str
    source_id: str = ""


@attrs.frozen
class Ranked:
    """A scheduled job with its place in its lane; lower ranks go first, ties by job id."""

    rank: int
    job: Job


@attrs.frozen
class LeasedJob:
    """A live lease: the running job and who holds it. ``granted_at`` is the attempt's start."""

    job: Job
    worker_id: str
    task_runner_id: str
    granted_at: int


@attrs.frozen
class DueJob:
    """A job that something must happen to at ``at``."""

    at: int
    tenant_id: str
    job_id: str


class NewJob(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job as validated at a door. Both texts are canonical JSON. Jobs known to be alike have one
    ``like``."""

    job_id: str
    definition: Definition
    definition_json: bytes
    payload: bytes
    like: Likeness | None = None
