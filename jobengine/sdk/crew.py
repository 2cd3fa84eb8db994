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
from jobengine.sdk.runners import Job, Post, Runner
from jobengine.sdk.session import Posted
from jobengine.wire.engine_messages import Lease
from jobengine.wire.worker_messages import Complete, Fail, Release

Room = Literal["thread", "trio", "asyncio"]
_log: Final = logging.getLogger("jobengine.sdk")
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
        self._at_work: dict[str, tuple[JobContext, Runner]] = {}
        self._stations = {
            job_type: (handler.function, runners[handler.room])
            for job_type, handler in handlers.items()
        }

    def ended(self, posted: Sequence[Posted]) -> None:
        """Forget the jobs whose outcome is among what was posted."""
        for message in posted:
            if isinstance(message, Complete | Fail | Release | Stopped):
                self._at_work.pop(message.lease_id, None)

    def perform(self, commands: Sequence[Command]) -> None:
        """Do what the session wants, in order."""
        for command in commands:
            match command:
                case StartJobs():
                    self._start(command.leases)
                case StopJob():
                    if command.lease_id in self._at_work:
                        self._at_work[command.lease_id][0].stop(command.reason)
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
        batches: dict[Runner, list[Job]] = {}
        for lease in leases:
            function, runner = self._stations[lease.job_type]
            context = JobContext(lease, self._post, self._door)
            self._at_work[lease.lease_id] = (context, runner)
            batch = batches.get(runner)
            if batch is None:
                batches[runner] = batch = []
            batch.append(Job(context, function))
        for runner, batch in batches.items():
            runner.start(batch)

    def _show(self, lease_id: str, what: str) -> None:
        if lease_id not in self._at_work:
            return
        context, runner = self._at_work[lease_id]
        text = f"{context!r} {what}\n{runner.stack_of(context)}"
        _log.warning("%s", text)
        context.log.warning(text)
