"""Many alike jobs are decided and written together, and nothing else can tell."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.commit_flight import NEW, Flight
from jobengine.core.lease_shard import LeaseShard, ShardLimits
from jobengine.domain.change import JobRow
from jobengine.domain.entry import Entry, decode_entries
from jobengine.domain.failure import Failure
from jobengine.domain.instant import Moment
from jobengine.domain.job import Likeness
from jobengine.domain.records import NewJob
from jobengine.messages.lease_shard import Actor, SubmitJobs
from jobengine.messages.ledger import Append
from jobengine.messages.shard_commands import Commit, Committed, Recovered
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import Completed, Detach, Failed, Reports, SetCredit
from tests.core.shard_driver import EPOCH_AT, attach, new_job

WORKERS = (1, 2)


class Shard:
    """A shard whose ledger commits at once, in batches of its own; what left is in ``batches``."""

    def __init__(self) -> None:
        self.core = LeaseShard(0, ShardLimits(slice_jobs=8, lane_jobs_max=40))
        self.mono = 1000.0
        self.head = NEW
        self.changes: list[tuple[list[Entry], list[JobRow]]] = []
        self.cohorts = 0
        self.told: list[Any] = []
        self.send(Recovered(leased=(), lanes=()))

    def send(self, *messages: Any) -> None:
        self.mono += 0.5
        todo = list(messages)
        while todo or self._wants_to_go_on():
            now = Moment(self.mono, EPOCH_AT + round(self.mono * 1e6))
            for command in self.core.handle(todo.pop(0) if todo else Wake(), now):
                if isinstance(command, Commit):
                    todo.append(self._commit(command))
                else:
                    self.told.append(command)

    def _wants_to_go_on(self) -> bool:
        at = self.core.wakeup_at
        return at is not None and at <= self.mono

    def _commit(self, command: Commit) -> Committed:
        flight = Flight([Append(life=1, sender=0, stamp=command.stamp, changes=command.changes)])
        batch = flight.number({"acme": self.head})
        self.head = flight.heads.get("acme", self.head)
        entries = [entry for block in batch.blocks for entry in decode_entries(block.body)]
        self.changes.append((entries, command.changes.job_rows()))
        self.cohorts += len(command.changes.cohorts)
        return Committed(stamp=command.stamp, first_seq=flight.first_seqs[0])


def alike(jobs: Sequence[NewJob]) -> list[NewJob]:
    """As a translator hands them on: jobs that differ in payload and correlation share a record."""
    known: dict[bytes, Likeness] = {}
    marked = []
    for job in jobs:
        common = msgspec.structs.replace(job.definition, correlation_id="", payload_digest="")
        like = known.setdefault(msgspec.json.encode(common), Likeness.of(job.definition))
        marked.append(msgspec.structs.replace(job, like=like))
    return marked


submits = st.tuples(
    st.just("submit"),
    st.lists(
        st.sampled_from([{}, {}, {}, {"priority": 7}, {"hold": True}]), min_size=1, max_size=3
    ),
    st.integers(1, 30),
)
slots = st.tuples(st.just("credit"), st.sampled_from(WORKERS), st.integers(0, 25))
reports = st.tuples(
    st.just("report"), st.sampled_from(WORKERS), st.integers(1, 30), st.integers(0, 12)
)
detaches = st.tuples(st.just("detach"), st.sampled_from(WORKERS))


def play(shard: Shard, steps: Sequence[tuple[Any, ...]], *, is_marked: bool) -> None:
    for worker in WORKERS:
        shard.send(attach(worker, capacity=20, auto_credit=worker == 1))
    number = 0
    for ask, step in enumerate(steps):
        match step:
            case ("submit", kinds, each):
                jobs = []
                for fields in kinds:
                    jobs += [new_job(number + n, **fields) for n in range(each)]
                    number += each
                marked = alike(jobs) if is_marked else jobs
                actor = Actor("producer <~job~>" if each == 13 else "producer", "why", "OPS-1")
                shard.send(SubmitJobs(ask_id=ask, tenant_id="acme", actor=actor, jobs=marked))
            case ("credit", worker, slots):
                shard.send(SetCredit(session_id=worker, slots=slots))
            case ("report", worker, count, fails_at):
                shard.send(said(shard, worker, count, fails_at))
            case ("detach", worker):
                shard.send(Detach(session_id=worker), attach(worker, capacity=20))


def said(shard: Shard, worker: int, count: int, fails_at: int) -> Reports:
    """Ends of what a worker holds; one of them is a failure, and one is reported twice."""
    granted = [
        grant
        for each in shard.told
        if getattr(each, "session_id", None) == worker
        for grant in getattr(each.message, "leases", ())
    ]
    ends: list[Any] = []
    for place, grant in enumerate(granted[-count:]):
        about = {"ref": place, "lease_id": grant.lease_id, "token": grant.token}
        if place == fails_at:
            error = Failure(class_="Boom", message="no", retryable=False)
            ends.append(Failed(**about, error=error, retry_after_us=None))
        else:
            ends.append(Completed(**about, result=b'{"n":%d}' % place))
    return Reports(session_id=worker, reports=[*ends, *ends[:1]])


@given(st.lists(st.one_of(submits, slots, reports, detaches), max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_leaves_is_the_same_whether_jobs_are_known_to_be_alike_or_not(
    steps: list[tuple[Any, ...]],
) -> None:
    together, single = Shard(), Shard()
    play(together, steps, is_marked=True)
    play(single, steps, is_marked=False)
    # Slices of a large frame end elsewhere, and with them commits of what starts in its slots.
    assert of_all_changes(together) == of_all_changes(single)
    assert single.cohorts == 0
    assert together.core.backlog == single.core.backlog
    assert together.core.leases == single.core.leases


def of_all_changes(shard: Shard) -> dict[str, list[tuple[list[bytes], bytes]]]:
    """What all changes say of each job, in their order."""
    said: dict[str, list[tuple[list[bytes], bytes]]] = {}
    for entries, rows in shard.changes:
        for job, told in by_job(entries, rows).items():
            said.setdefault(job, []).append(told)
    said[""] = [([text for texts, _ in said.get("", ()) for text in texts], b"")]
    return said


def by_job(entries: list[Entry], rows: list[JobRow]) -> dict[str, tuple[list[bytes], bytes]]:
    """What a change says of each job, without the numbers, which rows must have of their job."""
    said: dict[str, tuple[list[bytes], bytes]] = {}
    of_seq = {entry.seq: entry for entry in entries}
    assert list(of_seq) == list(range(entries[0].seq, entries[0].seq + len(entries)))
    for row in rows:
        mine = [of_seq.pop(seq) for seq in row.seqs]
        assert {entry.job for entry in mine} == {row.job_id}
        texts = [msgspec.json.encode(msgspec.structs.replace(entry, seq=0)) for entry in mine]
        said[row.job_id] = (texts, msgspec.json.encode(msgspec.structs.replace(row, seqs=())))
    said[""] = ([msgspec.json.encode(entry) for entry in of_seq.values()], b"")
    return said


def test_a_bulk_of_alike_jobs_is_one_cohort_when_it_starts_and_one_when_it_ends() -> None:
    shard = Shard()
    play(shard, [("submit", [{}], 20), ("credit", 1, 20), ("report", 1, 20, 99)], is_marked=True)
    started = Shard()
    steps = [("credit", 1, 20), ("submit", [{}], 20), ("report", 1, 20, 99)]
    play(started, steps, is_marked=True)
    assert started.cohorts == 2
    kinds = [[entry.kind for entry in entries[:4]] for entries, _ in started.changes]
    assert kinds == [
        ["job.created", "job.scheduled", "job.started", "job.created"],
        ["job.completed"] * 4,
    ]


def test_a_text_that_holds_a_mark_makes_no_cohort() -> None:
    shard = Shard()
    play(shard, [("credit", 1, 20), ("submit", [{}], 13)], is_marked=True)
    assert shard.cohorts == 0
    [(entries, rows)] = shard.changes
    assert len(rows) == 13
    assert {entry.actor for entry in entries} == {"producer <~job~>", "engine"}
