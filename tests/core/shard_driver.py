"""A lease shard's core with a hand-moved clock; the test is its ledger, its store and its doors."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from jobengine.core.lease_shard import LeaseShard, ShardLimits
from jobengine.core.machine import Answer
from jobengine.core.rate_bucket import RateBucket
from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.change import ControlRow, GateStateRow
from jobengine.domain.control import Control, ControlKind
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import Definition, Job, State
from jobengine.domain.records import Lane, LeasedJob, NewJob
from jobengine.messages.admission import ChangeControl, Explain
from jobengine.messages.lease_shard import Actor, SubmitJobs
from jobengine.messages.rate_bucket import (
    BucketLost,
    Configure,
    Learn,
    Peek,
    PushedBack,
    Refund,
    Reserve,
    Started,
)
from jobengine.messages.session import Grant, Granted, Settled, Tell
from jobengine.messages.shard_commands import (
    Commit,
    Committed,
    LoadSubjects,
    ReadFailed,
    Recovered,
    SubjectsLoaded,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Attach, Reports, SetCredit

C = TypeVar("C")
TO_BUCKETS = (Configure, Reserve, Refund, Started, Peek, PushedBack, Learn)
EPOCH_AT = 1_767_225_600_000_000
LANE = Lane("acme", "scan", "scan")
UNREAD = Refusal(ErrorCode.STORE_UNAVAILABLE, "the reason")


class ShardDriver:
    """``commands`` gathers everything; ``settle`` plays a ledger that commits what was sent.

    Rate buckets answer at once, unless ``buckets_answer`` is turned off. The wall clock is
    ``behind_us`` the time that passes.
    """

    def __init__(
        self,
        *,
        leased: Sequence[LeasedJob] = (),
        lanes: Sequence[Lane] = (),
        backlogs: Mapping[str, int] | None = None,
        controls: Sequence[ControlRow] = (),
        gate_states: Sequence[GateStateRow] = (),
        mono: float = 1000.0,
        incarnation: int = 1,
        **limits: Any,
    ) -> None:
        self.mono = mono
        self.behind_us = 0
        self.core = LeaseShard(0, ShardLimits(**limits), incarnation)
        self.commands: list[Any] = []
        self.buckets: dict[str, RateBucket] = {}
        self.buckets_answer = True
        self._unanswered: list[Any] = []
        self._settled: set[int] = set()
        self._asks = 0
        self.send(
            Recovered(
                leased=leased,
                lanes=lanes,
                backlogs=backlogs or {},
                controls=controls,
                gate_states=gate_states,
            )
        )

    @property
    def now(self) -> Moment:
        return Moment(self.mono, EPOCH_AT + round(self.mono * 1e6) - self.behind_us)

    def send(self, message: Any) -> list[Any]:
        """What the core commands, the wake-ups that are due at once included."""
        commands = list(self.core.handle(message, self.now))
        for _ in range(8):
            wakeup_at = self.core.wakeup_at
            if wakeup_at is None or wakeup_at > self.mono:
                break
            commands.extend(self.core.handle(Wake(), self.now))
        else:
            raise AssertionError("the core wants to be woken for ever")
        self.commands.extend(commands)
        self._unanswered += [command for command in commands if isinstance(command, TO_BUCKETS)]
        if self.buckets_answer:
            commands = commands + self.answer_buckets()
        return commands

    def answer_buckets(self) -> list[Any]:
        """Every rate bucket answers what it was asked; what the core commands because of it."""
        commands: list[Any] = []
        while self._unanswered:
            asked = self._unanswered.pop(0)
            bucket = self.buckets.setdefault(asked.tenant_id, RateBucket(asked.tenant_id))
            for answer in bucket.handle(asked, self.now):
                commands += self.send(answer)
        return commands

    def lose_buckets(self) -> None:
        """The rate buckets fail with what they have not answered, and the core is told."""
        self.buckets.clear()
        self._unanswered.clear()
        self.buckets_answer = True
        stamps = [configure.stamp for configure in self.all(Configure)]
        self.send(BucketLost(tenant_id="acme", configured=max(stamps, default=0)))

    def wait(self, seconds: float) -> list[Any]:
        """Let time pass, waking the core whenever it asked for it."""
        until = self.mono + seconds
        commands: list[Any] = []
        while (wakeup_at := self.core.wakeup_at) is not None and wakeup_at <= until:
            self.mono = max(self.mono, wakeup_at)
            commands += self.send(Wake())
        self.mono = until
        return commands

    def all(self, kind: type[C]) -> list[C]:
        return [command for command in self.commands if isinstance(command, kind)]

    def last(self, kind: type[C]) -> C:
        return self.all(kind)[-1]

    def answers(self) -> list[Any]:
        return [answer.value for answer in self.all(Answer)]

    def grants(self, session_id: int | None = None) -> list[Grant]:
        return [
            grant
            for tell in self.all(Tell)
            if isinstance(tell.message, Granted) and session_id in (None, tell.session_id)
            for grant in tell.message.leases
        ]

    def settled(self, session_id: int) -> list[Settled]:
        return [
            tell.message
            for tell in self.all(Tell)
            if isinstance(tell.message, Settled) and tell.session_id == session_id
        ]

    def open_commits(self) -> list[Commit]:
        return [commit for commit in self.all(Commit) if commit.stamp not in self._settled]

    def settle(self) -> None:
        """Every commit under way returns, and those that follow from it."""
        while commits := self.open_commits():
            self._settled.add(commits[0].stamp)
            self.send(Committed(stamp=commits[0].stamp, first_seq=1))

    # ---- doors and workers

    def ask_id(self) -> int:
        self._asks += 1
        return self._asks

    def attach(
        self, session_id: int = 1, *, tenant_id: str = "acme", slots: int = 10, **fields: Any
    ) -> None:
        self.send(attach(session_id, tenant_id=tenant_id, **fields))
        if slots:
            self.send(SetCredit(session_id=session_id, slots=slots))

    def submit(self, *jobs: NewJob, tenant_id: str = "acme", **fields: Any) -> None:
        self.send(
            SubmitJobs(
                ask_id=self.ask_id(), tenant_id=tenant_id, actor=Actor("p"), jobs=jobs, **fields
            )
        )

    def control(self, kind: ControlKind, name: str, control: Control | None, **fields: Any) -> Any:
        """Change a control of ``acme``; the answer, once it is committed."""
        self.send(
            ChangeControl(
                ask_id=self.ask_id(),
                tenant_id="acme",
                actor=Actor("operator"),
                event=f"{kind}.changed",
                kind=kind,
                name=name,
                control=control,
                **fields,
            )
        )
        self.settle()
        return self.answers()[-1]

    def explain(self, *jobs: Job) -> dict[str, list[str]]:
        """The closed gates of jobs, by job id; ``jobs`` are as the store would read them."""
        self.send(
            Explain(ask_id=self.ask_id(), tenant_id="acme", job_ids=[job.job_id for job in jobs])
        )
        wanted = self.last(LoadSubjects)
        self.send(SubjectsLoaded(stamp=wanted.stamp, jobs={job.job_id: job for job in jobs}))
        answer = self.answers()[-1]
        return {each.job_id: [gate.gate for gate in each.gates] for each in answer.jobs}

    def report(self, *reports: Any, session_id: int = 1) -> list[Any]:
        return self.send(Reports(session_id=session_id, reports=reports))


def attach(session_id: int, *, tenant_id: str = "acme", kind: Any = Attach, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "worker_id": f"w{session_id}",
        "task_runner_id": "runner",
        "queues": frozenset(),
        "job_types": frozenset({"scan"}),
        "capacity": 100,
    }
    return kind(session_id=session_id, tenant_id=tenant_id, **given | fields)


def read_failed(wanted: LoadSubjects) -> ReadFailed:
    """The store did not serve, for `UNREAD`."""
    return ReadFailed(stamp=wanted.stamp, refusal=UNREAD)


def job_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012d}"


def new_job(number: int, **fields: Any) -> NewJob:
    definition = Definition(
        job_type=fields.pop("job_type", "scan"),
        queue=fields.pop("queue", "scan"),
        payload_digest=digest(b"{}"),
        **fields,
    )
    return NewJob(
        job_id=job_id(number),
        definition=definition,
        definition_json=canonical_of(msgspec.to_builtins(definition)),
        payload=b"{}",
    )


def stored_job(
    number: int,
    state: State = State.SCHEDULED,
    *,
    tenant_id: str = "acme",
    due_at: int = EPOCH_AT,
    attempt: int = 0,
    cancel_requested_at: int | None = None,
    **fields: Any,
) -> Job:
    """A job as a store would read it back."""
    new = new_job(number, **fields)
    return Job(
        job_id=new.job_id,
        tenant_id=tenant_id,
        definition=new.definition,
        definition_json=new.definition_json,
        payload=new.payload,
        created_at=EPOCH_AT,
        scheduled_at=EPOCH_AT,
        state=state,
        attempt=attempt,
        due_at=due_at,
        started_at=EPOCH_AT if attempt else None,
        cancel_requested_at=cancel_requested_at,
        cancel_reason="user_cancelled" if cancel_requested_at else None,
    )
