"""The leases of a worker: which are taken, which handlers stop, and what is reported of each.

I1  A lease has at most one outcome, and nothing about a lease follows its outcome.
I2  Once draining, no lease is taken.
I3  What an abandoned handler says is dropped: its lease has been reported.

Not here: the connection, its beats and the course of a drain (`session`), slots (`slots`), what is
on its way to the engine (`outbox`).
"""

from typing import Final, Literal

from jobengine.sdk.commands import (
    AbandonJob,
    Command,
    Notice,
    SessionConfig,
    ShowStall,
    StartJobs,
    StopJob,
    Stopped,
    StopReason,
)
from jobengine.sdk.outbox import Outbox, Outcome
from jobengine.sdk.slots import Slots
from jobengine.wire.engine_messages import Cancel, ErrorFrame, Lease, Nack
from jobengine.wire.jobs import JobFailure
from jobengine.wire.worker_messages import (
    ArtifactNote,
    Credit,
    Fail,
    Log,
    Progress,
    Release,
    Throttled,
    Watermark,
)

__all__ = ["Leases"]

REFUSED: Final = "ReportRefused"
PASSING: Final = frozenset(
    {
        "BACKLOG_FULL",
        "IDEMPOTENCY_IN_PROGRESS",
        "OVERLOADED",
        "RATE_LIMITED",
        "STORE_UNAVAILABLE",
    }
)
"""Codes that say nothing of the report itself: the same one is taken later."""


