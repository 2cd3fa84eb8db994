"""The lease shard's decisions where two things happen at once."""

from typing import Any

import msgspec
import pytest

from jobengine.domain.control import RatePolicy, Throttle
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.failure import Failure
from jobengine.domain.instant import Moment
from jobengine.domain.job import Job, State
from jobengine.domain.rank import rank_of
from jobengine.domain.records import DueJob, LeasedJob, Ranked
from jobengine.messages.lease_shard import (
    Actor,
    CancelJob,
    IdempotencyClaim,
    PrioritizeJob,
    RetryJob,
    SubmitAnswer,
)
from jobengine.messages.rate_bucket import Reserve
from jobengine.messages.session import AttachBriefly, Attached, Beaten, StopLease, Tell
from jobengine.messages.shard_commands import (
    Abandon,
    Commit,
    CommitRefused,
    Committed,
    DueLoaded,
    LedgerAway,
    LedgerBack,
    LoadDelayed,
    LoadExpiring,
    LoadLane,
    LoadSubjects,
    RankedLoaded,
    Recovered,
    SubjectsLoaded,
)
from jobengine.messages.worker_reports import (
    Beat,
    Completed,
    Detach,
    Failed,
    GivenBack,
    LeaseClaim,
    Progressed,
    SetCredit,
)
from tests.core.shard_driver import (
    EPOCH_AT,
    LANE,
    UNREAD,
    ShardDriver,
    attach,
    job_id,
    new_job,
    read_failed,
    stored_job,
)

PERIOD_US = 60_000_000
BROKEN = Failure(class_="Broken", message="no", retryable=False)


def nothing_due(shard: ShardDriver) -> None:
    """The store holds no delayed and no expiring job."""
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))


def ranked(number: int, **fields: Any) -> Ranked:
    job = stored_job(number, **fields)
    return Ranked(rank_of(job.due_at, 5, PERIOD_US), job)


def completed(grant: Any, ref: str = "c", **fields: Any) -> Completed:
    return Completed(ref=ref, lease_id=grant.lease_id, token=grant.token, result=b"null", **fields)


def operation(kind: Any, number: int, *, tenant_id: str = "acme", ask_id: int = 900, **fields: Any):
    return kind(
        ask_id=ask_id, tenant_id=tenant_id, job_id=job_id(number), actor=Actor("op"), **fields
    )


def heard(shard: ShardDriver) -> Any:
    """What a session was told last."""
    return shard.last(Tell).message


def wants(shard: ShardDriver) -> LoadSubjects:
    return shard.last(LoadSubjects)


# ---- operations beside grants


def set_going(shard: ShardDriver) -> None:
    nothing_due(shard)
    shard.submit(new_job(1))
    shard.settle()


def test_a_job_whose_turn_came_during_an_operation_that_could_not_read_is_granted_after_it() -> (
    None
):
    shard = ShardDriver()
    set_going(shard)
    shard.send(operation(RetryJob, 1))
    shard.attach()
    assert shard.grants() == []
    shard.send(read_failed(wants(shard)))
    shard.settle()
    assert [grant.token for grant in shard.grants()] == [1]


def test_an_operation_of_another_tenant_on_a_job_finds_nothing_and_does_not_hold_it_up() -> None:
    shard = ShardDriver()
    set_going(shard)
    shard.send(operation(CancelJob, 1, tenant_id="other"))
    assert wants(shard).tenant_id == "other"
    shard.attach()
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp))
    shard.settle()
    assert shard.answers()[-1].code is ErrorCode.NOT_FOUND
    assert len(shard.grants()) == 1


def test_a_delayed_job_that_falls_due_during_a_failed_operation_is_granted_after_it() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.attach()
    shard.submit(new_job(1, not_before=shard.now.at + 5_000_000))
    shard.settle()
    shard.send(operation(RetryJob, 1))
    shard.wait(6)
    shard.send(read_failed(wants(shard)))
    shard.settle()
    assert len(shard.grants()) == 1


