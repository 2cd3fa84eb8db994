"""Requests that wait for one unique key or one job: one at a time goes on, and they are few."""

from typing import Any

from jobengine.core.lease_shard.claims import Claims
from jobengine.core.lease_shard.held_jobs import HeldJobs
from jobengine.core.machine import Answer
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.messages.lease_shard import Actor, CancelJob, IdempotencyClaim
from jobengine.messages.shard_commands import LoadSubjects, SubjectsLoaded
from tests.core.shard_driver import ShardDriver, job_id, new_job, read_failed, stored_job
from tests.core.test_many_lanes import counted

CLAIM = IdempotencyClaim("key", "/jobs", "digest")


def reads(driver: ShardDriver) -> int:
    return len(driver.all(LoadSubjects))


def cancel(driver: ShardDriver, number: int = 1) -> None:
    driver.send(
        CancelJob(
            ask_id=driver.ask_id(),
            tenant_id="acme",
            actor=Actor("p"),
            job_id=job_id(number),
            reason="user_cancelled",
        )
    )


def refused(driver: ShardDriver, code: ErrorCode) -> int:
    return sum(isinstance(each, Refusal) and each.code is code for each in driver.answers())


def test_when_a_unique_key_is_free_again_one_of_those_that_wait_goes_on() -> None:
    driver = ShardDriver()
    for number in range(60):
        driver.submit(new_job(number, unique_key="k"))
    for number in range(60):
        assert reads(driver) == number + 1
        with counted(Claims, "waits") as begun:
            driver.send(read_failed(driver.last(LoadSubjects)))
        assert begun[0] == (number < 59)
    assert refused(driver, ErrorCode.STORE_UNAVAILABLE) == 60
    claims = driver.core._submitter.claims
    assert not claims._keys_held
    assert not claims._waiting


def test_one_that_waited_and_is_refused_hands_the_key_on() -> None:
    driver = ShardDriver()
    driver.submit(new_job(1, unique_key="k"))
    driver.submit(new_job(2), claim=CLAIM)
    driver.submit(new_job(3, unique_key="k"), claim=CLAIM)
    driver.submit(new_job(4, unique_key="other"))
    driver.submit(new_job(5, unique_key="k"), new_job(6, unique_key="other"))
    driver.submit(new_job(7, unique_key="k"))
    first, second, other = driver.all(LoadSubjects)
    driver.send(read_failed(first))
    assert refused(driver, ErrorCode.IDEMPOTENCY_IN_PROGRESS) == 1
    assert driver.last(LoadSubjects).claims.unique_keys == ["k"]
    driver.send(SubjectsLoaded(stamp=other.stamp))
    driver.send(SubjectsLoaded(stamp=second.stamp))
    driver.settle()
    while len(driver.all(Answer)) < 6:
        before = reads(driver)
        driver.send(SubjectsLoaded(stamp=driver.last(LoadSubjects).stamp))
        driver.settle()
        assert len(driver.all(Answer)) == 6 or reads(driver) > before
    claims = driver.core._submitter.claims
    assert not claims._keys_held
    assert not claims._waiting


def test_no_more_requests_wait_for_a_key_than_may() -> None:
    driver = ShardDriver(waiting_requests_max=3)
    for number in range(6):
        driver.submit(new_job(number, unique_key="k"))
    assert refused(driver, ErrorCode.OVERLOADED) == 2
    assert "3 requests" in driver.answers()[-1].message
    while len(driver.answers()) < 6:
        driver.send(read_failed(driver.last(LoadSubjects)))
    assert refused(driver, ErrorCode.OVERLOADED) == 2


def test_when_a_job_is_free_again_one_of_those_that_wait_for_it_goes_on() -> None:
    driver = ShardDriver()
    for _ in range(60):
        cancel(driver)
    for number in range(60):
        assert reads(driver) == number + 1
        with counted(HeldJobs, "waits") as begun:
            if number == 20:
                job: Any = {job_id(1): stored_job(1)}
                driver.send(SubjectsLoaded(stamp=driver.last(LoadSubjects).stamp, jobs=job))
                driver.settle()
            else:
                driver.send(read_failed(driver.last(LoadSubjects)))
        assert begun[0] == (number < 59)
    assert not driver.core._state.deferred
    assert not driver.core._state.operating


def test_what_waits_for_a_job_goes_on_in_its_order_though_some_of_it_takes_no_time() -> None:
    driver = ShardDriver()
    cancel(driver)
    driver.submit(new_job(2), claim=CLAIM)
    for claim in (CLAIM, None, None):
        driver.send(
            CancelJob(
                ask_id=driver.ask_id(),
                tenant_id="acme",
                actor=Actor("p"),
                job_id=job_id(1),
                reason="user_cancelled",
                claim=claim,
            )
        )
    driver.send(read_failed(driver.all(LoadSubjects)[0]))
    assert refused(driver, ErrorCode.IDEMPOTENCY_IN_PROGRESS) == 1
    assert reads(driver) == 3
    driver.send(read_failed(driver.last(LoadSubjects)))
    driver.send(read_failed(driver.last(LoadSubjects)))
    assert len(driver.answers()) == 4
    assert [each.ask_id for each in driver.all(Answer)] == [1, 3, 4, 5]


def test_no_more_requests_wait_for_a_job_than_may() -> None:
    driver = ShardDriver(waiting_requests_max=3)
    for _ in range(6):
        cancel(driver)
    assert refused(driver, ErrorCode.OVERLOADED) == 2
    while len(driver.answers()) < 6:
        driver.send(read_failed(driver.last(LoadSubjects)))
    assert refused(driver, ErrorCode.OVERLOADED) == 2
