"""A tenant with many lanes: what a step looks at does not grow with them, and turns stay as they
are."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobengine.core.fair_queue import BACKGROUND, NORMAL, FairRounds, Flow, Head
from jobengine.core.lease_shard.fair_lanes import FairLanes
from jobengine.core.lease_shard.lane_changes import LaneChanges
from jobengine.core.lease_shard.limits import ShardLimits
from jobengine.core.lease_shard.ready_lanes import ReadyLanes
from jobengine.core.lease_shard.sessions import Session
from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.control import Quota, Weight
from jobengine.domain.instant import Moment
from jobengine.domain.job import Job
from jobengine.domain.records import Lane
from jobengine.messages.admission import Allot
from jobengine.messages.governor import Govern
from jobengine.messages.session import Grant
from jobengine.messages.worker_reports import Completed, Detach, SetCredit
from tests.core.shard_driver import EPOCH_AT, ShardDriver, new_job, stored_job

LANES = 200
SECOND = 1_000_000


@contextmanager
def counted(owner: Any, name: str) -> Iterator[list[int]]:
    """How often a method is called meanwhile."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def counting(*args: Any, **given: Any) -> Any:
        calls[0] += 1
        return original(*args, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counting)
        yield calls


def loaded(by: str, *, jobs: int = 2, **limits: Any) -> ShardDriver:
    """A shard with so many jobs in each of many lanes, and a worker that takes of all."""
    driver = ShardDriver(**limits)
    add_jobs(driver, by, jobs)
    driver.attach(
        slots=0,
        queues=frozenset() if by == "queue" else frozenset({"scan"}),
        job_types=frozenset({"scan"}) if by == "queue" else frozenset(),
        capacity=1_000,
        auto_credit=True,
    )
    return driver


def add_jobs(driver: ShardDriver, by: str, jobs: int) -> None:
    for each in range(jobs):
        names = [{by: f"n-{number}"} for number in range(LANES)]
        driver.submit(*(new_job(each * LANES + i, **name) for i, name in enumerate(names)))
        driver.settle()


def complete(driver: ShardDriver, grant: Grant, session_id: int = 1) -> None:
    done = Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null")
    driver.report(done, session_id=session_id)
    driver.settle()


@pytest.mark.parametrize("by", ["queue", "job_type"])
def test_each_lane_is_looked_at_once_and_then_only_those_that_jobs_are_taken_from(by: str) -> None:
    driver = loaded(by)
    with counted(ReadyLanes, "head") as looks:
        driver.send(SetCredit(session_id=1, slots=50))
        driver.settle()
        assert len(driver.grants()) == 50
        assert looks[0] <= LANES + 3 * 50
    complete(driver, driver.grants()[0])
    for number in range(1, 10):
        with counted(ReadyLanes, "head") as looks:
            complete(driver, driver.grants()[number])
        assert looks[0] <= 6
    assert len(driver.grants()) == 60


def test_an_end_under_a_full_quota_lets_one_lane_out() -> None:
    driver = loaded("job_type")
    driver.control("quota", "tenant", Quota(max_active=5))
    driver.send(SetCredit(session_id=1, slots=50))
    driver.settle()
    assert len(driver.grants()) == 5
    for number in range(20):
        with counted(ReadyLanes, "head") as looks:
            complete(driver, driver.grants()[number])
        assert len(driver.grants()) == 6 + number
        assert looks[0] <= 8


def test_slots_that_are_allotted_let_out_as_many_lanes() -> None:
    driver = loaded("job_type")
    driver.send(Govern(shard=0, stamp=1, governed=True))
    driver.send(SetCredit(session_id=1, slots=50))
    for slots in (1, 3, 4):
        with counted(ReadyLanes, "head") as looks:
            driver.send(Allot(tenant_id="acme", slots=slots, stamp=slots))
            driver.settle()
        assert len(driver.grants()) == slots
        assert looks[0] <= 20


