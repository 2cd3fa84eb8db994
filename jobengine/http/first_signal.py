"""The first signal of a run: the earliest sign of life that is fit to show to a person.

It is what matters most of where the run stands: how it ended; else that it waits for somebody, who
can do something about it; else how far it is.

I1  The signal follows from the run and its nodes alone, so readers agree on it and on its tag.

Not here: reading the run (``run_snapshots``), headers (``routes/run_reads``).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.job import State
from jobengine.domain.node import WORKERLESS_PREFIX, NodeKind
from jobengine.domain.run import RunState
from jobengine.domain.run_record import NodeRecord, RunRecord
from jobengine.wire.jobs import ProgressNote
from jobengine.wire.run_views import FirstSignal, FirstSignalView

__all__ = ["first_signal"]

_ENDS: Final = {
    RunState.COMPLETED: ("succeeded", "the run has completed"),
    RunState.FAILED: ("failed", "the run has failed"),
    RunState.CANCELLED: ("canceled", "the run was cancelled"),
}
_WAITS: Final = {
    WORKERLESS_PREFIX + NodeKind.APPROVAL: "waits for an approval",
    WORKERLESS_PREFIX + NodeKind.CALLBACK: "waits for a call from outside",
}
_progress: Final = msgspec.json.Decoder(ProgressNote)


def first_signal(record: RunRecord, nodes: Iterable[NodeRecord]) -> FirstSignalView | None:
    """None where nothing has moved yet. ``summary_etag`` is the digest of the signal."""
    signal = _signal(record, list(nodes))
    if signal is None:
        return None
    tag = digest(canonical_of(msgspec.to_builtins(signal)))[:32]
    return FirstSignalView(run_id=record.run_id, first_signal=signal, summary_etag=f'W/"{tag}"')


def _signal(record: RunRecord, nodes: Sequence[NodeRecord]) -> FirstSignal | None:
    if record.state in _ENDS:
        return _of_end(record, nodes)
    waiting = [
        node
        for node in nodes
        if node.job_type in _WAITS and node.state is State.PENDING and node.scheduled_at is not None
    ]
    if waiting:
        node = min(waiting, key=lambda each: (each.scheduled_at or 0, each.node_key))
        return _of(node, "blocked", _WAITS[node.job_type], node.scheduled_at)
    begun = [node for node in nodes if node.started_at is not None and node.state is State.RUNNING]
    done = sum(node.state is State.COMPLETED for node in nodes)
    if begun:
        node = max(begun, key=lambda each: (each.started_at or 0, each.node_key))
        kind = "phase" if done else "started"
        return _of(node, kind, _message_of(node, done, record.nodes), node.started_at)
    queued = [node for node in nodes if node.state is State.SCHEDULED]
    if queued:
        node = min(queued, key=lambda each: (each.scheduled_at or 0, each.node_key))
        kind = "phase" if done else "queued"
        return _of(node, kind, f"waits to start; {_of_all(done, record.nodes)}", node.scheduled_at)
    if not done:
        return None
    node = max(nodes, key=lambda each: (each.finished_at or 0, each.node_key))
    return _of(node, "phase", _of_all(done, record.nodes), node.finished_at)


def _of_end(record: RunRecord, nodes: Sequence[NodeRecord]) -> FirstSignal:
    kind, message = _ENDS[record.state]
    step = ""
    failed = [node for node in nodes if node.state is State.FAILED]
    if failed:
        first = min(failed, key=lambda each: (each.finished_at or 0, each.node_key))
        step, message = first.node_key, f"{message}: {first.node_key} {first.error_class or ''}"
    return FirstSignal(
        type=cast(Any, kind),
        stage="run",
        step=step,
        message=message.rstrip(),
        at=to_rfc3339(record.finished_at or record.created_at),
    )


def _of(node: NodeRecord, kind: str, message: str, at: int | None) -> FirstSignal:
    return FirstSignal(
        type=cast(Any, kind),
        stage=node.job_type,
        step=node.node_key,
        message=message,
        at=to_rfc3339(at or node.created_at),
    )


def _message_of(node: NodeRecord, done: int, total: int) -> str:
    note = _progress.decode(node.progress) if node.progress else None
    if note is not None and note.message:
        return note.message
    return f"{node.node_key} runs; {_of_all(done, total)}"


def _of_all(done: int, total: int) -> str:
    return f"{done} of {total} completed"
