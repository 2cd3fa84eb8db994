"""Leases as frames show them.

Of jobs that are alike, leases differ in a few places only; the text around those is kept.

I1  ``LeaseTexts`` gives, byte for byte, what encoding each ``lease_frame`` gives.

Not here: other messages and how they lie in frames (`worker_frames`).
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from jobengine.domain.instant import SECOND, to_rfc3339
from jobengine.domain.job import Likeness
from jobengine.messages.session import Grant
from jobengine.wire.engine_messages import Lease

__all__ = ["LeaseTexts", "lease_frame"]

_Alike: TypeAlias = tuple[Likeness, str, str, int, int]
"""Likeness, tenant, task runner, attempt, failures: what the constant text of a lease hangs on."""
_Parts: TypeAlias = tuple[str, str, str, str, str, str, str, str]

_ALIKE_MAX: Final = 64
_encoder: Final = msgspec.json.Encoder()
_JOB_ID, _LEASE_ID, _UNTIL = "<the job id>", "<the lease id>", "<until when>"
_KEY, _CORRELATION_ID, _PAYLOAD = "<the key>", "<the correlation id>", '"<the payload>"'
_TOKEN: Final = 8_070_605_040_302_010_908


def lease_frame(grant: Grant, task_runner_id: str) -> Lease:
    """The wire form of a lease, read from its job now."""
    job = grant.job
    definition = job.definition
    lease_us = definition.lease_us
    return Lease(
        job_id=job.job_id,
        job_type=definition.job_type,
        queue=definition.queue,
        attempt=job.attempt,
        failures=job.failures,
        max_retries=definition.max_retries,
        lease_id=grant.lease_id,
        token=grant.token,
        lease_until=to_rfc3339(grant.until_at),
        lease_seconds=lease_us // SECOND,
        heartbeat_seconds=lease_us / (3 * SECOND),
        timeout_seconds=definition.timeout_us and definition.timeout_us // SECOND,
        idempotency_key=f"{job.job_id}:{job.attempt}",
        tenant_id=job.tenant_id,
        project_id=definition.project_id or None,
        run_id=definition.run_id,
        node_key=definition.node_key,
        correlation_id=definition.correlation_id,
        task_runner_id=task_runner_id,
        traceparent=definition.traceparent,
        labels=definition.labels,
        payload=msgspec.Raw(job.payload),
    )


class LeaseTexts:
    """Keeps the constant text of the last kinds of leases."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[_Alike, _Parts | None] = {}

    def messages(self, grants: Sequence[Grant], task_runner_id: str) -> list[Lease | msgspec.Raw]:
        """The leases, in their order, as what the frames' encoder takes; read from the jobs now."""
        if not _need_no_escapes(grants):
            return [lease_frame(grant, task_runner_id) for grant in grants]
        out: list[Lease | msgspec.Raw] = []
        start = 0
        while start < len(grants):
            end = _alike_until(grants, start)
            some = grants[start:end]
            parts = self._parts_of(some[0], task_runner_id)
            if parts is None:
                out += [lease_frame(grant, task_runner_id) for grant in some]
            else:
                out += _texts(parts, some)
            start = end
        return out

    def _parts_of(self, grant: Grant, task_runner_id: str) -> _Parts | None:
        job = grant.job
        if job.like is None:
            return None
        kept = self._parts
        alike = (job.like, job.tenant_id, task_runner_id, job.attempt, job.failures)
        if alike not in kept:
            if len(kept) >= _ALIKE_MAX:
                del kept[next(iter(kept))]
            kept[alike] = _cut(lease_frame(grant, task_runner_id))
        return kept[alike]


def _alike_until(grants: Sequence[Grant], start: int) -> int:
    """Where the run of leases ends that are like this one and end when it does."""
    first = grants[start]
    job, until_at = first.job, first.until_at
    like, tenant_id, attempt, failures = job.like, job.tenant_id, job.attempt, job.failures
    for end in range(start + 1, len(grants)):
        grant = grants[end]
        job = grant.job
        if (
            job.like is not like
            or grant.until_at != until_at
            or job.attempt != attempt
            or job.failures != failures
            or job.tenant_id != tenant_id
        ):
            return end
    return len(grants)


def _texts(parts: _Parts, grants: Sequence[Grant]) -> list[msgspec.Raw]:
    """The texts of leases that are alike and end at the same instant."""
    a, b, c, d, e, f, g, h = parts
    d = f"{d}{to_rfc3339(grants[0].until_at)}{e}"
    raw = msgspec.Raw
    out = []
    for grant in grants:
        job = grant.job
        job_id, correlation_id = job.job_id, job.definition.correlation_id
        if correlation_id == job_id:
            named = f'{f}"{job_id}"{g}'
        else:
            named = f"{f}{_encoder.encode(correlation_id).decode()}{g}"
        text = f"{a}{job_id}{b}{grant.lease_id}{c}{grant.token}{d}{job_id}{named}"
        out.append(raw(f"{text}{job.payload.decode()}{h}"))
    return out


def _cut(lease: Lease) -> _Parts | None:
    """What stands around the places that differ; None when something looks like such a place."""
    marked = msgspec.structs.replace(
        lease,
        job_id=_JOB_ID,
        lease_id=_LEASE_ID,
        token=_TOKEN,
        lease_until=_UNTIL,
        idempotency_key=f"{_KEY}:{lease.attempt}",
        correlation_id=_CORRELATION_ID,
        payload=msgspec.Raw(_PAYLOAD),
    )
    rest = _encoder.encode(marked).decode()
    parts: list[str] = []
    for mark in (
        _JOB_ID,
        _LEASE_ID,
        str(_TOKEN),
        _UNTIL,
        _KEY,
        f'"{_CORRELATION_ID}"',
        _PAYLOAD,
    ):
        if rest.count(mark) != 1:
            return None
        before, _, rest = rest.partition(mark)
        parts.append(before)
    a, b, c, d, e, f, g = parts
    return a, b, c, d, e, f, g, rest


def _need_no_escapes(grants: Sequence[Grant]) -> bool:
    """Whether job and lease ids stand in JSON as they are."""
    ids = "".join([grant.lease_id for grant in grants] + [grant.job.job_id for grant in grants])
    return len(_encoder.encode(ids)) == len(ids) + len('""')
