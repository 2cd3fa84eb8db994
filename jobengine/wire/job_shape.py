"""What is kept of a request for a job, so that others like it cost little: those that differ from
it in their payloads alone.

I1  A job made of a shape is, byte for byte, what the translation of its request by itself gives.
I2  A text that begins and ends as a *form* says, with one JSON value in between, is a request of
    the form's shape whose payload is that value.

Not here: which shapes are kept and for how long, and what is checked of a payload (`translate`).
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from jobengine.domain.canonical import EMPTY_OBJECT, digest
from jobengine.domain.job import Likeness
from jobengine.domain.records import NewJob
from jobengine.wire.fields import raw_object
from jobengine.wire.jobs import JobRequest, decode_job_request

__all__ = ["NO_PAYLOAD", "JobForm", "MakeJob", "job_form", "job_maker"]

MakeJob = Callable[[bytes, str], NewJob]
"""The job of a canonical payload and a job id."""

NO_PAYLOAD: Final = raw_object()
_EMPTY_DIGEST: Final = digest(EMPTY_OBJECT)
_CORRELATION_ID: Final = '"correlationId":"'
_PAYLOAD_DIGEST: Final = '"payloadDigest":"'
_FORM_BYTES_MAX: Final = 4096
_MARK: Final = b'["in the place of a payload"]'
_payload_of = re.compile(rb'"payload"[ \t\r\n]*:[ \t\r\n]*').search


class JobForm(NamedTuple):
    """What stands before and behind the payload in the text of a request."""

    before: bytes
    behind: bytes
    make: MakeJob


def job_form(text: bytes, payload: msgspec.Raw, make: MakeJob) -> JobForm | None:
    """The form of the text of a request that has this payload; None where it is not certain.

    Certain is a place whose value, when it is exchanged for another, is the payload that is read:
    what a JSON text means around a value does not hang on that value.
    """
    found = _payload_of(text)
    own = bytes(payload)
    if found is None or not text.startswith(own, found.end()):
        return None
    before, behind = text[: found.end()], text[found.end() + len(own) :]
    if len(before) + len(behind) > _FORM_BYTES_MAX or own == _MARK:
        return None
    other = decode_job_request(before + _MARK + behind)
    if not isinstance(other, JobRequest) or bytes(other.payload) != _MARK:
        return None
    return JobForm(before, behind, make)


def job_maker(first: NewJob, like: Likeness, *, correlated: bool) -> MakeJob:
    """Makes jobs like the first. `correlated`: its correlation id is not its job id, but theirs
    too."""
    before, between, behind = _cut(first, correlated=correlated)
    definition = first.definition
    replace = msgspec.structs.replace

    def make(payload: bytes, job_id: str) -> NewJob:
        payload_digest = _EMPTY_DIGEST if payload is EMPTY_OBJECT else digest(payload)
        return NewJob(
            job_id=job_id,
            definition=replace(definition, correlation_id=job_id, payload_digest=payload_digest),
            definition_json=f"{before}{job_id}{between}{payload_digest}{behind}".encode(),
            payload=payload,
            like=like,
        )

    def make_correlated(payload: bytes, job_id: str) -> NewJob:
        payload_digest = _EMPTY_DIGEST if payload is EMPTY_OBJECT else digest(payload)
        return NewJob(
            job_id=job_id,
            definition=replace(definition, payload_digest=payload_digest),
            definition_json=f"{between}{payload_digest}{behind}".encode(),
            payload=payload,
            like=like,
        )

    return make_correlated if correlated else make


def _cut(job: NewJob, *, correlated: bool) -> tuple[str, str, str]:
    """The constant parts of a definition's JSON: what stands before the correlation id (empty when
    it is constant), between it and the digest of the payload, and behind that.

    A quotation mark within a string is escaped, so no string can look like a field, but a label
    can. The first name found is that of the correlation id and the last one that of the digest:
    labels stand between the two.
    """
    text, definition = job.definition_json.decode(), job.definition
    digest_at = text.rindex(_PAYLOAD_DIGEST) + len(_PAYLOAD_DIGEST)
    behind = text[digest_at + len(definition.payload_digest) :]
    start = end = 0
    if not correlated:
        start = text.index(_CORRELATION_ID) + len(_CORRELATION_ID)
        end = start + len(definition.correlation_id)
    return text[:start], text[end:digest_at], behind
