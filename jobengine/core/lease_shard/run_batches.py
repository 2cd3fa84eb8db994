"""A planner's command on its way: what it needs, and what of that it holds.

Not here: carrying it out (``run_jobs``).
"""

from collections.abc import Sequence

import attrs

from jobengine.core.lease_shard.state import ENGINE
from jobengine.domain.job import Job
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    GrowRun,
    OpenNodes,
    ReleaseJobs,
)
from jobengine.messages.runs import CarryOut, RunCommand

__all__ = ["Batch", "actor_of", "job_ids_of"]


@attrs.define(eq=False)
class Batch:
    """A command that is being carried out: the jobs it needs, in the order of their ids, of which
    it holds the first ``held``; the run's row too, if ``holds_run``."""

    message: CarryOut
    job_ids: Sequence[str]
    holds_run: bool
    held: int = 0
    jobs: dict[str, Job] = attrs.field(factory=dict)

    @property
    def tenant_id(self) -> str:
        return self.message.tenant_id


def job_ids_of(message: CarryOut) -> set[str]:
    """The jobs that a command may change, and those that a growth brings."""
    match message.command:
        case ReleaseJobs() | CancelJobs() as command:
            return set(command.job_ids)
        case OpenNodes() as command:
            return {node.job_id for node in command.nodes}
        case EndNodes() as command:
            return {end.job_id for end in command.ends}
        case GrowRun() as command:
            opened = () if command.opened is None else (command.opened.job_id,)
            return {*opened, *(new.job_id for new in message.jobs)}
        case _:
            return set()


def actor_of(command: RunCommand) -> Actor:
    asked = command.actor if isinstance(command, CommitCancel | GrowRun) else None
    return asked or ENGINE
