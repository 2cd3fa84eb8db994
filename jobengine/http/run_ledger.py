"""The record of a run that auditors read and export: one line of JSON a run.

I1  Fields and their order are those of ``RunLedgerRecord``; steps stand in the order of their keys.
    A run that has ended gives the same bytes each time.

Not here: which runs an export holds, and in which order (the store: by start, then id).
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from jobengine.domain.job import State
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.http.route import BASE
from jobengine.http.times import instant, span_ms
from jobengine.wire.run_views import RunLedgerRecord, RunLedgerStep

__all__ = ["ledger_record"]


def ledger_record(
    record: RunRecord, parts: Sequence[RunPart], records: Mapping[str, NodeRecord]
) -> RunLedgerRecord:
    """``records`` by job id, kept ones included."""
    kept = {job_id: key for part in parts for key, job_id in part.kept.items()}
    steps = [_step(kept.get(each.job_id, each.node_key), each) for each in records.values()]
    steps.sort(key=lambda step: step.step_id)
    rolled = record.rolled
    return RunLedgerRecord(
        tenant=record.tenant_id,
        run_id=record.run_id,
        dag_id=record.dag_id,
        dag_version=record.dag_version,
        run_token=record.run_token,
        trace_id=_trace_id(record.traceparent),
        status=cast(Any, record.state),
        inputs_hash=record.inputs_hash,
        outputs_hash=None if rolled is None else rolled.outputs_hash,
        started_utc=instant(record.started_at),
        ended_utc=instant(record.finished_at),
        duration_ms=span_ms(record.started_at, record.finished_at),
        steps=steps,
    )


def _step(key: str, record: NodeRecord) -> RunLedgerStep:
    job, failed = f"{BASE}/jobs/{record.job_id}", record.state is State.FAILED
    return RunLedgerStep(
        step_id=key,
        inputs_hash=record.payload_digest,
        outputs_hash=record.result_digest,
        status=cast(Any, record.state),
        attempt=record.attempt,
        duration_ms=span_ms(record.started_at, record.finished_at),
        logs_ref=f"{job}/logs",
        metrics_ref=f"{job}/history",
        error_code=record.error_class if failed else None,
        retryable=record.error_retryable if failed else None,
    )


def _trace_id(traceparent: str | None) -> str | None:
    """The second field of a W3C traceparent."""
    return None if traceparent is None else traceparent.split("-")[1]
