"""The worker session's core: what it lets through, what it answers, when it ends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.core.session import Session, SessionLimits
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.instant import Moment
from jobengine.domain.job import Definition, Job
from jobengine.messages.session import (
    AskSubmit,
    Attached,
    BearerEnded,
    Beaten,
    Closed,
    CreditSaid,
    DrainSaid,
    EngineStops,
    Grant,
    Granted,
    Greeted,
    HangUp,
    HeartbeatSaid,
    Nacked,
    Opened,
    Peer,
    Received,
    Said,
    SendLeases,
    Settled,
    ShardRestarted,
    StopLease,
    SubmitAnswered,
    SubmitSaid,
    Unreadable,
    Welcomed,
)
from jobengine.messages.wake import Wake
from jobengine.messages.worker_reports import (
    Attach,
    Beat,
    Completed,
    Detach,
    Drain,
    GivenBack,
    LeaseClaim,
    Logged,
    Reports,
    SetCredit,
)

WORK, SUBMIT = "orch:work", "orch:submit"


class Driver:
    """A core and a clock that the test moves."""

    def __init__(self, *scopes: str, **limits: Any) -> None:
        self.core = Session(7, SessionLimits(**limits))
        self.mono = 100.0
        peer = Peer(tenant_id="acme", subject="me", scopes=frozenset(scopes or (WORK, SUBMIT)))
        self.tell(Opened(peer=peer))

    def tell(self, message: Any) -> list[Any]:
        return list(self.core.handle(message, Moment(self.mono, int(self.mono * 1e6))))

    def say(self, *said: Said) -> list[Any]:
        return self.tell(Received(said=said))

    def wait(self, seconds: float) -> list[Any]:
        self.mono += seconds
        return self.tell(Wake())


def hello(**fields: Any) -> Greeted:
    given: dict[str, Any] = {
        "worker_id": "w",
        "task_runner_id": "host",
        "queues": frozenset({"q"}),
        "job_types": frozenset(),
        "capacity": 10,
    }
    return Greeted(**{**given, **fields})


def attached(*scopes: str, limits: dict[str, Any] | None = None, **fields: Any) -> Driver:
    driver = Driver(*scopes, **(limits or {}))
    driver.say(hello(**fields))
    driver.tell(Attached(resumed=[], lost=[]))
    return driver


def done(lease_id: str = "l1", ref: int | None = None) -> Completed:
    return Completed(ref=ref, lease_id=lease_id, token=1, result=b"null")


def granted(*lease_ids: str) -> Granted:
    definition = Definition(job_type="t", queue="q", payload_digest="")
    job = Job(
        job_id="j",
        tenant_id="acme",
        definition=definition,
        definition_json=b"",
        payload=b"",
        created_at=0,
    )
    return Granted(leases=[Grant(job, lease_id, 1, 0) for lease_id in lease_ids])


def kinds(commands: list[Any]) -> list[type]:
    return [type(command) for command in commands]


def test_a_hello_attaches_with_what_it_says_and_the_answer_welcomes() -> None:
    driver = Driver()
    resume = [LeaseClaim("l1", 1), LeaseClaim("l2", 2)]
    (attach,) = driver.say(hello(ref="h", auto_credit=True, resume=resume))
    assert attach == Attach(
        session_id=7,
        tenant_id="acme",
        worker_id="w",
        task_runner_id="host",
        queues=frozenset({"q"}),
        job_types=frozenset(),
        capacity=10,
        auto_credit=True,
        connected_at=100_000_000,
        resume=resume,
    )
    (welcome,) = driver.tell(Attached(resumed=["l1"], lost=["l2"]))
    assert welcome == Welcomed(ref="h", session_id=7, resumed=["l1"], lost=["l2"])


@pytest.mark.parametrize(
    "said",
    [
        done(ref=3),
        CreditSaid(ref=3, slots=1),
        HeartbeatSaid(ref=3),
        DrainSaid(ref=3),
        SubmitSaid(ref=3, jobs=()),
        Nacked(3, Refusal(ErrorCode.INVALID_FIELD, "result: bad")),
    ],
)
def test_nothing_passes_before_hello(said: Said) -> None:
    (error,) = Driver().say(said)
    assert (error.code, error.ref) == (ErrorCode.HELLO_REQUIRED, 3)


def test_a_second_hello_is_an_error_and_changes_nothing() -> None:
    driver = attached()
    (error,) = driver.say(hello(ref=2, worker_id="other"))
    assert (error.code, error.ref) == (ErrorCode.DUPLICATE_HELLO, 2)
    (attach,) = driver.tell(ShardRestarted())
    assert attach.worker_id == "w"


def test_without_a_hello_in_time_the_connection_ends() -> None:
    driver = Driver(hello_s_max=10)
    assert driver.core.wakeup_at == 110.0
    assert driver.wait(9.9) == []
    error, end = driver.wait(0.2)
    assert error.code == ErrorCode.HELLO_REQUIRED
    assert end.code == 1008
    assert driver.core.wakeup_at is None


def test_a_frame_that_is_no_hello_buys_no_time() -> None:
    driver = Driver(hello_s_max=10)
    driver.mono += 9
    driver.say(CreditSaid(slots=1))
    assert driver.core.wakeup_at == 110.0


def test_a_silent_worker_is_detached_so_that_it_is_granted_nothing_more() -> None:
    driver = attached(limits={"silent_s_max": 40})
    driver.mono += 39
    driver.say(HeartbeatSaid())
    assert driver.wait(39) == []
    detach, end = driver.wait(1)
    assert detach == Detach(session_id=7)
    assert end.code == 1008


def test_a_worker_that_is_not_read_from_is_not_called_silent() -> None:
    driver = attached(limits={"silent_s_max": 40, "unsettled_max": 2})
    driver.say(done("l1", 1), done("l2", 2))
    assert driver.core.congested
    assert driver.wait(41) == []
    driver.tell(Settled(acks=[1]))
    assert not driver.core.congested


def test_repeated_errors_within_a_minute_end_the_connection() -> None:
    driver = attached(limits={"strikes_max": 3})
    bad = Unreadable(code="UNKNOWN_OP", message="no")
    assert driver.say(bad) == [bad]
    driver.mono += 61
    driver.say(HeartbeatSaid())
    assert driver.say(bad) == [bad]
    assert driver.say(bad) == [bad]
    error, detach, end = driver.say(bad)
    assert error == bad
    assert detach == Detach(session_id=7)
    assert (end.code, driver.core.ended) == (1008, True)
    assert driver.say(hello()) == []


def test_one_frame_is_one_strike_and_its_answers_are_bounded() -> None:
    driver = attached(limits={"strikes_max": 3, "errors_max": 10})
    bad = Unreadable(code="BAD_JSON", message="no")
    assert len(driver.say(*[bad] * 1000)) == 10
    assert not driver.core.ended


@pytest.mark.parametrize("said", [done(ref=1), CreditSaid(ref=1, slots=3), DrainSaid(ref=1)])
def test_leases_need_the_scope_to_work(said: Said) -> None:
    driver = attached(SUBMIT, capacity=0)
    (settled,) = driver.say(said)
    assert settled.nacks[0].ref == 1
    assert settled.nacks[0].refusal.code == ErrorCode.SCOPE_REQUIRED


def test_a_producer_without_capacity_needs_no_scope_to_work_and_one_with_it_does() -> None:
    assert kinds(Driver(SUBMIT).say(hello(capacity=0))) == [Attach]
    (error,) = Driver(SUBMIT).say(hello())
    assert error.code == ErrorCode.SCOPE_REQUIRED
    (error,) = Driver(SUBMIT).say(hello(capacity=0, resume=[LeaseClaim("l", 1)]))
    assert error.code == ErrorCode.SCOPE_REQUIRED


def test_submits_need_their_scope_and_are_bounded_until_answered() -> None:
    said = SubmitSaid(ref=1, jobs=())
    (settled,) = attached(WORK).say(said)
    assert settled.nacks[0].refusal.code == ErrorCode.SCOPE_REQUIRED
    driver = attached(limits={"submits_max": 1})
    ask, over = driver.say(said, said)
    assert ask == AskSubmit(said=said)
    assert over.nacks[0].refusal.code == ErrorCode.OVERLOADED
    answer = SubmitAnswered(ref=1)
    assert driver.tell(answer) == [answer]
    assert kinds(driver.say(said)) == [AskSubmit]


def test_what_one_frame_reports_is_one_message_in_its_order_before_all_else() -> None:
    driver = attached()
    log = Logged(lease_id="l3", token=1, lines=b"[]")
    reports, credit = driver.say(done("l1"), CreditSaid(slots=2), log, done("l2"))
    assert reports == Reports(session_id=7, reports=[done("l1"), log, done("l2")])
    assert credit == SetCredit(session_id=7, slots=2)


def test_an_end_that_was_refused_adds_no_credit() -> None:
    driver = attached(auto_credit=True)
    driver.say(CreditSaid(slots=2))
    driver.tell(granted("l1"))
    driver.say(done("l1", 1))
    refusal = Refusal(ErrorCode.STORE_UNAVAILABLE, "away")
    driver.tell(Settled(nacks=[Nacked(1, refusal)]))
    driver.tell(ShardRestarted())
    assert driver.tell(Attached(resumed=["l1"], lost=[]))[0].slots == 1


def test_an_end_behind_a_credit_in_one_frame_adds_to_it() -> None:
    driver = attached(auto_credit=True)
    driver.say(CreditSaid(slots=9))
    driver.tell(granted("l1", "l2", "l3"))
    said = (done("l1"), CreditSaid(slots=1), done("l2"), CreditSaid(slots=2), done("l3"))
    before, _, credit, behind = driver.say(*said)
    assert [report.lease_id for report in before.reports] == ["l1", "l2"]
    assert credit == SetCredit(session_id=7, slots=2)
    assert [report.lease_id for report in behind.reports] == ["l3"]
    driver.tell(ShardRestarted())
    assert driver.tell(Attached(resumed=[], lost=[]))[0].slots == 3


def test_a_frame_may_begin_with_hello_and_go_on() -> None:
    assert kinds(Driver().say(hello(), CreditSaid(slots=2), done("l1"))) == [
        Attach,
        Reports,
        SetCredit,
    ]


def test_credit_and_drain_are_answered_when_they_have_a_ref() -> None:
    driver = attached()
    assert driver.say(CreditSaid(ref=1, slots=2))[1] == Settled(acks=(1,))
    assert driver.say(DrainSaid(ref=2)) == [Drain(session_id=7, ref=2)]


def test_what_the_shard_says_is_passed_on() -> None:
    driver = attached()
    grant = granted("l1")
    assert driver.tell(grant) == [SendLeases(leases=grant.leases, task_runner_id="host")]
    for message in (
        StopLease(lease_id="l1", reason="user_cancelled", grace_s=5),
        Settled(acks=[1]),
        Beaten(ref=1, stop=[], lost=["l1"]),
    ):
        assert driver.tell(message) == [message]


def test_a_restarted_shard_is_told_the_leases_credit_and_reports_it_does_not_know() -> None:
    driver = attached()
    driver.say(CreditSaid(slots=5))
    driver.tell(granted("held", "ended", "lost", "nacked"))
    driver.say(done("ended", 1), done("nacked", 2), HeartbeatSaid(ref=3))
    driver.tell(Settled(nacks=[Nacked(2, Refusal(ErrorCode.ARTIFACT_INVALID, "no"))]))
    (attach,) = driver.tell(ShardRestarted())
    assert {claim.lease_id for claim in attach.resume} == {"held", "ended", "lost", "nacked"}
    assert driver.tell(Attached(resumed=["held", "ended", "nacked"], lost=["lost"])) == [
        SetCredit(session_id=7, slots=1),
        Reports(session_id=7, reports=[done("ended", 1)]),
        Beaten(ref=3, stop=(), lost=["lost"]),
    ]
    (attach,) = driver.tell(ShardRestarted())
    assert {claim.lease_id for claim in attach.resume} == {"held", "ended", "nacked"}


def test_auto_credit_is_restored_with_the_reports_since() -> None:
    driver = attached(auto_credit=True)
    driver.say(CreditSaid(slots=5))
    driver.tell(granted("l1", "l2"))
    driver.say(GivenBack(lease_id="l1", token=1))
    driver.tell(ShardRestarted())
    assert driver.tell(Attached(resumed=["l2"], lost=[]))[0].slots == 4


def test_a_draining_worker_drains_at_a_restarted_shard_too() -> None:
    driver = attached()
    driver.say(DrainSaid())
    driver.tell(ShardRestarted())
    assert driver.tell(Attached(resumed=[], lost=[])) == [Drain(session_id=7)]


def test_a_shard_that_restarts_before_it_answered_hello_still_welcomes_once() -> None:
    driver = Driver()
    driver.say(hello())
    assert kinds(driver.tell(ShardRestarted())) == [Attach]
    assert kinds(driver.tell(Attached(resumed=[], lost=[]))) == [Welcomed]
    assert driver.tell(Attached(resumed=[], lost=[])) == []


def test_an_engine_that_stops_lets_the_worker_finish_and_then_hangs_up() -> None:
    driver = attached()
    driver.tell(granted("l1"))
    stop = EngineStops(deadline_at=int((driver.mono + 30) * 1e6))
    assert driver.tell(stop) == [stop, Drain(session_id=7)]
    assert kinds(driver.say(done("l1", 1))) == [Reports]
    acked, detach, end = driver.tell(Settled(acks=[1]))
    assert (acked, detach) == (Settled(acks=[1]), Detach(session_id=7))
    assert end.code == 1001


def test_an_engine_that_stops_does_not_wait_longer_than_it_said() -> None:
    driver = attached()
    driver.tell(granted("l1"))
    driver.tell(EngineStops(deadline_at=int((driver.mono + 30) * 1e6)))
    assert driver.wait(29) == []
    assert kinds(driver.wait(1)) == [Detach, HangUp]


def test_a_closed_connection_detaches_once_and_says_nothing_more() -> None:
    driver = attached()
    assert driver.tell(Closed()) == [Detach(session_id=7)]
    assert driver.tell(Closed()) == []
    assert driver.tell(granted("l1")) == []
    assert Driver().tell(Closed()) == []


_SAID = st.one_of(
    st.builds(done, st.sampled_from(["l1", "l2", "l3"]), st.none() | st.integers(0, 9)),
    st.builds(CreditSaid, slots=st.integers(0, 9)),
    st.builds(HeartbeatSaid, ref=st.integers(0, 9)),
    st.just(hello()),
    st.just(DrainSaid()),
    st.just(Unreadable(code="UNKNOWN_OP", message="no")),
    st.just(SubmitSaid(jobs=())),
)
_FROM_SHARD = st.one_of(
    st.just(granted("l1", "l2")),
    st.just(granted("l3")),
    st.builds(lambda refs: Settled(acks=refs), st.lists(st.none() | st.integers(0, 9))),
    st.builds(lambda ref: Beaten(ref=ref, stop=[], lost=["l2"]), st.integers(0, 9)),
    st.just(Attached(resumed=[], lost=["l3"])),
    st.just(ShardRestarted()),
)
_EVENT = st.one_of(
    st.lists(_SAID, max_size=5).map(lambda said: Received(said=said)),
    _FROM_SHARD,
    st.just(Closed()),
    st.just(EngineStops(deadline_at=200_000_000)),
    st.integers(1, 30),
)


@given(st.lists(_EVENT, max_size=30))
def test_the_shard_hears_attach_first_and_detach_last_whatever_happens(events: list[Any]) -> None:
    driver = Driver()
    greeted = False
    to_shard: list[Any] = []
    welcomes = 0
    for event in events:
        if isinstance(event, int):
            commands = driver.wait(event)
        elif isinstance(event, Received) or greeted or isinstance(event, Closed | EngineStops):
            commands = driver.tell(event)
        else:
            continue
        greeted = greeted or any(type(command) is Attach for command in commands)
        welcomes += kinds(commands).count(Welcomed)
        to_shard += [
            command
            for command in commands
            if isinstance(command, Attach | Beat | Detach | Drain | Reports | SetCredit)
        ]
    assert welcomes <= 1
    if to_shard:
        assert type(to_shard[0]) is Attach
        ends = [n for n, command in enumerate(to_shard) if type(command) is Detach]
        assert ends in ([], [len(to_shard) - 1])
        assert driver.core.ended == bool(ends)


@pytest.mark.parametrize("greeted", [True, False])
def test_the_end_of_its_token_ends_a_session_and_leaves_its_leases(greeted: bool) -> None:
    driver = Driver()
    if greeted:
        driver.say(hello())
        driver.tell(Attached(resumed=(), lost=()))
    commands = driver.tell(BearerEnded(reason="the token was revoked"))
    detached = [Detach(session_id=7)] if greeted else []
    assert commands == [*detached, HangUp(code=4401, reason="the token was revoked")]
    assert driver.core.ended
    assert driver.core.wakeup_at is None
    assert driver.tell(BearerEnded(reason="again")) == []
