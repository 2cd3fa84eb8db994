"""What planners are told of jobs that have ended: one message a run and commit.

I1  The digest of a result is that of the result as it is stored, so that a planner hears the same
    from a shard and from the store; JSON's null is no result.

Not here: when they are told (``settlement``), which rows are ends (``draft``).
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from jobengine.domain.job import Job, Reason, State
from jobengine.messages.run_facts import JobEnd, JobsEnded

__all__ = ["ends_of"]

_NO_RESULT: Final = (None, b"", b"null")


class _Error(msgspec.Struct, frozen=True):
    class_: str = msgspec.field(name="class")


_decode_error: Final = msgspec.json.Decoder(_Error).decode


def ends_of(jobs: Sequence[Job]) -> list[JobsEnded]:
    """The ends of these jobs, which all are nodes of runs, by run."""
    ends: dict[str, list[JobEnd]] = {}
    for job in jobs:
        assert job.definition.run_id is not None
        ends.setdefault(job.definition.run_id, []).append(_end_of(job))
    return [JobsEnded(run_id=run_id, ends=of_run) for run_id, of_run in ends.items()]


def _end_of(job: Job) -> JobEnd:
    assert job.definition.node_key is not None
    digest = error = None
    if job.state is State.COMPLETED and job.result not in _NO_RESULT:
        digest = hashlib.sha256(job.result or b"").hexdigest()
    elif job.state is State.FAILED and job.error is not None:
        error = _decode_error(job.error).class_
    skipped = job.reason == Reason.SKIPPED
    return JobEnd(job.definition.node_key, job.state, digest, error, skipped)
