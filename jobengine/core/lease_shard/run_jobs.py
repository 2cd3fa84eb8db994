"""What planners command of runs and their jobs, each in one commit.

I1  A command sees its run and its jobs as committed: it holds them from before they are read, the
    run first and then the jobs in the order of their ids, so that nobody waits in a circle.
I2  A command that was carried out already changes nothing, and is answered as the first time, after
    that one's commit.

Not here: what becomes of single jobs (``run_changes``) and of the run (``run_rows``), what is to be
commanded (``core/dag_planner``), payloads (its shell).
"""

from collections.abc import Collection, Generator
from typing import Any

from jobengine.core.lease_shard.claims import Claims
from jobengine.core.lease_shard.draft import Draft
from jobengine.core.lease_shard.grants import Granter
from jobengine.core.lease_shard.held_jobs import HeldJobs
from jobengine.core.lease_shard.known_runs import KnownRun, run_key
from jobengine.core.lease_shard.node_jobs import create_jobs, write_part
from jobengine.core.lease_shard.pending import Pending
from jobengine.core.lease_shard.run_batches import Batch, actor_of, job_ids_of
from jobengine.core.lease_shard.run_changes import RunChanges
from jobengine.core.lease_shard.run_refusals import refuse
from jobengine.core.lease_shard.run_rows import begin, finish, grow, request_cancel
from jobengine.core.lease_shard.slices import Slices, Steps
from jobengine.core.lease_shard.state import ShardState
from jobengine.core.machine import Answer
from jobengine.domain.errors import Refusal
from jobengine.domain.node import NodeKind
from jobengine.domain.run import ENDED, RunState
from jobengine.messages.planner_commands import (
    CancelJobs,
    CommitCancel,
    EndNodes,
    FinishRun,
    GrowRun,
    OpenNodes,
    ReleaseJobs,
)
from jobengine.messages.runs import CarryOut, RunCommand
from jobengine.messages.shard_commands import LoadSubjects, SubjectsLoaded

__all__ = ["RunJobs"]