def test_a_job_read_into_its_lane_during_a_failed_operation_is_granted_after_it() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    shard.send(operation(RetryJob, 1))
    subjects = wants(shard)
    shard.attach()
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=[ranked(1)]))
    assert shard.grants() == []
    shard.send(read_failed(subjects))
    shard.settle()
    assert len(shard.grants()) == 1


def test_a_cancel_of_a_waiting_job_that_is_committed_before_an_older_read_arrives_holds() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    shard.attach()
    read = shard.last(LoadLane)
    shard.send(operation(CancelJob, 1))
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(1): stored_job(1)}))
    shard.settle()
    shard.send(RankedLoaded(stamp=read.stamp, rows=[ranked(1)]))
    shard.settle()
    assert shard.grants() == []


def test_a_new_priority_moves_a_job_in_its_lane_and_in_the_store() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.submit(new_job(1), new_job(2), new_job(3))
    shard.settle()
    shard.send(operation(PrioritizeJob, 3, priority=9))
    job = stored_job(3, due_at=shard.now.at)
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(3): job}))
    (row,) = shard.last(Commit).changes.rows
    assert row.rank == rank_of(shard.now.at, 9, PERIOD_US)
    assert (row.from_state, row.state) == ("scheduled", "scheduled")
    assert b'"priority":9' in bytes(row.definition)
    # Nobody gets it under either rank while its commit is on its way.
    shard.attach(slots=1)
    shard.settle()
    shard.send(SetCredit(session_id=1, slots=2))
    shard.settle()
    granted = [grant.job.job_id for grant in shard.grants()]
    assert granted == [job_id(1), job_id(3), job_id(2)]


def test_a_priority_that_is_committed_before_an_older_read_arrives_holds() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    shard.attach(slots=0)
    shard.send(SetCredit(session_id=1, slots=1))
    read = shard.last(LoadLane)
    shard.send(operation(PrioritizeJob, 2, priority=9))
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(2): stored_job(2)}))
    shard.settle()
    shard.send(RankedLoaded(stamp=read.stamp, rows=[ranked(1), ranked(2)]))
    shard.settle()
    (grant,) = shard.grants()
    assert (grant.job.job_id, grant.job.definition.priority) == (job_id(2), 9)


def test_a_held_job_that_falls_due_to_expire_during_a_refused_operation_expires_after_it() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    at = shard.now.at + 5_000_000
    shard.submit(new_job(1, hold=True, expires_at=at))
    shard.settle()
    shard.send(operation(RetryJob, 1))
    subjects = wants(shard)
    shard.wait(6)
    held = stored_job(1, State.PENDING, hold=True, expires_at=at)
    shard.send(SubjectsLoaded(stamp=subjects.stamp, jobs={held.job_id: held}))
    assert wants(shard).stamp != subjects.stamp
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={held.job_id: held}))
    assert shard.last(Commit).changes.rows[0].reason == "expired"


def test_a_job_already_granted_again_is_not_placed_when_its_creation_is_confirmed_late() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.submit(new_job(1))
    shard.send(operation(RetryJob, 1))
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(1): stored_job(1)}))
    shard.attach()
    shard.settle()
    shard.send(SetCredit(session_id=1, slots=10))
    shard.settle()
    assert [grant.token for grant in shard.grants()] == [1]


def test_a_read_that_began_before_a_grant_committed_does_not_bring_the_job_back() -> None:
    shard = ShardDriver(lanes=[LANE])
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    delayed = shard.last(LoadDelayed)
    shard.attach(slots=1)
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=[ranked(1)]))
    shard.settle()
    [grant] = shard.grants()
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=()))
    shard.report(GivenBack(ref="r", lease_id=grant.lease_id, token=1, delay_us=60_000_000))
    shard.settle()
    shard.send(SetCredit(session_id=1, slots=5))
    shard.send(RankedLoaded(stamp=delayed.stamp, rows=[ranked(1)]))
    shard.settle()
    assert len(shard.grants()) == 1
    shard.wait(61)
    shard.settle()
    assert [grant.token for grant in shard.grants()] == [1, 2]


def limit_rate(shard: ShardDriver) -> None:
    rate = RatePolicy(burst=10, per_minute_micro=60_000_000)
    shard.control("throttle", "tenant", Throttle(rate=rate))


