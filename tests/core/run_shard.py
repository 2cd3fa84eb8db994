"""A lease shard over a store's tables, asked for runs; the test is its planner and its doors."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.job import Definition, Job, State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.records import NewJob
from jobengine.domain.run import JobIds, RollUp, RunState
from jobengine.domain.run_record import RunRecord
from jobengine.messages.lease_shard import Actor
from jobengine.messages.planner_commands import ReleaseJobs
from jobengine.messages.run_facts import JobEnd, JobsEnded
from jobengine.messages.runs import CarryOut, CreateRun, FilledIn, RunPlan
from jobengine.messages.worker_reports import Completed, Failed
from jobengine.store.memory.tables import Tables
from tests.core.shard_driver import EPOCH_AT
from tests.core.stored_driver import StoredDriver

RUN = "00000000-0000-7000-9000-000000000001"
TOKEN = "nightly"
OPERATOR = Actor("operator", "because", "T-1")
IDS = JobIds("acme", TOKEN, EPOCH_AT)
ROLLED = RollUp(completed=1, outputs_hash="ab" * 32)


def job_of(key: str) -> str:
    """The id of the job of a node."""
    return IDS.of(key)


def node_job(
    key: str, *depends_on: str, kind: NodeKind = NodeKind.JOB, payload: bytes = b"{}", **fields: Any
) -> NewJob:
    job_type = "scan" if kind is NodeKind.JOB else f"orch.{kind}"
    definition = Definition(
        job_type=job_type,
        queue=job_type,
        payload_digest=digest(payload),
        depends_on=depends_on,
        run_id=RUN,
        node_key=key,
        **fields,
    )
    return NewJob(
        job_id=job_of(key),
        definition=definition,
        definition_json=canonical_of(msgspec.to_builtins(definition)),
        payload=payload,
    )


def plan_of(*jobs: NewJob, **fields: Any) -> RunPlan:
    """A run of these jobs; ``fields`` are of its record."""
    record = RunRecord(
        tenant_id="acme",
        run_id=RUN,
        run_token=TOKEN,
        state=RunState.PENDING,
        nodes=len(jobs),
        created_at=EPOCH_AT,
        created_by="producer",
        **{"inputs_hash": "in", **fields},
    )
    return RunPlan(record=record, nodes=[node_of(new) for new in jobs], jobs=jobs)


def node_of(new: NewJob) -> Node:
    job_type = new.definition.job_type
    kind = job_type.removeprefix("orch.") if job_type.startswith("orch.") else "job"
    key = new.definition.node_key
    assert key is not None
    return Node(key=key, kind=NodeKind(kind), depends_on=new.definition.depends_on)


class RunShard(StoredDriver):
    """A restart is another one over the same tables."""

    def __init__(
        self,
        tables: Tables | None = None,
        *,
        mono: float = 1000.0,
        incarnation: int = 1,
        **limits: Any,
    ) -> None:
        super().__init__(tables or Tables(), mono, incarnation, **limits)

    def restarted(self) -> "RunShard":
        return RunShard(self.tables, mono=self.mono + 1, incarnation=2)

    def create(self, *jobs: NewJob, settle: bool = True, **fields: Any) -> Any:
        """Ask for a run; the answer, once everything is settled."""
        claim = fields.pop("claim", None)
        plan = fields.pop("plan", None) or plan_of(*jobs, **fields)
        self.send(
            CreateRun(
                ask_id=self.ask_id(), tenant_id="acme", actor=Actor("p"), plan=plan, claim=claim
            )
        )
        return self.settled_answer() if settle else None

    def command(
        self,
        kind: Any,
        *,
        filled_in: Mapping[str, FilledIn] | None = None,
        jobs: Sequence[NewJob] = (),
        settle: bool = True,
        **fields: Any,
    ) -> Any:
        """Have the planner command something; the answer, once everything is settled."""
        command = kind(stamp=1, tenant_id="acme", run_id=RUN, **fields)
        self.send(
            CarryOut(
                ask_id=self.ask_id(),
                tenant_id="acme",
                command=command,
                filled_in=filled_in or {},
                jobs=jobs,
            )
        )
        return self.settled_answer() if settle else None

    def release(self, *keys: str, begins: bool = True, **fields: Any) -> Any:
        job_ids = [job_of(key) for key in keys]
        return self.command(ReleaseJobs, job_ids=job_ids, begins=begins, **fields)

    def settled_answer(self) -> Any:
        self.settle()
        return self.answers()[-1]

    @property
    def run(self) -> RunRecord:
        return self.tables.planned.runs["acme", RUN].record

    def node(self, key: str) -> Job:
        return self.tables.jobs["acme", job_of(key)]

    def states(self) -> dict[str, State]:
        return {
            job.definition.node_key or "": job.state
            for job in self.tables.jobs.values()
            if job.definition.run_id == RUN
        }

    def kinds(self) -> list[str]:
        """Kinds of the entries of this life, in order."""
        return [entry["kind"] for entry in self.entries]

    def ends(self) -> list[JobEnd]:
        return [end for told in self.all(JobsEnded) for end in told.ends]

    def complete(self, key: str, result: bytes = b"null") -> None:
        grant = self._grant_of(key)
        self.report(Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=result))
        self.settle()

    def fail(self, key: str, error: Any) -> None:
        grant = self._grant_of(key)
        self.report(Failed(ref="f", lease_id=grant.lease_id, token=grant.token, error=error))
        self.settle()

    def _grant_of(self, key: str) -> Any:
        return [grant for grant in self.grants() if grant.job.job_id == job_of(key)][-1]
