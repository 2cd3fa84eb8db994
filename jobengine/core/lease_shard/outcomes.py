"""What a report says of an attempt, and how two reports of one attempt are told apart."""

import hashlib

import msgspec

from jobengine.domain.job import Job, State
from jobengine.messages.worker_reports import Completed, Failed, GivenBack, Report

__all__ = ["keys_of", "outcome_name", "outcome_of", "same_outcome"]

_json = msgspec.json.Encoder(order="sorted")
_SHORT_OUTCOME_BYTES = 96


def outcome_of(report: Completed | Failed | GivenBack) -> tuple[str, bytes]:
    """What tells one outcome from another, short enough to be remembered."""
    body = b""
    if isinstance(report, Completed):
        body = report.result
    elif isinstance(report, Failed):
        body = _json.encode(report.error)
    if len(body) > _SHORT_OUTCOME_BYTES:
        body = hashlib.sha256(body).digest()
    return outcome_name(report), body


def outcome_name(report: Report) -> str:
    """What a report says of its attempt, in one word."""
    match report:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case _:
            return "released"


def same_outcome(job: Job, report: Report) -> bool:
    """Whether a stored job shows that this very outcome of this attempt was taken already."""
    if job.attempt != report.token:
        return False
    match report:
        case Completed():
            return job.state is State.COMPLETED and (job.result or b"null") == report.result
        case Failed():
            return job.state is not State.RUNNING and job.error == _json.encode(report.error)
        case _:
            return False


def keys_of(tenant_id: str, report: Completed) -> list[tuple[str, str]]:
    """The unique keys that a report's follow-ups ask for, each once."""
    keys = dict.fromkeys(new.definition.unique_key for new in report.follow_ups)
    return [(tenant_id, key) for key in keys if key is not None]
