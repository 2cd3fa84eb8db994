"""Who asks for work: found without looking at all that are idle."""

import random

import msgspec
import pytest

from jobengine.core.lease_shard.sessions import Session, SessionTable
from jobengine.domain.job import Likeness
from jobengine.domain.records import Lane
from jobengine.messages.governor import Demands, Govern
from tests.core.shard_driver import LANE, ShardDriver, new_job
from tests.core.test_many_lanes import counted


def session(session_id: int, *, queues: str = "", job_types: str = "", credit: int = 1) -> Session:
    made = Session(
        session_id, "acme", "w", "w", frozenset(queues), frozenset(job_types), 9, False, 0.0
    )
    made.credit = credit
    return made


def table_of(*sessions: Session) -> SessionTable:
    table = SessionTable()
    for each in sessions:
        table.add(each)
        table.ask(each)
    return table


def test_the_only_taker_is_one_that_no_other_with_a_slot_stands_beside() -> None:
    lane = Lane("acme", "q", "a")
    idle = [session(number, job_types="a", credit=0) for number in range(5)]
    one, two = session(8, job_types="a"), session(9, queues="q")
    assert table_of(*idle).only_taker(lane) is None
    assert table_of(*idle, one).only_taker(lane) is one
    assert table_of(*idle, two, session(10, job_types="b")).only_taker(lane) is two
    assert table_of(one, *idle, two).only_taker(lane) is None


def test_jobs_that_start_at_once_look_at_two_of_all_idle_sessions() -> None:
    driver = ShardDriver()
    for number in range(1, 201):
        driver.attach(number, slots=5)
    like = Likeness.of(new_job(0).definition)
    jobs = [msgspec.structs.replace(new_job(number), like=like) for number in range(8)]
    with counted(Session, "takes") as looks:
        driver.submit(*jobs)
        driver.settle()
    assert len(driver.grants()) == 8
    assert looks[0] <= 40
    assert driver.core._state.sessions.only_taker(LANE) is None


@pytest.mark.parametrize("seed", range(200))
def test_what_slots_could_be_filled_is_what_each_lane_and_all_together_allow(seed: int) -> None:
    chance = random.Random(seed)

    def some(names: str) -> str:
        return "".join(chance.sample(names, chance.randrange(3)))

    sessions = [
        session(number, queues=some("pqr"), job_types=some("abc"), credit=chance.randrange(4))
        for number in range(chance.randrange(8))
    ]
    table = table_of(*sessions)
    lanes = [Lane("acme", queue, kind) for queue in "pqr" for kind in "abc"]
    waiting = [(lane, chance.randrange(4)) for lane in lanes if chance.random() < 0.5]

    def slots_for(*wanted: Lane) -> int:
        return sum(each.slots for each in sessions if any(each.takes(lane) for lane in wanted))

    single = sum(min(jobs, slots_for(lane)) for lane, jobs in waiting)
    assert table.fillable(waiting) == min(single, slots_for(*(lane for lane, _ in waiting)))


def test_demand_is_told_after_looking_at_each_lane_and_session_once() -> None:
    driver = ShardDriver()
    driver.send(Govern(shard=0, stamp=1, governed=True))
    for number in range(1, 101):
        driver.attach(number, slots=2, job_types=frozenset(f"k-{each}" for each in range(50)))
    driver.submit(*(new_job(number, job_type=f"k-{number}") for number in range(50)))
    driver.settle()
    driver.wait(1)
    driver.submit(new_job(99, job_type="k-0"))
    with counted(Session, "takes") as looks:
        driver.settle()
        driver.wait(1)
    assert driver.last(Demands).demands[-1].waiting == 51
    assert looks[0] <= 1_000
