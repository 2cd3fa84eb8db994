"""In how many lanes jobs of a tenant may wait, and what happens when that is too many."""

from jobengine.core.window import BEFORE_ALL
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.records import Lane
from jobengine.messages.shard_commands import Commit, LoadLane, LoadSubjects, SubjectsLoaded
from tests.core.shard_driver import ShardDriver, new_job, stored_job


def submit(driver: ShardDriver, *queues: str, first: int = 1) -> object:
    driver.submit(*(new_job(first + place, queue=name) for place, name in enumerate(queues)))
    driver.settle()
    return driver.answers()[-1]


def test_jobs_that_would_open_more_lanes_than_a_tenant_may_have_are_refused_whole() -> None:
    driver = ShardDriver(tenant_lanes_max=3)
    submit(driver, "a", "b", "a", "b", "a")
    refusal = submit(driver, "a", "c", "d", first=10)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.CAPACITY_EXCEEDED
    assert (refusal.details["lanes"], refusal.details["newLanes"]) == (2, 2)
    assert "tenant_lanes_max" in refusal.message
    assert len(driver.all(Commit)) == 1
    assert not isinstance(submit(driver, "c", "c", "a", "b", first=20), Refusal)
    assert isinstance(submit(driver, "d", first=30), Refusal)
    driver.submit(new_job(40, queue="d"), tenant_id="other")
    driver.settle()
    assert not isinstance(driver.answers()[-1], Refusal)


def test_lanes_that_are_drained_make_room() -> None:
    driver = ShardDriver(tenant_lanes_max=2)
    submit(driver, "a", "b")
    assert isinstance(submit(driver, "c", first=10), Refusal)
    driver.attach(slots=1)
    driver.settle()
    assert not isinstance(submit(driver, "c", first=20), Refusal)


def test_a_job_that_is_there_already_opens_no_lane() -> None:
    driver = ShardDriver(tenant_lanes_max=1)
    submit(driver, "a")
    driver.submit(new_job(5, queue="b", unique_key="k"))
    held = {"k": stored_job(4, queue="b", unique_key="k")}
    driver.send(SubjectsLoaded(stamp=driver.last(LoadSubjects).stamp, holders=held))
    assert not isinstance(driver.answers()[-1], Refusal)


def test_a_tenant_that_has_more_when_its_shard_begins_is_served() -> None:
    lanes = [Lane("acme", f"q-{number}", "scan") for number in range(5)]
    driver = ShardDriver(tenant_lanes_max=2, lanes=lanes)
    assert all(window.horizon == BEFORE_ALL for window in driver.core._state.lanes.values())
    driver.attach(slots=5)
    assert {wanted.lane for wanted in driver.all(LoadLane)} == set(lanes)
    assert not isinstance(submit(driver, "q-1", "q-2"), Refusal)
    assert isinstance(submit(driver, "new", first=10), Refusal)