def test_at_a_full_quota_job_types_share_by_weight_and_priority_goes_first() -> None:
    driver = ShardDriver()
    driver.control("weight", "a", Weight(key="a", weight=3))
    driver.control("quota", "tenant", Quota(max_active=1))
    driver.attach(slots=0, job_types=frozenset({"a", "b"}), auto_credit=True)
    driver.send(SetCredit(session_id=1, slots=5))
    for number in range(200):
        queue = f"q-{number // 2 % 10}"
        driver.submit(new_job(number, job_type="ab"[number % 2], queue=queue, priority=1))
    driver.settle()
    driver.submit(new_job(999, job_type="b", queue="q-7", priority=9))
    driver.settle()
    for number in range(80):
        complete(driver, driver.grants()[number])
    started = [grant.job for grant in driver.grants()]
    shares = Counter(job.definition.job_type for job in started)
    assert abs(shares["a"] - 3 * shares["b"]) <= 6
    second = [job.job_id for job in started if job.definition.job_type == "b"][:2]
    assert new_job(999).job_id in second


def test_a_place_that_a_lane_without_a_worker_cannot_use_goes_to_the_next() -> None:
    driver = ShardDriver()
    driver.control("quota", "tenant", Quota(max_active=1))
    driver.attach(1, slots=2, job_types=frozenset({"a"}), auto_credit=True)
    driver.attach(2, slots=1, job_types=frozenset({"b", "c"}))
    driver.submit(*(new_job(number, job_type="aaabc"[number % 5]) for number in range(10)))
    driver.settle()
    waiting_room = driver.core._state.waiting_room
    assert len(waiting_room.lanes_under(("acme", "tenant", ""))) == 3
    driver.send(Detach(session_id=2))
    for number in range(5):
        complete(driver, driver.grants()[number])
        assert len(driver.grants()) == number + 2
    driver.attach(2, slots=1, job_types=frozenset({"b", "c"}))
    complete(driver, driver.grants()[5])
    assert len(driver.grants(2)) == 1


def test_a_place_goes_on_from_a_lane_that_waits_for_something_else_by_now() -> None:
    driver = ShardDriver()
    driver.control("quota", "tenant", Quota(max_active=2))
    driver.control("quota", "a", Quota(scope="job_type", key="a", max_active=1))
    driver.attach(slots=0, queues=frozenset({"scan"}), job_types=frozenset(), auto_credit=True)
    driver.send(SetCredit(session_id=1, slots=9))
    for number in range(12):
        driver.submit(new_job(number, job_type="abc"[number % 3]))
        driver.settle()
    for number in range(12):
        complete(driver, driver.grants()[number])
        left = 12 - number - 1
        assert len(driver.grants()) - number - 1 >= min(1, left)
    assert len(driver.grants()) == 12


