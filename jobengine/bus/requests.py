"""From a message to a job: what a request by bus may say, and what is made of it.

A message is the body of `POST /jobs`, or an envelope around it. Validation, redaction and the form
of the job are those of REST (`wire/translate.py`).

I1  The same message, delivered again, gives the same idempotency claim.

Not here: whether the tenant exists, what becomes of the job (`intake`).
"""

import hashlib
import re
from typing import Annotated, Final

import attrs
import msgspec

from jobengine.bus.link import Taken
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.records import NewJob
from jobengine.domain.redaction import Redactor
from jobengine.messages.lease_shard import IdempotencyClaim
from jobengine.wire.fields import Key, Traceparent
from jobengine.wire.indexed import indexed
from jobengine.wire.jobs import JobRequest
from jobengine.wire.refusal import refusal_of
from jobengine.wire.translate import invalid_field, new_job

__all__ = ["BODY_BYTES_MAX", "JobMessage", "Request", "request_of"]

BODY_BYTES_MAX: Final = 512 * 1024
"""Of a whole message; of the payload in it `PAYLOAD_BYTES_MAX`, as everywhere."""

_TENANT_LENGTH_MAX: Final = 256
_CLAIM_PATH: Final = "bus:jobs"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,256}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_IdempotencyKey = Annotated[
    str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$(?!\n)")
]


class JobMessage(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A job with what REST takes from headers. Without `idempotencyKey` the id of the message is
    the key; `tenantId` may be left out where the subject or the field `tenant` names it."""

    job: JobRequest
    tenant_id: Key | None = None
    project_id: Key | None = None
    idempotency_key: _IdempotencyKey | None = None
    correlation_id: Key | None = None
    traceparent: Traceparent | None = None


class _Kind(msgspec.Struct):
    """An envelope has a member that no job has."""

    job: msgspec.Raw = msgspec.Raw()


@attrs.frozen(kw_only=True)
class Request:
    tenant_id: str
    job: NewJob
    claim: IdempotencyClaim


_kind: Final = msgspec.json.Decoder(_Kind)
_bare: Final = msgspec.json.Decoder(JobRequest)
_enveloped: Final = msgspec.json.Decoder(JobMessage)


def request_of(taken: Taken, job_id: str, redactor: Redactor) -> Request:
    """Raises `RefusedError`: the message will never be a job."""
    if len(taken.body) > BODY_BYTES_MAX:
        why = f"the message has {len(taken.body)} bytes, more than {BODY_BYTES_MAX}"
        raise RefusedError(Refusal(ErrorCode.PAYLOAD_TOO_LARGE, why, {"path": "$"}))
    message = _decoded(taken.body)
    tenant_id = _tenant(taken, message)
    job = new_job(
        message.job,
        job_id,
        project_id=message.project_id or "",
        correlation_id=message.correlation_id or "",
        traceparent=message.traceparent or _traceparent(taken),
        redactor=redactor,
    )
    return Request(tenant_id=tenant_id, job=job, claim=_claim(taken, message, redactor))


def _decoded(body: bytes) -> JobMessage:
    try:
        if not bytes(_kind.decode(body).job):
            return JobMessage(job=_bare.decode(body))
        return _enveloped.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        refusal = refusal_of(error)
        path = refusal.path.removeprefix("$.")
        raise RefusedError(
            Refusal(ErrorCode(refusal.code), refusal.message, {"path": path})
        ) from None


def _tenant(taken: Taken, message: JobMessage) -> str:
    named = {name for name in (taken.tenant_id, message.tenant_id) if name is not None}
    if len(named) > 1:
        raise RefusedError(
            invalid_field("tenantId", f"is not the tenant that {taken.source} names; name one")
        )
    if not named or "" in named:
        raise RefusedError(
            Refusal(
                ErrorCode.TENANT_REQUIRED,
                "name the tenant, by the subject, the field tenant or tenantId",
                {"path": "tenantId"},
            )
        )
    tenant_id = named.pop()
    if "\0" in tenant_id or len(tenant_id) > _TENANT_LENGTH_MAX:
        why = f"is no tenant: at most {_TENANT_LENGTH_MAX} characters, without U+0000"
        raise RefusedError(invalid_field("tenantId", why))
    return tenant_id


def _traceparent(taken: Taken) -> str | None:
    given = taken.traceparent or ""
    return given if _TRACEPARENT.fullmatch(given) else None


def _claim(taken: Taken, message: JobMessage, redactor: Redactor) -> IdempotencyClaim:
    key = message.idempotency_key or taken.message_id
    if _KEY.fullmatch(key) is None:
        key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    digest = hashlib.sha256(taken.body).hexdigest()
    return IdempotencyClaim(indexed(redactor.text(key), "idempotencyKey"), _CLAIM_PATH, digest)
