"""Performs a session's commands: gives leases to runners, tells handlers to stop, writes the log.

Runs in the network thread and never blocks. Deliberately not here: any decision.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from jobengine.sdk.commands import (
    AbandonJob,
    Command,
    HangUp,
    Notice,
    ShowStall,
    StartJobs,
    StopJob,
    Stopped,
)
from jobengine.sdk.context import Door, JobContext
from jobengine.sdk.runners import Post, Runner
from jobengine.sdk.session import Posted
from jobengine.wire.engine_messages import Lease
from jobengine.wire.worker_messages import Complete, Fail, Release

Room = Literal["thread", "trio", "asyncio"]
_log: Final = logging.getLogger("jobengine.sdk")
_ENDS: Final = (Complete, Fail, Release, Stopped)
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Handler(NamedTuple):
    """A registered handler, where it runs, and its time limit in seconds."""

    function: Callable[[JobContext], Any]
    room: Room
    timeout_s: float | None


class Crew:
    """See the module. `runners` has one for every room that a handler names."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        runners: Mapping[Room, Runner],
        post: Post,
        door: Door | None = None,
    ) -> None:
        self._post = post
        self._door = door
        self._at_work: dict[str, JobContext] = {}
        self._stations = {
            job_type: (handler.function, runners[handler.room])
            for job_type, handler in handlers.items()
        }

    def ended(self, posted: Sequence[Posted]) -> None:
        """Forget the jobs whose outcome is among what was posted."""
        at_work = self._at_work
        for message in posted:
            if isinstance(message, _ENDS):
                at_work.pop(message.lease_id, None)

    def perform(self, commands: Sequence[Command]) -> None:
        """Do what the session wants, in order."""
        for command in commands:
            match command:
                case StartJobs():
                    self._start(command.leases)
                case StopJob():
                    self._stop(command)
                case AbandonJob():
                    self._show(command.lease_id, f"ignores being stopped ({command.reason})")
                case ShowStall():
                    self._show(command.lease_id, f"silent for {command.quiet_s:.0f} s")
                case Notice():
                    where = f" (lease {command.lease_id})" if command.lease_id else ""
                    _log.log(_LEVELS[command.level], "%s%s", command.text, where)
                case HangUp():
                    _log.warning("closing the connection: %s", command.why)

    def _start(self, leases: Sequence[Lease]) -> None:
        at_work, stations, post, door = self._at_work, self._stations, self._post, self._door
        batches: dict[Runner, list[JobContext]] = {}
        for lease in leases:
            function, runner = stations[lease.job_type]
            at_work[lease.lease_id] = job = JobContext(lease, post, function, door)
            batch = batches.get(runner)
            if batch is None:
                batches[runner] = batch = []
            batch.append(job)
        for runner, batch in batches.items():
            runner.start(batch)

    def _stop(self, command: StopJob) -> None:
        job = self._at_work.get(command.lease_id)
        if job is not None:
            # The reason first: a handler that begins meanwhile looks for it.
            job.stop(command.reason)
            self._runner_of(job).interrupt(job)

    def _show(self, lease_id: str, what: str) -> None:
        job = self._at_work.get(lease_id)
        if job is None:
            return
        text = f"{job!r} {what}\n{self._runner_of(job).stack_of(job)}"
        _log.warning("%s", text)
        job.log.warning(text)

    def _runner_of(self, job: JobContext) -> Runner:
        return self._stations[job.job_type][1]