def test_a_job_that_waits_for_tokens_when_its_creation_is_confirmed_is_granted_once() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    limit_rate(shard)
    shard.attach(slots=0)
    shard.submit(new_job(1))
    shard.buckets_answer = False
    shard.send(SetCredit(session_id=1, slots=5))
    rows = [ranked(1, due_at=shard.now.at)]
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=rows))
    shard.settle()
    assert [len(asked.requests) for asked in shard.all(Reserve)] == [1]
    shard.answer_buckets()
    shard.settle()
    assert [grant.job.job_id for grant in shard.grants()] == [job_id(1)]


def test_a_delayed_job_that_a_read_of_its_lane_tells_of_first_is_granted_once() -> None:
    shard = ShardDriver(lanes=[LANE])
    shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=()))
    limit_rate(shard)
    rows = [ranked(1, due_at=shard.now.at + 1_000)]
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=rows))
    shard.attach(slots=5)
    shard.buckets_answer = False
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=rows))
    shard.wait(1)
    assert [len(asked.requests) for asked in shard.all(Reserve)] == [1]
    shard.answer_buckets()
    shard.settle()
    assert [grant.job.job_id for grant in shard.grants()] == [job_id(1)]


def test_a_wall_clock_that_is_set_back_hides_no_job_and_turns_no_record_back() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    shard.submit(new_job(1))
    created_at = shard.open_commits()[0].changes.entries[0].at
    shard.settle()
    hour_before = Moment(shard.mono, shard.now.at - 3600_000_000)
    shard.commands += shard.core.handle(attach(1), hour_before)
    shard.commands += shard.core.handle(SetCredit(session_id=1, slots=5), hour_before)
    read = shard.last(LoadLane)
    assert read.now_at >= created_at
    rows = RankedLoaded(stamp=read.stamp, rows=[ranked(1, due_at=created_at)])
    shard.commands += shard.core.handle(rows, hour_before)
    [entry] = shard.last(Commit).changes.entries
    assert (entry.kind, entry.at >= created_at) == ("job.started", True)


def test_a_job_that_was_ready_under_a_clock_set_back_since_is_not_held_for_a_delayed_one() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    row = ranked(1, due_at=shard.now.at + 60_000_000)
    row.job.scheduled_at = row.job.due_at
    shard.send(operation(RetryJob, 1))
    subjects = wants(shard)
    shard.attach()
    shard.send(RankedLoaded(stamp=shard.last(LoadLane).stamp, rows=[row]))
    shard.send(read_failed(subjects))
    shard.settle()
    [grant] = shard.grants()
    shard.report(Completed(lease_id=grant.lease_id, token=1, result=b"{}"))
    shard.settle()
    shard.wait(61)
    assert shard.open_commits() == []


def test_a_ready_job_that_is_prioritized_under_a_clock_set_back_stays_ready() -> None:
    shard = ShardDriver(lanes=[LANE])
    nothing_due(shard)
    shard.send(operation(PrioritizeJob, 1, priority=0))
    job = stored_job(1, due_at=shard.now.at + 60_000_000)
    job.scheduled_at = job.due_at
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(1): job}))
    (row,) = shard.last(Commit).changes.rows
    assert not row.delayed


def test_slots_that_a_large_frame_of_reports_frees_are_all_filled_whatever_its_slices() -> None:
    shard = ShardDriver(slice_jobs=1)
    nothing_due(shard)
    shard.attach(slots=0, capacity=4)
    shard.submit(*(new_job(number) for number in range(1, 9)))
    shard.settle()
    shard.send(SetCredit(session_id=1, slots=8))
    shard.settle()
    held = [grant.lease_id for grant in shard.grants()]
    assert len(held) == 4
    done = [
        Completed(ref=place, lease_id=lease, token=1, result=b"{}")
        for place, lease in enumerate(held)
    ]
    shard.report(*done)
    shard.settle()
    assert len(shard.grants()) == 8


# ---- windows that run low