class Leases:
    """Told of everything that concerns a lease, with the monotonic time in seconds."""

    def __init__(self, config: SessionConfig, slots: Slots, outbox: Outbox) -> None:
        self.draining = False
        self.commands: list[Command] = []
        self._config = config
        self._slots = slots
        self._outbox = outbox
        self._concluded = outbox.concluded
        self._job_types = frozenset(config.job_types)
        self._starting: list[Lease] = []

    def take_commands(self) -> list[Command]:
        """Commands to perform, in order; empties the list."""
        if self._starting:
            self.commands.append(StartJobs(self._starting))
            self._starting = []
        commands, self.commands = self.commands, []
        return commands

    def take(self, lease: Lease, now: float) -> bool:
        """Start the lease, let it wait, or give it back; False when it is known already."""
        lease_id, slots = lease.lease_id, self._slots
        if lease_id in slots.held or lease_id in slots.waiting or lease_id in self._concluded:
            return False
        if self.draining:
            self._release(lease, "drain")
        elif lease.job_type not in self._job_types:
            self.notice("error", f"no handler for job type {lease.job_type}", lease_id)
            self._release(lease, "no handler", self._config.unhandled_delay_s)
        elif slots.start(lease, now):
            self._starting.append(lease)
        elif not slots.wait(lease):
            self._release(lease, "no slot")
        return True

    def cancel(self, cancel: Cancel, now: float) -> None:
        lease = self._slots.waiting.pop(cancel.lease_id, None)
        if lease is not None:
            self._release(lease, "cancelled")
        else:
            self.stop(cancel.lease_id, "cancelled", now + cancel.grace_seconds)

    def lose(self, lease_id: str, now: float) -> None:
        """The lease is another's; nothing may be reported for it."""
        if self._slots.waiting.pop(lease_id, None) is None:
            self.stop(lease_id, "lost", now + self._config.grace_s)

    def stop(self, lease_id: str, reason: StopReason, escalate_at: float) -> None:
        if self._slots.stop(lease_id, reason, escalate_at):
            self.commands.append(StopJob(lease_id, reason))

    def abandon(self, lease_id: str) -> None:
        """Give up on a handler that was told to stop, and report its lease without it."""
        token = self._slots.held[lease_id].token
        reason = self._slots.abandon(lease_id)
        self.commands.append(AbandonJob(lease_id, reason))
        self._conclude(lease_id, token, reason)
        if not self.draining:
            self.grant()

    def release_waiting(self) -> None:
        """Give back what no handler has begun."""
        for lease in self._slots.waiting.values():
            self._release(lease, "drain")
        self._slots.waiting.clear()

    def check(self, now: float) -> None:
        """Stop, abandon or show the handlers whose time has come."""
        due = self._slots.due(now)
        for lease_id in due.timed_out:
            self.stop(lease_id, "timed_out", now + self._config.grace_s)
        for lease_id in due.over_grace:
            self.abandon(lease_id)
        for lease_id, quiet_s in due.stalled:
            self.commands.append(ShowStall(lease_id, quiet_s))

    def start_waiting(self, now: float) -> None:
        """Start what has waited longest in the slots that are free."""
        if self._slots.waiting and not self.draining:
            self._starting.extend(self._slots.start_waiting(now))

    def ended(self, outcome: Outcome | Stopped) -> None:
        """A handler has ended."""
        held = self._slots.held.pop(outcome.lease_id, None)
        if held is None:
            return
        if held.abandoned:
            if not self.draining:
                self.grant()
        elif isinstance(outcome, Stopped):
            self._conclude(outcome.lease_id, held.token, held.stop or "cancelled")
        else:
            self._outbox.forget(outcome.lease_id)
            self._outbox.report(outcome)

    def noted(
        self, note: Log | Progress | ArtifactNote | Throttled | Watermark, now: float
    ) -> None:
        """A handler told something, and goes on."""
        held = self._slots.held.get(note.lease_id or "")
        if held is None or held.abandoned:
            return
        if isinstance(note, Log):
            self._outbox.log(note)
        elif isinstance(note, Progress):
            self._slots.alive(note.lease_id, now)
            self._outbox.progress(note, now)
        elif isinstance(note, Throttled):
            self._outbox.say(note)
        else:
            self._outbox.report(note)

    def refused(self, answer: Nack | ErrorFrame, now: float) -> None:
        """The engine refused a message. An outcome that it cannot take just now is reported again
        later; one that it does not take fails the job."""
        refusal = f"{answer.code}: {answer.message}"
        if answer.code in PASSING and (put_off := self._outbox.put_off(answer.ref, now)):
            outcome, wait_s = put_off
            text = f"report put off for {wait_s:.1f} s: {refusal}"
            self.notice("warning", text, outcome.lease_id)
            return
        report = self._outbox.settle(answer.ref)
        if report is None:
            self.notice("warning", f"the engine refused a message: {refusal}")
            return
        self.notice("warning", f"report refused: {refusal}", report.lease_id)
        again = isinstance(report, Fail) and report.error.class_ == REFUSED
        if isinstance(report, Outcome) and answer.code != "LEASE_LOST" and not again:
            error = JobFailure(class_=REFUSED, message=refusal[:4096], retryable=False)
            self._outbox.report(Fail(lease_id=report.lease_id, token=report.token, error=error))

    def frames(self) -> list[str]:
        """Text frames to send, in order; what cannot be sent is told to the operator."""
        frames = self._outbox.frames()
        if self._outbox.unsendable:
            for why, lease_id in self._outbox.unsendable:
                self.notice("error", f"not sent: {why}", lease_id)
            self._outbox.unsendable.clear()
        return frames

    def grant(self) -> None:
        """Tell the engine how many more leases there is room for."""
        slots = self._config.capacity - len(self._slots.held) - len(self._slots.waiting)
        self._outbox.say(Credit(slots=max(0, slots)))

    def notice(
        self, level: Literal["info", "warning", "error"], text: str, lease_id: str | None = None
    ) -> None:
        """Tell the operator of the worker."""
        self.commands.append(Notice(level, text, lease_id))

    def _release(self, lease: Lease, reason: str, delay_s: float | None = None) -> None:
        self._outbox.report(
            Release(
                lease_id=lease.lease_id, token=lease.token, reason=reason, delay_seconds=delay_s
            )
        )

    def _conclude(self, lease_id: str, token: int, reason: StopReason) -> None:
        """Report a lease whose handler has no outcome of its own to report."""
        self._outbox.forget(lease_id)
        if reason == "timed_out":
            error = JobFailure(class_="TimedOut", message="the handler ran out of its time")
            self._outbox.report(Fail(lease_id=lease_id, token=token, error=error))
        elif reason != "lost":
            self._outbox.report(Release(lease_id=lease_id, token=token, reason=reason))
        elif not self.draining:
            # Nothing is reported that would free the slot.
            self.grant()
