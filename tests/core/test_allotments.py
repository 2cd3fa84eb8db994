"""A lease shard under governance: it starts what is allotted, and says what it could start."""

from typing import Any

from jobengine.messages.admission import Allot
from jobengine.messages.governor import Allotted, Demand, Demands, Govern, Governed
from jobengine.messages.worker_reports import Completed, Detach
from tests.core.shard_driver import ShardDriver, new_job

BEGIN = Govern(shard=0, stamp=1, governed=True)
END = Govern(shard=0, stamp=2, governed=False)


def governed(*, jobs: int = 5, slots: int = 10) -> ShardDriver:
    driver = ShardDriver()
    driver.send(BEGIN)
    driver.attach(slots=slots)
    driver.submit(*(new_job(number) for number in range(jobs)))
    driver.settle()
    return driver


def allot(driver: ShardDriver, slots: int, stamp: int = 7) -> None:
    driver.send(Allot(tenant_id="acme", slots=slots, stamp=stamp))
    driver.settle()


def complete(driver: ShardDriver, grant: Any) -> None:
    driver.report(Completed(ref="c", lease_id=grant.lease_id, token=grant.token, result=b"null"))
    driver.settle()


def last_demand(driver: ShardDriver) -> Demand:
    driver.wait(0.1)
    return driver.last(Demands).demands[-1]


def test_nothing_starts_before_it_is_allotted_and_then_no_more_than_that() -> None:
    driver = governed()
    assert driver.grants() == []
    assert last_demand(driver) == Demand("acme", 0, 5)
    allot(driver, 2)
    assert driver.last(Allotted) == Allotted(tenant_id="acme", stamp=7, running=0)
    assert len(driver.grants()) == 2
    assert last_demand(driver) == Demand("acme", 2, 3)
    complete(driver, driver.grants()[0])
    assert len(driver.grants()) == 3


def test_a_lowered_allotment_is_answered_at_once_and_drains() -> None:
    driver = governed()
    allot(driver, 3)
    allot(driver, 1, stamp=8)
    assert driver.last(Allotted) == Allotted(tenant_id="acme", stamp=8, running=3)
    for left in (2, 1):
        complete(driver, driver.grants()[2 - left])
        assert len(driver.grants()) == 3
        assert last_demand(driver).running == left
    complete(driver, driver.grants()[2])
    assert len(driver.grants()) == 4


def test_only_what_a_worker_has_a_slot_for_counts_as_waiting() -> None:
    driver = governed(slots=2)
    assert last_demand(driver) == Demand("acme", 0, 2)
    driver.send(Detach(session_id=1))
    assert last_demand(driver) == Demand("acme", 0, 0)


def test_demand_is_told_at_most_once_in_its_interval() -> None:
    driver = governed(jobs=1)
    told = len(driver.all(Demands))
    for number in range(1, 20):
        driver.submit(new_job(number))
        driver.settle()
    assert len(driver.all(Demands)) == told
    assert last_demand(driver) == Demand("acme", 0, 10)
    assert len(driver.all(Demands)) == told + 1


def test_whoever_asks_anew_is_told_everything_and_nothing_is_allotted_any_more() -> None:
    driver = governed()
    allot(driver, 2)
    driver.send(BEGIN)
    assert driver.last(Governed).demands == [Demand("acme", 2, 3)]
    complete(driver, driver.grants()[0])
    assert len(driver.grants()) == 2


def test_without_a_strategy_everything_starts_and_nothing_is_told() -> None:
    driver = governed()
    driver.send(END)
    driver.settle()
    assert len(driver.grants()) == 5
    told = len(driver.all(Demands))
    complete(driver, driver.grants()[0])
    driver.wait(1.0)
    assert len(driver.all(Demands)) == told