def test_overdue_delayed_jobs_are_read_on_and_on_until_none_is_left() -> None:
    shard = ShardDriver(due_jobs_max=16)
    shard.attach(slots=100)
    numbers = iter(range(1, 21))
    for _ in range(4):
        read = shard.last(LoadDelayed)
        rows = [ranked(number) for _, number in zip(range(8), numbers, strict=False)]
        shard.send(RankedLoaded(stamp=read.stamp, rows=rows))
        shard.settle()
        if len(rows) < 8:
            break
        assert shard.last(LoadDelayed).stamp != read.stamp
    assert len(shard.grants()) == 20


def test_expiries_are_read_on_when_those_in_memory_have_all_been_granted() -> None:
    shard = ShardDriver(due_jobs_max=16)
    shard.send(RankedLoaded(stamp=shard.last(LoadDelayed).stamp, rows=()))
    for start in (0, 8):
        rows = [DueJob(EPOCH_AT * 2, "acme", job_id(start + number)) for number in range(8)]
        shard.send(DueLoaded(stamp=shard.last(LoadExpiring).stamp, rows=rows))
    reads = len(shard.all(LoadExpiring))
    for number in range(16):
        shard.send(operation(CancelJob, number, ask_id=number))
        job = stored_job(number, expires_at=EPOCH_AT * 2)
        shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job.job_id: job}))
        shard.settle()
    assert len(shard.all(LoadExpiring)) > reads


def test_expiries_that_cannot_be_read_are_tried_again_after_a_pause_only() -> None:
    shard = ShardDriver(read_retry_s=1.0)
    nothing_due(shard)
    shard.submit(new_job(1, expires_at=shard.now.at + 1_000_000))
    shard.settle()
    for tries in range(1, 6):
        shard.wait(1.1)
        assert len(shard.all(LoadSubjects)) == tries
        shard.send(read_failed(wants(shard)))
        assert len(shard.all(LoadSubjects)) == tries


def test_a_job_past_its_expiry_is_not_granted_while_its_expiry_cannot_be_read() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.submit(new_job(1, expires_at=shard.now.at + 1_000_000))
    shard.settle()
    shard.wait(2)
    shard.send(read_failed(wants(shard)))
    shard.attach()
    shard.settle()
    assert shard.grants() == []
    shard.wait(2)
    job = stored_job(1, expires_at=EPOCH_AT)
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job.job_id: job}))
    shard.settle()
    assert shard.last(Commit).changes.rows[0].reason == "expired"


# ---- tenants


def lease_of(shard: ShardDriver) -> Any:
    nothing_due(shard)
    shard.attach(1)
    shard.attach(2, tenant_id="other")
    shard.submit(new_job(1))
    shard.settle()
    [grant] = shard.grants(1)
    return grant


@pytest.mark.parametrize("follow_ups", [(), (new_job(2, unique_key="k"),)])
def test_a_session_cannot_end_another_tenants_lease(follow_ups) -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    commits = len(shard.all(Commit))
    shard.report(completed(grant, follow_ups=follow_ups), session_id=2)
    assert wants(shard).tenant_id == "other"
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp))
    shard.settle()
    assert len(shard.all(Commit)) == commits
    assert [nack.refusal.code for nack in shard.settled(2)[-1].nacks] == ["LEASE_LOST"]
    shard.report(completed(grant))
    shard.settle()
    assert shard.settled(1)[-1].acks == ["c"]


def test_a_session_cannot_renew_or_resume_another_tenants_lease() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    claim = LeaseClaim(grant.lease_id, grant.token)
    shard.send(Beat(session_id=2, leases=[claim]))
    assert heard(shard).lost == [grant.lease_id]
    shard.send(attach(3, tenant_id="other", resume=[claim]))
    [attached] = [
        tell.message
        for tell in shard.all(Tell)
        if tell.session_id == 3 and isinstance(tell.message, Attached)
    ]
    assert (attached.resumed, attached.lost) == ([], [grant.lease_id])


# ---- keys


