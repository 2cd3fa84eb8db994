"""What an attempt says of itself while it runs: progress, log lines, artifacts, throttles.

I1  An attempt's progress is stored at most once in ``progress_interval_s``; what was not stored is
    kept with its lease, and stored when that ends.
I2  Of an attempt's log at most ``job_log_bytes_max`` are stored, a last line that says so, and then
    nothing. A shard that begins anew counts anew.

Not here: whether the lease is live (``reports``).
"""

from typing import Any

import msgspec

from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.leases import Lease, Phase
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.source_watch import push_back
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.change import ArtifactRow, LogRow
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import State
from jobengine.messages.session import Nacked
from jobengine.messages.worker_reports import ArtifactNamed, Logged, ThrottleSeen, WatermarkMoved

__all__ = ["AttemptNotes"]

_json = msgspec.json.Encoder(order="sorted")
_lines = msgspec.json.Decoder(list[msgspec.Raw]).decode


class AttemptNotes:
    def __init__(self, state: ShardState) -> None:
        self._state = state

    def progress(self, draft: Draft, pending: Pending, lease: Lease, note: bytes) -> bool:
        """Keep an attempt's progress, storing it at most once a second; True when it is stored."""
        now_s = self._state.lease_now_s()
        lease.job.progress = note
        lease.renewed_s = now_s
        if now_s - lease.progress_stored_s < self._state.limits.progress_interval_s:
            lease.progress_unstored = True
            return False
        lease.progress_stored_s = now_s
        lease.progress_unstored = False
        draft.open()
        draft.note(lease.job, "job.progressed", data=note, worker=lease)
        row = draft.close(
            lease.job,
            State.RUNNING,
            by=lease,
        )
        row.progress = msgspec.Raw(note)
        lease.phase = Phase.SETTLING
        pending.kept.append(lease)
        return True

    def logged(
        self, draft: Draft, pending: Pending, session: Session, lease: Lease, report: Logged
    ) -> None:
        """Keep lines, as many as there is room for (I2); all are acknowledged."""
        lease.renewed_s = self._state.lease_now_s()
        lines = self._within(lease, report.lines, draft.at)
        if lines:
            draft.changes.logs.append(
                LogRow(
                    tenant_id=session.tenant_id,
                    job_id=lease.job.job_id,
                    attempt=lease.attempt,
                    at=draft.at,
                    lines=msgspec.Raw(lines),
                )
            )
        pending.ack(session.session_id, report.ref)

    def _within(self, lease: Lease, lines: bytes, now_at: int) -> bytes:
        if lease.log_bytes is None:
            return b""
        bytes_max = self._state.limits.job_log_bytes_max
        room = bytes_max - lease.log_bytes
        if len(lines) <= room:
            lease.log_bytes += len(lines)
            return lines
        lease.log_bytes = None
        kept: list[msgspec.Raw] = []
        for line in _lines(lines):
            room -= len(bytes(line)) + 1
            if room < 0:
                break
            kept.append(line)
        last = {
            "at": to_rfc3339(now_at),
            "level": "warning",
            "text": f"log truncated: {bytes_max} bytes of an attempt are kept, and no more",
        }
        return _json.encode([*kept, last])

    def artifact(
        self,
        draft: Draft,
        pending: Pending,
        session: Session,
        lease: Lease,
        report: ArtifactNamed,
    ) -> None:
        draft.open()
        draft.note(
            lease.job,
            "job.artifact_named",
            data=_json.encode(_named(report.artifact)),
            worker=lease,
        )
        draft.changes.artifacts.append(report.artifact)
        pending.ack(session.session_id, report.ref)

    def throttled(
        self, draft: Draft, pending: Pending, session: Session, report: ThrottleSeen
    ) -> None:
        seen: dict[str, Any] = {"httpStatus": report.http_status}
        if report.source_id is not None:
            seen["sourceId"] = report.source_id
        if report.retry_after_us is not None:
            seen["retryAfterUs"] = report.retry_after_us
        if report.lease_id:
            seen["leaseId"] = report.lease_id
        draft.remark("source.throttled", _json.encode(seen))
        lease = self._state.leases.find(report.lease_id, report.token)
        source_id = report.source_id or (lease.job.definition.source_id if lease else None)
        if source_id is not None:
            push_back(
                self._state,
                session.tenant_id,
                source_id,
                report.http_status,
                report.retry_after_us,
                lease.job.started_at if lease is not None else None,
            )
        pending.ack(session.session_id, report.ref)

    def watermark(self, pending: Pending, session: Session, report: WatermarkMoved) -> None:
        """Refused: no watermark is kept of any source."""
        refusal = Refusal(
            ErrorCode.SOURCE_UNKNOWN,
            f"sourceId: no source {report.source_id!r} is registered; register it first",
            {"path": "sourceId"},
        )
        pending.nacks.setdefault(session.session_id, []).append(Nacked(report.ref, refusal))


def _named(artifact: ArtifactRow) -> dict[str, str]:
    """What the ledger says of an artifact: what it is called, and where and what its bytes are."""
    told = {"name": artifact.name, "mime": artifact.mime}
    if artifact.digest is not None:
        told["digest"] = artifact.digest
    if artifact.uri is not None:
        told["uri"] = artifact.uri
    return told
