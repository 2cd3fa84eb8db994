"""The waiting room: who waits is counted, let out in order, and forgotten when it has left."""

import random

from jobengine.core.lease_shard.waiting_room import Subject, WaitingRoom
from jobengine.core.window import Key
from jobengine.domain.canonical import digest
from jobengine.domain.job import Definition, Job
from jobengine.domain.records import Lane

PROJECT: Subject = ("acme", "project", "p")
QUOTA: Subject = ("acme", "quota", "all")
LANE = Lane("acme", "scan", "scan", "")
OTHER = Lane("acme", "report", "report", "")
DEFINITION = Definition(job_type="scan", payload_digest=digest(b"{}"), queue="scan")


def job(number: int) -> Job:
    return Job(
        job_id=f"job-{number}",
        tenant_id="acme",
        definition=DEFINITION,
        definition_json=b"{}",
        payload=b"{}",
        created_at=0,
    )


def key(number: int) -> Key:
    return number, f"job-{number}"


def park(
    room: WaitingRoom, number: int, subject: Subject = PROJECT, opens_at: int | None = None
) -> None:
    room.park(LANE, key(number), job(number), subject, opens_at)


def ids_let_out(room: WaitingRoom, subject: Subject = PROJECT) -> list[str]:
    return [one.job_id for _, _, one in room.open(subject) if one is not None]


def entries(room: WaitingRoom) -> int:
    """Entries of all heaps."""
    queues = [queue for one in room._waiters.values() for queue in one.parked.values()]
    return len(room._clock) + sum(len(queue.keys) for queue in queues)


def test_a_parked_job_that_is_cancelled_is_counted_no_more() -> None:
    room = WaitingRoom(10)
    room.close(OTHER, PROJECT, None)
    park(room, 1)
    park(room, 2)
    assert room.count(PROJECT) == 3
    room.forget("job-1")
    assert room.count(PROJECT) == 2
    room.reopen(OTHER)
    assert room.count(PROJECT) == 1
    assert ids_let_out(room) == ["job-2"]
    assert room.count(PROJECT) == 0


def test_when_the_last_that_waited_has_left_nothing_is_remembered_of_what_it_waited_for() -> None:
    room = WaitingRoom(10)
    park(room, 1, opens_at=100)
    room.forget("job-1")
    assert not room
    assert room.tenants() == []
    assert room.opens_at is None
    assert room.open(PROJECT) == []


def test_jobs_parked_and_cancelled_for_ever_take_no_more_memory_than_those_that_stay() -> None:
    room = WaitingRoom(10_000)
    for number in range(100):
        park(room, number, opens_at=1_000_000)
    for number in range(100, 5_000):
        park(room, number, opens_at=1_000_000 - number)
        room.forget(f"job-{number}")
        assert entries(room) <= 2 * 101 + 64 + 64 + 2
    for _ in range(5_000):
        park(room, 5_000, QUOTA, opens_at=7)
        room.forget("job-5000")
    assert entries(room) <= 2 * 101 + 64 + 64 + 2
    assert room.count(PROJECT) == 100
    assert ids_let_out(room) == [f"job-{number}" for number in range(100)]


def test_a_job_parked_again_is_let_out_once_and_from_where_it_waits_now() -> None:
    room = WaitingRoom(10)
    park(room, 1)
    park(room, 1, QUOTA)
    assert (room.count(PROJECT), room.count(QUOTA)) == (0, 1)
    room.forget("job-1")
    park(room, 2)
    park(room, 1)
    room.forget("job-1")
    park(room, 1)
    assert room.count(PROJECT) == 2
    assert ids_let_out(room) == ["job-1", "job-2"]


def test_whoever_comes_and_goes_who_is_left_is_let_out_in_order_each_once() -> None:
    chance = random.Random(7)
    room, waiting = WaitingRoom(10_000), dict[str, Subject]()
    for _ in range(5_000):
        number = chance.randrange(200)
        if (name := f"job-{number}") in waiting:
            room.forget(name)
            del waiting[name]
        else:
            waiting[name] = chance.choice([PROJECT, QUOTA])
            park(room, number, waiting[name], chance.choice([None, number]))
        assert room.parked == len(waiting) == room.count(PROJECT) + room.count(QUOTA)
    for subject in (PROJECT, QUOTA):
        left = [name for name, of in waiting.items() if of == subject]
        assert ids_let_out(room, subject) == sorted(left, key=lambda name: int(name[4:]))
    assert not room