def test_a_report_that_waited_for_a_key_goes_on_when_the_submit_creates_nothing() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    shard.submit(new_job(5, unique_key="k"))
    read = wants(shard)
    shard.report(completed(grant, follow_ups=(new_job(6, unique_key="k"),)))
    holder = stored_job(9, unique_key="k")
    shard.send(SubjectsLoaded(stamp=read.stamp, holders={"k": holder}))
    assert shard.answers()[-1].outcomes[0].outcome == "existing"
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, holders={"k": holder}))
    shard.settle()
    assert shard.settled(1)[-1].acks == ["c"]


def test_keys_and_claims_are_free_again_after_a_failed_read() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    claim = IdempotencyClaim("key", "POST /jobs", "digest")
    shard.submit(new_job(1, unique_key="k"), claim=claim)
    shard.send(read_failed(wants(shard)))
    assert shard.answers()[-1] == UNREAD
    shard.submit(new_job(1, unique_key="k"), claim=claim)
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp))
    shard.settle()
    assert isinstance(shard.answers()[-1], SubmitAnswer)


def test_of_two_submits_under_one_key_the_second_is_given_the_job_of_the_first() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.submit(new_job(1, unique_key="k"))
    shard.submit(new_job(2, unique_key="k"))
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp))
    shard.settle()
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, holders={"k": stored_job(1)}))
    assert [answer.outcomes[0].job_id for answer in shard.answers()] == [job_id(1), job_id(1)]


def failed_job(number: int) -> Job:
    return stored_job(number, State.FAILED, attempt=1, unique_key="k")


def read(shard: ShardDriver, *jobs: Job, holder: Job | None = None) -> None:
    """Answer what was asked last."""
    found = {job.job_id: job for job in jobs}
    holders = {} if holder is None else {"k": holder}
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs=found, holders=holders))


def test_a_retry_waits_for_a_submit_under_its_unique_key_and_finds_it_taken() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.submit(new_job(2, unique_key="k"))
    read(shard)
    shard.send(operation(RetryJob, 1))
    read(shard, failed_job(1))
    assert len(shard.open_commits()) == 1
    shard.settle()
    read(shard, failed_job(1))
    read(shard, failed_job(1), holder=stored_job(2, unique_key="k"))
    assert shard.answers()[-1].code is ErrorCode.UNIQUE_KEY_TAKEN
    assert shard.open_commits() == []


def test_of_two_retries_under_one_unique_key_the_second_finds_it_taken() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.send(operation(RetryJob, 1))
    read(shard, failed_job(1))
    first = wants(shard)
    shard.send(operation(RetryJob, 2))
    read(shard, failed_job(2))
    shard.send(SubjectsLoaded(stamp=first.stamp, jobs={job_id(1): failed_job(1)}))
    [commit] = shard.open_commits()
    assert [row.job_id for row in commit.changes.unique] == [job_id(1)]
    shard.settle()
    read(shard, failed_job(2))
    read(shard, failed_job(2), holder=stored_job(1, unique_key="k"))
    assert shard.answers()[-1].code is ErrorCode.UNIQUE_KEY_TAKEN
    shard.submit(new_job(3, unique_key="k"))
    read(shard, holder=stored_job(1, unique_key="k"))
    assert shard.answers()[-1].outcomes[0].outcome == "existing"


def test_a_cancel_that_waited_for_a_report_goes_on_when_that_could_not_read() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    shard.report(completed(grant, follow_ups=(new_job(6, unique_key="k"),)))
    keys = wants(shard)
    shard.send(operation(CancelJob, 1))
    shard.send(read_failed(keys))
    read(shard, grant.job)
    shard.settle()
    assert isinstance(heard(shard), StopLease)


@pytest.mark.parametrize(
    "end",
    [
        Failed(ref="e", lease_id="", token=1, error=BROKEN),
        GivenBack(ref="e", lease_id="", token=1, delay_us=0),
        None,
    ],
    ids=["failed", "given back", "expired"],
)
def test_the_last_progress_of_an_attempt_is_stored_with_its_end(end: Any) -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    for note in (b'{"done":1}', b'{"done":2}'):
        progressed = Progressed(ref="p", lease_id=grant.lease_id, token=1, note=note)
        shard.report(progressed)
        shard.settle()
    if end is None:
        shard.wait(120)
    else:
        shard.report(msgspec.structs.replace(end, lease_id=grant.lease_id))
    (row,) = shard.last(Commit).changes.rows
    assert (row.from_state, bytes(row.progress)) == ("running", b'{"done":2}')