class Reference:
    """Looks at all lanes before each job that is taken."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._rounds = FairRounds()

    def serve(self, session: Session, jobs: int) -> list[str]:
        state, taken = self._state, list[str]()
        left = {
            lane: sorted((state.key_of(job), job) for _, job, _ in window._items.values())
            for lane, window in state.lanes.items()
            if session.takes(lane)
        }
        firsts = {flow: first for flow in self._flows(left) if (first := self._first(left, flow))}
        self._rounds.begin({flow: self._head(left[lane][0][1]) for flow, lane in firsts.items()})
        while len(taken) < jobs and (flow := self._rounds.select()) is not None:
            taken.append(left[firsts[flow]].pop(0)[1].job_id)
            lane = self._first(left, flow)
            if len(taken) == jobs:
                break
            if lane is None:
                self._rounds.idle(flow)
            else:
                firsts[flow] = lane
                self._rounds.offer(flow, *self._head(left[lane][0][1]))
        return taken

    def _flows(self, left: dict[Lane, Any]) -> dict[Flow, None]:
        return {(lane.source_id, lane.job_type): None for lane in left}

    def _first(self, left: dict[Lane, Any], flow: Flow) -> Lane | None:
        lanes = [lane for lane in left if (lane.source_id, lane.job_type) == flow and left[lane]]
        return min(lanes, key=lambda lane: left[lane][0][0], default=None)

    def _head(self, job: Job) -> Head:
        aged = self._state.now.at - job.due_at >= 9 * self._state.limits.ageing_us
        normal = job.definition.priority > 0 or aged
        return Head(job.definition.cost, NORMAL if normal else BACKGROUND)


def served(state: ShardState, fair: FairLanes, session: Session, jobs: int) -> list[str]:
    """The ids of the jobs that a session is given."""
    taken: list[str] = []

    def take(lane: Lane, job: Job, *_: object) -> bool:
        assert state.lanes[lane].pop() is job
        taken.append(job.job_id)
        return len(taken) < jobs

    fair.serve(session, take)
    return taken


@pytest.mark.parametrize("seed", range(20))
def test_turns_are_those_of_looking_at_all_lanes_each_time(seed: int) -> None:
    chance = random.Random(seed)
    state = ShardState(0, ShardLimits(ageing_us=SECOND), 1)
    state.take_time(Moment(0.0, EPOCH_AT))
    fair, reference = FairLanes(state, ReadyLanes(state)), Reference(state)
    sessions = [
        Session(1, "acme", "w", "w", frozenset(queues), frozenset(types), 99, False, 0.0)
        for queues, types in (("", ()), ("", ("k-0", "k-1")), ("xy", ()))
    ]
    waiting: dict[str, Job] = {}

    def add(number: int, kind: int, queue: str) -> None:
        job = stored_job(
            number,
            due_at=state.now.at,
            job_type=f"k-{kind}",
            queue=queue,
            cost=chance.choice([1, 1, 1, 3]),
            priority=chance.choice([0, 5, 5, 9]),
        )
        state.place(job)
        waiting[job.job_id] = job

    for number in range(400):
        add(number, number % 4, "xyz"[number // 4 % 3])
    for step in range(60):
        for _ in range(chance.randrange(4)):
            add(400 + len(waiting) + 1_000 * step, chance.randrange(4), chance.choice("xyz"))
        for job_id in chance.sample(sorted(waiting), 1):
            state.displace(waiting.pop(job_id))
        state.take_time(Moment(0.0, EPOCH_AT + step * SECOND))
        session, jobs = chance.choice(sessions), chance.randrange(1, 6)
        expected = reference.serve(session, jobs)
        assert served(state, fair, session, jobs) == expected
        for job_id in expected:
            del waiting[job_id]


def test_of_lanes_that_come_and_go_no_more_are_remembered_than_twice_those_that_stay() -> None:
    changes = LaneChanges()
    changes.follow("acme")
    begun = changes.number
    for number in range(5_000):
        lane = Lane("acme", f"q-{number}", "scan")
        changes.note(lane)
        changes.note_gone(lane, 10)
        assert len(changes._logs["acme"].lanes) <= 2 * 10 + 64
    assert changes.since("acme", begun) is None
    number = changes.number
    changes.note(Lane("acme", "q", "scan"))
    assert changes.since("acme", number) == [Lane("acme", "q", "scan")]
    changes.leave("acme")
    assert changes.since("acme", number) is None


def test_what_is_remembered_of_lanes_is_bounded_over_all_kinds_of_sessions() -> None:
    driver = loaded("queue", jobs=3, offered_lanes_max=LANES)
    for number in range(2, 12):
        queues = frozenset(f"n-{each}" for each in range(number, LANES))
        driver.attach(number, slots=1, queues=queues)
        driver.settle()
    fair = driver.core._granter._fair
    assert len(driver.grants()) == 10
    assert fair._offered == sum(1 + each.lanes for each in fair._offers.values())
    assert len(fair._offers) == 1
