"""What a worker has to say: reports kept until they are settled, notes coalesced or dropped.

Invariants
    I1  A report keeps its `ref` for life and is queued again, in order, on every `reopen`.
    I2  Nothing is queued while closed but reports (kept) and logs (the newest, bounded).
    I3  Queued messages leave in the order they came, so nothing about a lease follows its outcome.
    I4  What a handler made and no JSON can hold costs itself only: a note is dropped, an outcome
        becomes a failure that says so.

Deliberately not here: when to connect, and which leases exist.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import Final, TypeAlias

from jobengine.sdk.outcomes import UNSENDABLE, clean
from jobengine.wire.frames import encode_frame, encode_frames
from jobengine.wire.jobs import JobFailure, ProgressNote
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Complete,
    Fail,
    Hello,
    Log,
    Progress,
    Release,
    Throttled,
    Watermark,
    WorkerMessage,
)

Outcome: TypeAlias = Complete | Fail | Release
Report: TypeAlias = Outcome | ArtifactNote | Watermark
LOG_LINES_MAX: Final = 500
LOG_CHARACTERS_MAX: Final = 1 << 17
"""Of one message; JSON takes six octets for one at most, so it stays below `FRAME_BYTES_MAX`."""
REPEAT_S: Final = 1.0
REPEAT_S_MAX: Final = 5.0
REPEAT_GROWTH: Final = 1.5
_OUTCOMES: Final = (Complete, Fail, Release)
_NOTES: Final = (Log, Progress, ArtifactNote, Throttled, Watermark)


class Outbox:
    """See the module. `every_s` is the least time between two progress messages of a lease;
    `concluded` are the leases whose outcome is on its way. `unsendable` collects what I4 took out:
    why, and the lease."""

    def __init__(self, offline_logs_max: int, every_s: float) -> None:
        self.progress_due_at = self.repeat_at = inf
        self.unsendable: list[tuple[str, str | None]] = []
        self._open = False
        self._every_s = every_s
        self._queue: list[WorkerMessage] = []
        self._unacked: dict[int, Report] = {}
        # By `ref`: when to send it again (`inf` while it is on its way), and the wait before that.
        self._put_off: dict[int, tuple[float, float]] = {}
        self._logs: deque[Log] = deque(maxlen=offline_logs_max)
        self._joined: Log | None = None
        self._joined_characters = 0
        self._progress: dict[str, tuple[int, ProgressNote]] = {}
        self._progressed_at: dict[str, float] = {}
        self.concluded: set[str] = set()
        self._last_ref = 0

    def __len__(self) -> int:
        """Reports that are not settled."""
        return len(self._unacked)

    def frames(self) -> list[str]:
        """Text frames to send, in order; empties the queue."""
        if not self._queue:
            return []
        queue, self._queue = self._queue, []
        try:
            return encode_frames(queue)
        except Exception:  # noqa: BLE001 - I4: found one by one, and raised if it is not a handler's
            queue = self._sendable(queue)
            return encode_frames(queue) if queue else []

    def _sendable(self, queue: Sequence[WorkerMessage]) -> list[WorkerMessage]:
        """What of the queue can be encoded, with a failure for each outcome that cannot (I4)."""
        sendable: list[WorkerMessage] = []
        for message in queue:
            try:
                encode_frame([message])
            except Exception as error:
                if not isinstance(message, (*_OUTCOMES, *_NOTES)):
                    raise
                why = f"{type(message).__name__} is no JSON: {error}"
                self.unsendable.append((why, message.lease_id))
                if isinstance(message, _OUTCOMES):
                    sendable.append(self._failed_instead(message, why))
                else:
                    self.settle(message.ref)
            else:
                sendable.append(message)
        return sendable

    def _failed_instead(self, outcome: Outcome, why: str) -> Fail:
        """What is reported under the same `ref`; what was to be tried again still is."""
        again = not isinstance(outcome, Complete)
        error = JobFailure(class_=UNSENDABLE, message=clean(why, 4096), retryable=again)
        fail = Fail(ref=outcome.ref, lease_id=outcome.lease_id, token=outcome.token, error=error)
        if type(fail.ref) is int:
            self._unacked[fail.ref] = fail
        return fail

    def close(self) -> None:
        """The connection is gone; what was queued and is no report is dropped."""
        self._open = False
        self._queue = []
        self._put_off.clear()
        self.repeat_at = inf

    def greet(self, hello: Hello) -> None:
        """Queue the only message that may leave before `reopen`."""
        self._queue = [hello]

    def reopen(self) -> None:
        """The engine welcomed us: queue kept logs, then every unsettled report (I1)."""
        self._open = True
        self._queue.extend(self._logs)
        self._logs.clear()
        self._queue.extend(self._unacked.values())

    def say(self, message: WorkerMessage) -> None:
        """Queue a message that may be lost with the connection."""
        if self._open:
            self._queue.append(message)

    def ask(self, message: WorkerMessage) -> int:
        """Like `say`, with a fresh `ref`, which is returned."""
        self._last_ref += 1
        message.ref = self._last_ref
        self.say(message)
        return self._last_ref

    def report(self, report: Report) -> None:
        """Keep and queue a message that must not be lost."""
        self._last_ref = ref = self._last_ref + 1
        report.ref = ref
        self._unacked[ref] = report
        if isinstance(report, _OUTCOMES):
            self.concluded.add(report.lease_id)
        if self._open:
            self._queue.append(report)

    def settle(self, ref: object) -> Report | None:
        """The engine answered `ref`; the report it answered, if it was one."""
        if type(ref) is not int:
            return None
        report = self._unacked.pop(ref, None)
        if isinstance(report, _OUTCOMES):
            self.concluded.discard(report.lease_id)
            if self._put_off:
                self._put_off.pop(ref, None)
        return report

    def put_off(self, ref: object, now: float) -> tuple[Outcome, float] | None:
        """Keep an outcome that the engine cannot take just now, and send it again after a wait
        that grows: the outcome and the wait in seconds, None when `ref` is of no outcome."""
        if type(ref) is not int:
            return None
        outcome = self._unacked.get(ref)
        if not isinstance(outcome, _OUTCOMES):
            return None
        _, before_s = self._put_off.get(ref, (inf, REPEAT_S / REPEAT_GROWTH))
        wait_s = min(before_s * REPEAT_GROWTH, REPEAT_S_MAX)
        self._put_off[ref] = (now + wait_s, wait_s)
        self.repeat_at = min(self.repeat_at, now + wait_s)
        return outcome, wait_s

    def repeat_put_off(self, now: float) -> None:
        """Queue again the outcomes that were put off until now, in order."""
        if not self._open or now < self.repeat_at:
            return
        for ref, (due_at, wait_s) in sorted(self._put_off.items()):
            if due_at <= now:
                self._put_off[ref] = (inf, wait_s)
                self._queue.append(self._unacked[ref])
        self.repeat_at = min((due_at for due_at, _ in self._put_off.values()), default=inf)

    def reported(self) -> Iterator[tuple[str, int]]:
        """Lease and token of every unsettled report."""
        for report in self._unacked.values():
            if report.lease_id is not None and report.token is not None:
                yield report.lease_id, report.token

    def log(self, log: Log) -> None:
        """Queue log lines, joined to the ones just before where they are of the same lease."""
        if not self._open:
            self._logs.append(log)
            return
        last = self._queue[-1] if self._queue else None
        characters = sum(len(line.text) for line in log.lines)
        if (
            type(last) is Log
            and last is self._joined
            and last.lease_id == log.lease_id
            and len(last.lines) + len(log.lines) <= LOG_LINES_MAX
            and self._joined_characters + characters <= LOG_CHARACTERS_MAX
        ):
            last.lines.extend(log.lines)
            self._joined_characters += characters
        else:
            self._queue.append(log)
            self._joined, self._joined_characters = log, characters

    def progress(self, note: Progress, now: float) -> None:
        """Queue progress, at most once in `every_s` a lease; between, the newest waits."""
        due_at = self._progressed_at.get(note.lease_id, -self._every_s) + self._every_s
        if self._open and now >= due_at:
            self._progressed_at[note.lease_id] = now
            self._progress.pop(note.lease_id, None)
            self._queue.append(note)
        else:
            kept = ProgressNote(note.percent, note.message)
            self._progress[note.lease_id] = (note.token, kept)
            self.progress_due_at = min(self.progress_due_at, max(due_at, now))

    def flush_progress(self, now: float) -> None:
        """Queue waiting progress that has become due."""
        if not self._open or now < self.progress_due_at:
            return
        self.progress_due_at = inf
        for lease_id, (token, note) in list(self._progress.items()):
            self.progress(
                Progress(
                    lease_id=lease_id, token=token, percent=note.percent, message=note.message
                ),
                now,
            )

    def forget(self, lease_id: str) -> None:
        """The lease has ended: no more progress of it."""
        if self._progressed_at:
            self._progressed_at.pop(lease_id, None)
        if self._progress:
            self._progress.pop(lease_id, None)