# ---- sessions that come and go


def test_a_session_that_left_while_its_follow_ups_were_read_is_granted_nothing() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.attach(1, auto_credit=True, capacity=2, slots=1)
    shard.submit(new_job(1), new_job(2))
    shard.settle()
    [grant] = shard.grants()
    shard.report(completed(grant, follow_ups=(new_job(3, unique_key="k"),)))
    shard.send(Detach(session_id=1))
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp))
    shard.settle()
    assert shard.grants() == [grant]
    assert shard.core.leases == 0
    shard.attach(2)
    shard.settle()
    assert [grant.token for grant in shard.grants(2)] == [1, 1]


def test_attaching_twice_under_one_number_leaves_one_session() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.attach(1, capacity=2, slots=2)
    shard.attach(1, capacity=2, slots=2)
    shard.submit(*(new_job(number) for number in range(5)))
    shard.settle()
    assert len(shard.grants()) == 2
    commits = len(shard.all(Commit))
    for _ in range(10):
        shard.wait(20)
        shard.send(Beat(session_id=1))
    assert shard.core.leases == 2
    assert len(shard.all(Commit)) == commits


def test_a_brief_session_does_not_give_back_what_its_worker_holds() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    for session_id in (1, 2):
        shard.send(attach(session_id, kind=AttachBriefly, worker_id="w"))
        shard.send(SetCredit(session_id=session_id, slots=1))
        shard.submit(new_job(session_id))
        shard.settle()
        shard.send(Detach(session_id=session_id))
    assert [grant.token for grant in shard.grants()] == [1, 1]
    assert shard.core.leases == 2


def test_progress_in_a_heartbeat_that_names_its_lease_is_kept_whoever_sends_it() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    shard.send(attach(9, kind=AttachBriefly, capacity=0))
    claim = LeaseClaim(grant.lease_id, grant.token)
    shard.send(Beat(session_id=9, leases=[claim], progress={grant.lease_id: b'{"percent":5}'}))
    assert shard.last(Commit).changes.entries[0].kind == "job.progressed"


# ---- cancels and the clock


def running(shard: ShardDriver) -> Any:
    grant = lease_of(shard)
    shard.send(operation(CancelJob, 1))
    return grant


def test_a_heartbeat_names_no_lease_to_stop_before_the_cancel_is_committed() -> None:
    shard = ShardDriver()
    grant = running(shard)
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job_id(1): grant.job}))
    shard.send(Beat(session_id=1))
    assert heard(shard).stop == []
    shard.settle()
    shard.send(Beat(session_id=1))
    assert heard(shard).stop == [grant.lease_id]


def test_a_cancel_from_before_a_restart_ends_the_lease_of_a_worker_that_ignores_it() -> None:
    job = stored_job(1, State.RUNNING, attempt=1, cancel_requested_at=EPOCH_AT)
    shard = ShardDriver(leased=[LeasedJob(job, "w1", "runner", EPOCH_AT)], cancel_grace_s=30)
    nothing_due(shard)
    shard.send(attach(1, resume=[LeaseClaim(f"{job.job_id}.1", 1)]))
    assert any(isinstance(tell.message, StopLease) for tell in shard.all(Tell))
    for _ in range(7):
        shard.wait(5)
        shard.send(Beat(session_id=1))
    shard.settle()
    assert shard.last(Commit).changes.rows[0].state == "cancelled"


def test_no_lease_grows_older_while_the_ledger_is_away() -> None:
    shard = ShardDriver()
    lease_of(shard)
    shard.wait(20)
    for _ in range(3):
        shard.send(LedgerAway(life=1))
        shard.wait(500)
        shard.send(LedgerAway(life=1))
        shard.send(LedgerBack(life=1))
        shard.send(LedgerBack(life=1))
    shard.wait(9.9)
    assert shard.core.leases == 1
    commits = len(shard.all(Commit))
    shard.wait(0.2)
    assert len(shard.all(Commit)) == commits + 1