class RunJobs:
    def __init__(
        self,
        state: ShardState,
        slices: Slices,
        granter: Granter,
        claims: Claims,
        held_jobs: HeldJobs,
    ) -> None:
        self._state = state
        self._slices = slices
        self._claims = claims
        self._held_jobs = held_jobs
        self._changes = RunChanges(state, granter)
        self._reading: dict[int, Batch] = {}

    def carry_out(self, message: CarryOut) -> list[Any]:
        """Begin a command, unless another change of its run's row is under way."""
        command = message.command
        holds_run = self._changes_run(command)
        if holds_run:
            keys = [run_key(command.run_id)]
            if self._claims.waits(message.tenant_id, keys, message):
                return []
            self._claims.hold_keys(message.tenant_id, keys)
        return self.go_on(Batch(message, sorted(job_ids_of(message)), holds_run))

    def go_on(self, batch: Batch) -> list[Any]:
        """Hold the jobs that are still to be held, then read those that are not known (I1)."""
        for job_id in batch.job_ids[batch.held :]:
            if self._held_jobs.waits(job_id, batch):
                return []
            job = self._held_jobs.hold(job_id)
            if job is not None:
                batch.jobs[job_id] = job
            batch.held += 1
        state, command = self._state, batch.message.command
        run_id = command.run_id if batch.holds_run else None
        if run_id is not None and state.runs.get(run_id) is not None:
            run_id = None
        unread = [job_id for job_id in batch.job_ids if job_id not in batch.jobs]
        if run_id is None and not unread:
            return self._decide(batch)
        stamp = state.stamp()
        self._reading[stamp] = batch
        state.commands.append(
            LoadSubjects(
                stamp=stamp,
                tenant_id=batch.tenant_id,
                job_ids=unread,
                with_dead_letters=False,
                run_id=run_id,
                now_at=state.now.at,
            )
        )
        return []

    def loaded(self, message: SubjectsLoaded) -> list[Any] | None:
        """Decide; returns what may be handled again now, or None when the stamp is not ours."""
        batch = self._reading.pop(message.stamp, None)
        if batch is None:
            return None
        if message.run is not None and message.run.state not in ENDED:
            self._state.runs.learn(message.run)
        leases = self._state.leases
        for job_id, job in message.jobs.items():
            lease = leases.of_job(job_id)
            batch.jobs[job_id] = job if lease is None else lease.job
        ended = message.run.state if message.run is not None else None
        return self._decide(batch, ended)

    def read_failed(self, stamp: int, refusal: Refusal) -> list[Any] | None:
        batch = self._reading.pop(stamp, None)
        if batch is None:
            return None
        return self._answer(batch, refusal)

    # ---- deciding

    def _changes_run(self, command: RunCommand) -> bool:
        """Whether the row of the run may change, as far as is known."""
        if isinstance(command, CommitCancel | FinishRun | GrowRun):
            return True
        if not isinstance(command, ReleaseJobs | OpenNodes) or not command.begins:
            return False
        run = self._state.runs.get(command.run_id)
        return run is None or run.state is RunState.PENDING

    def _decide(self, batch: Batch, stored: RunState | None = None) -> list[Any]:
        """``stored`` is the state of a run that had to be read."""
        state, command = self._state, batch.message.command
        run = state.runs.get(command.run_id) if batch.holds_run else None
        refusal = refuse(state, batch, run, stored)
        if refusal is not None:
            return self._answer(batch, refusal)
        draft = state.draft(batch.tenant_id, actor_of(command))
        return self._slices.begin(batch.tenant_id, draft.at, self._steps(draft, batch, run))

    def _steps(self, draft: Draft, batch: Batch, run: KnownRun | None) -> Steps:
        pending, command = Pending(), batch.message.command
        if isinstance(command, ReleaseJobs):
            changed = yield from self._release(draft, pending, batch, run)
        elif isinstance(command, GrowRun):
            changed = yield from self._grow(draft, pending, batch, run)
        else:
            changed = self._write(draft, pending, batch, run)
        pending.operated = changed
        return lambda: self._commit(draft, pending, batch)

    def _commit(self, draft: Draft, pending: Pending, batch: Batch) -> list[Any]:
        """Send a carried out command on its way; what had waited for jobs that do not change."""
        if draft.empty:
            return self._answer(batch, None)
        if batch.holds_run:
            key = run_key(batch.message.command.run_id)
            pending.unique_keys.append((batch.tenant_id, key))
        pending.answers.append((batch.message.ask_id, None))
        self._state.commit(draft, pending)
        return self._let_go(batch, set(pending.operated))

    # ---- writing

    def _write(
        self, draft: Draft, pending: Pending, batch: Batch, run: KnownRun | None
    ) -> list[str]:
        """Carry out a command in an open draft; the ids of the jobs that change."""
        command, jobs, changes = batch.message.command, batch.jobs, self._changes
        match command:
            case OpenNodes():
                _begin(draft, run, begins=command.begins)
                filled_in = batch.message.filled_in
                return [
                    node.job_id
                    for node in command.nodes
                    if node.job_id in jobs
                    and changes.open(draft, jobs[node.job_id], node, filled_in.get(node.job_id))
                ]
            case EndNodes():
                return [
                    end.job_id
                    for end in command.ends
                    if end.job_id in jobs and changes.end(draft, pending, jobs[end.job_id], end)
                ]
            case CancelJobs():
                return [
                    job_id
                    for job_id, job in sorted(jobs.items())
                    if changes.cancel(draft, pending, job, command.reason)
                ]
            case CommitCancel():
                assert run is not None
                request_cancel(draft, run)
            case FinishRun():
                if run is not None:
                    finish(draft, pending, run, command)
        return []

    def _release(
        self, draft: Draft, pending: Pending, batch: Batch, run: KnownRun | None
    ) -> Generator[None, None, list[str]]:
        command, filled_in = batch.message.command, batch.message.filled_in
        assert isinstance(command, ReleaseJobs)
        _begin(draft, run, begins=command.begins)
        changed = []
        stride = self._state.limits.stride(len(batch.jobs))
        for number, job in enumerate(sorted(batch.jobs.values(), key=self._state.key_of)):
            if number and number % stride == 0:
                yield
            if self._changes.release(draft, pending, job, filled_in.get(job.job_id)):
                changed.append(job.job_id)
        return changed

    def _grow(
        self, draft: Draft, pending: Pending, batch: Batch, run: KnownRun | None
    ) -> Generator[None, None, list[str]]:
        """Nodes, edges and jobs; nothing where they are there already (I2)."""
        message, command = batch.message, batch.message.command
        assert isinstance(command, GrowRun)
        assert run is not None
        if any(new.job_id in batch.jobs for new in message.jobs):
            return []
        nodes = [new.node for new in command.nodes if new.node.kind is not NodeKind.JOIN]
        edges = len(command.edges) + sum(len(node.depends_on) for node in nodes)
        grow(draft, run, len(message.jobs), edges)
        write_part(draft, run.run_id, nodes, command.edges, message.jobs)
        stride = self._state.limits.stride(len(message.jobs))
        yield from create_jobs(draft, pending, message.tenant_id, message.jobs, stride)
        opened = command.opened
        job = batch.jobs.get(opened.job_id) if opened is not None else None
        if opened is None or job is None:
            return []
        return [job.job_id] if self._changes.end(draft, pending, job, opened) else []

    # ---- letting go

    def _answer(self, batch: Batch, value: Refusal | None) -> list[Any]:
        """Answer without a commit; returns what had waited for the run and the jobs."""
        self._state.commands.append(Answer(batch.message.ask_id, value))
        again: list[Any] = []
        if batch.holds_run:
            key = run_key(batch.message.command.run_id)
            again.extend(self._claims.release_keys([(batch.tenant_id, key)]))
        return [*again, *self._let_go(batch, ())]

    def _let_go(self, batch: Batch, changed: Collection[str]) -> list[Any]:
        """Let go of the jobs that do not change; what had waited for them."""
        again: list[Any] = []
        for job_id in batch.job_ids:
            if job_id not in changed:
                again.extend(
                    self._held_jobs.let_go(batch.tenant_id, job_id, batch.jobs.get(job_id))
                )
        return again


def _begin(draft: Draft, run: KnownRun | None, *, begins: bool) -> None:
    if begins and run is not None and run.state is RunState.PENDING:
        begin(draft, run)