def test_only_the_ledger_that_commits_for_a_shard_stops_its_lease_clock() -> None:
    shard = ShardDriver()
    shard.send(Recovered(leased=(), lanes=(), ledger_life=2))
    lease_of(shard)
    commits = len(shard.all(Commit))
    shard.send(LedgerAway(life=1))
    shard.wait(29)
    shard.send(LedgerAway(life=2))
    shard.send(LedgerBack(life=1))
    shard.wait(500)
    assert len(shard.all(Commit)) == commits
    shard.send(LedgerBack(life=2))
    shard.wait(1.1)
    assert len(shard.all(Commit)) == commits + 1


def test_a_lease_is_looked_at_no_more_often_for_all_its_heartbeats_and_progress() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    for number in range(3000):
        shard.wait(1)
        note = b'{"percent":%d}' % (number % 100)
        shard.send(Beat(session_id=1, progress={grant.lease_id: note}))
        shard.settle()
        shard.commands.clear()
    assert len(shard.core._state.leases._due) <= 4


def test_leases_that_have_ended_leave_nothing_behind() -> None:
    shard = ShardDriver()
    nothing_due(shard)
    shard.attach(slots=0, auto_credit=True)
    for number in range(3000):
        shard.send(SetCredit(session_id=1, slots=1))
        shard.submit(new_job(number, lease_us=3600_000_000))
        shard.settle()
        shard.report(completed(shard.grants()[-1]))
        shard.settle()
        shard.commands.clear()
    state = shard.core._state
    assert shard.core.leases == 0
    assert len(state.leases._due) <= 1100
    for left in (state.lanes, state.pending, state.operating, state.deferred, state.set_aside):
        assert not left
    assert not shard.core._submitter.claims._keys_held
    assert not shard.core._submitter.claims._waiting


def test_reports_made_while_the_lease_settles_take_effect_in_order_afterwards() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    failed = Failed(
        ref="f",
        lease_id=grant.lease_id,
        token=1,
        error=Failure(class_="E", message="m", retryable=False),
    )
    shard.send(Beat(session_id=1, progress={grant.lease_id: b'{"percent":1}'}))
    shard.report(completed(grant), failed)
    shard.settle()
    assert shard.settled(1)[-1].acks == ["c"]
    job = stored_job(1, State.COMPLETED, attempt=1)
    shard.send(SubjectsLoaded(stamp=wants(shard).stamp, jobs={job.job_id: job}))
    shard.settle()
    assert [nack.ref for nack in shard.settled(1)[-1].nacks] == ["f"]


def test_a_change_the_store_refuses_is_nacked_once_and_the_shard_starts_anew() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    shard.report(completed(grant))
    shard.submit(new_job(7))
    first, second = shard.open_commits()
    commands = shard.send(CommitRefused(stamp=first.stamp, why="too long"))
    assert [type(command) for command in commands] == [Tell, Abandon]
    [nack] = commands[0].message.nacks
    assert (nack.ref, nack.refusal.code) == ("c", ErrorCode.INVALID_FIELD)
    [answer, abandon] = shard.send(CommitRefused(stamp=second.stamp, why="too long"))
    assert isinstance(answer.value, Refusal)
    assert isinstance(abandon, Abandon)


def test_what_is_settled_twice_or_is_of_an_earlier_life_is_dropped() -> None:
    shard = ShardDriver()
    grant = lease_of(shard)
    before = len(shard.commands)
    for stamp in (1, shard.all(Commit)[0].stamp):
        shard.send(Committed(stamp=stamp, first_seq=1))
        shard.send(CommitRefused(stamp=stamp, why=""))
        shard.send(RankedLoaded(stamp=stamp, rows=[ranked(1)]))
        shard.send(SubjectsLoaded(stamp=stamp, jobs={job_id(1): grant.job}))
    assert len(shard.commands) == before
    assert isinstance(shard.all(Tell)[0].message, Attached)
    shard.send(Beat(session_id=1, ref=4))
    assert shard.last(Tell).message == Beaten(ref=4, stop=[], lost=[])
