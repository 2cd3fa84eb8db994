"""The broadcaster's core: what each reader gets, from where, and at whose cost."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.domain.event_filter import EVERYTHING, EventFilter
from jobengine.messages.broadcaster import Deliver, Moved, Published, TellMoved, Unwatch, Watch
from tests.core.broadcaster_world import Reader, World, job_entry

SMALL: dict[str, Any] = {
    "ring_events_max": 16,
    "ring_bytes_max": 1 << 20,
    "batch_events_max": 3,
    "scan_events_max": 5,
    "quiet_events_max": 6,
    "piece_bytes": 1,
    "page_blocks_max": 2,
    "pages_max": 2,
    "reads_max": 1,
}


def followed(**limits: Any) -> tuple[World, Reader]:
    """A reader at the end of an empty ledger, which has been looked at."""
    world = World(**limits)
    reader = world.follow()
    world.settle()
    return world, reader


def test_what_is_published_reaches_a_reader_without_reading_the_ledger() -> None:
    world, reader = followed()
    reads = world.reads_total
    world.commit(3)
    world.settle()
    world.commit(2)
    world.settle()
    assert reader.seqs == [1, 2, 3, 4, 5]
    assert world.reads_total == reads


def test_a_reader_from_the_start_reads_the_ledger_and_then_rejoins() -> None:
    world = World(page_blocks_max=2)
    for _ in range(7):
        world.commit(2)
    reader = world.follow()
    world.settle()
    assert reader.seqs == list(range(1, 15))
    reads = world.reads_total
    world.commit(2)
    world.settle()
    assert reader.seqs == list(range(1, 17))
    assert world.reads_total == reads


def test_a_cursor_in_the_middle_of_a_block_gets_the_rest_of_it() -> None:
    world = World(piece_bytes=1)
    world.commit(10)
    reader = world.follow(after_seq=6)
    world.settle()
    assert reader.seqs == [7, 8, 9, 10]


def test_readers_with_the_same_filter_and_cursor_get_the_same_batch() -> None:
    world = World()
    world.commit(4)
    live = [world.follow() for _ in range(3)]
    world.settle()
    other = world.follow(wanted=EventFilter.of(["job.*"]))
    world.settle()
    world.commit(2)
    world.settle()
    assert len({id(reader.batches[0]) for reader in live}) == 1
    assert len({id(reader.batches[-1]) for reader in live}) == 1
    assert other.batches[-1] is not live[0].batches[-1]
    assert other.seqs == live[0].seqs


def test_a_round_is_bounded_and_the_others_get_the_same_batch_in_the_next() -> None:
    world = World()
    readers = [world.follow() for _ in range(500)]
    world.settle()
    world.took_s = 0.02
    for _ in range(20):
        world.commit()
        world.settle()
    batches = readers[0].batches
    world.commit()
    world.commands.clear()
    world.step()
    first = sum(isinstance(command, Deliver) for command in world.commands)
    assert 0 < first < 500
    world.commit()
    world.settle()
    assert all(reader.seqs == list(range(1, 23)) for reader in readers)
    assert {id(reader.batches[20]) for reader in readers} == {id(batches[20])}


def test_a_reader_of_one_job_is_not_woken_by_others() -> None:
    world = World()
    reader = world.follow(wanted=EventFilter.of(job_id="j1"))
    world.settle()
    world.commands.clear()
    for _ in range(50):
        world.commit(make=lambda seq: job_entry(seq, "j2"))
        world.settle()
    assert not any(isinstance(command, Deliver) for command in world.commands)
    world.commit(make=lambda seq: job_entry(seq, "j1"))
    world.settle()
    assert reader.seqs == [51]


def test_a_reader_for_which_nothing_matches_hears_now_and_then_how_far_it_is() -> None:
    world = World(quiet_events_max=10)
    reader = world.follow(wanted=EventFilter.of(["run.*"]))
    world.settle()
    for _ in range(25):
        world.commit()
        world.settle()
    assert reader.seqs == []
    assert [batch.through_seq for batch in reader.batches] == [10, 20]


def of_run(run_id: str) -> Any:
    return lambda seq: job_entry(seq, f"{run_id}-{seq % 2}", run=run_id)


def test_a_block_in_which_nobody_is_named_is_passed_by() -> None:
    world = World(quiet_events_max=30)
    reader = world.follow(wanted=EventFilter.of(run_id="mine"))
    failures = world.follow(wanted=EventFilter.of(["job.failed"]))
    world.settle()
    reads = world.reads_total
    for _ in range(4):
        world.commit(10, make=of_run("another"))
    world.settle()
    assert not world.core._tenants["acme"].ring.events
    assert reader.told >= 30
    world.commit(3, make=of_run("mine"))
    world.commit(2, make=of_run("another"))
    world.settle()
    assert reader.seqs == [41, 42, 43]
    assert failures.seqs == []
    assert world.reads_total == reads


def test_who_comes_into_what_was_passed_by_is_given_it_from_the_ledger() -> None:
    world = World()
    world.follow(wanted=EventFilter.of(run_id="mine"))
    world.settle()
    world.commit(10, make=of_run("another"))
    world.settle()
    late = world.follow(after_seq=4)
    world.settle()
    world.commit(2, make=of_run("another"))
    world.settle()
    assert late.seqs == list(range(5, 13))


def test_a_block_is_looked_at_as_long_as_somebody_may_want_of_it() -> None:
    world = World()
    reader = world.follow(wanted=EventFilter.of(run_id="mine"))
    others = [world.follow(wanted=EventFilter.of(run_id=f"run-{n}")) for n in range(20)]
    world.settle()
    world.commit(2, make=of_run("run-19"))
    world.settle()
    assert others[19].seqs == [1, 2]
    for other in others:
        world.leave(other)
    everything = world.follow(after_seq=2)
    world.settle()
    world.commit(2, make=of_run("another"))
    world.settle()
    assert everything.seqs == [3, 4]
    assert reader.seqs == []


def test_filters_look_at_job_run_type_and_source() -> None:
    world = World()
    filters = {
        "job": EventFilter.of(job_id="j1"),
        "run": EventFilter.of(["job.completed"], run_id="r1"),
        "type": EventFilter.of(["job.pro*"], job_type="type-j1"),
        "all": EVERYTHING,
    }
    readers = {name: world.follow(wanted=each) for name, each in filters.items()}
    world.settle()

    def make(seq: int) -> Any:
        kind = "job.completed" if seq % 2 else "job.progressed"
        return job_entry(seq, f"j{seq % 3}", kind, f"r{seq % 5}")

    world.commit(30, make=make)
    world.settle()
    world.commit(30, make=make)
    world.settle()
    for reader in readers.values():
        assert reader.seqs == [event.seq for event in world.matching(reader, 0, 60)]
        assert reader.seqs


def test_a_full_reader_gets_nothing_until_it_has_room_and_then_all_of_it() -> None:
    world, quick = followed(ring_events_max=16, batch_events_max=4)
    slow = world.follow(room=1)
    world.settle()
    for _ in range(10):
        world.commit(4)
        world.settle()
    assert len(slow.batches) == 1
    assert quick.seqs == list(range(1, 41))
    while slow.full:
        world.make_room(slow)
        world.settle()
    assert slow.seqs == quick.seqs


def test_a_reader_that_falls_behind_within_the_ring_costs_no_read() -> None:
    world, slow = followed()
    slow.room = 1
    reads = world.reads_total
    for _ in range(20):
        world.commit(10)
        world.settle()
    while slow.full:
        world.make_room(slow)
        world.settle()
    assert slow.seqs == list(range(1, 201))
    assert world.reads_total == reads


def test_blocks_that_were_never_published_are_read_when_the_next_one_does_not_continue() -> None:
    world, reader = followed()
    world.commit(3)
    world.settle()
    world.commit(3, publish=False)
    world.settle()
    assert reader.seqs == [1, 2, 3]
    world.commit(2)
    world.settle()
    assert reader.seqs == list(range(1, 9))


def test_blocks_that_were_never_published_are_read_at_once_when_the_ledger_begins_anew() -> None:
    world, reader = followed()
    world.commit(3)
    world.settle()
    world.commit(3, publish=False)
    world.doubt()
    world.settle()
    assert reader.seqs == list(range(1, 7))
    world.commit(2)
    world.settle()
    assert reader.seqs == list(range(1, 9))


def test_nothing_found_by_a_read_from_before_a_doubt_is_not_believed() -> None:
    world = World()
    reader = world.follow()
    [read] = world.reads
    found = world.found(read)
    world.commit(3, publish=False)
    world.doubt()
    world.tell_read(read, found)
    world.settle()
    assert reader.seqs == [1, 2, 3]


def test_a_doubt_sends_those_to_the_ledger_who_wait_for_its_first_block() -> None:
    world, reader = followed()
    world.commit(3, publish=False)
    world.settle()
    assert reader.seqs == []
    world.doubt()
    world.settle()
    assert reader.seqs == [1, 2, 3]


def test_whoever_the_ring_reaches_does_not_wait_for_the_store() -> None:
    world = World()
    world.commit(3)
    reader = world.follow(after_seq=3)
    world.commit(2)
    while world.step():
        pass
    assert reader.seqs == [4, 5]


def test_a_reader_that_becomes_full_in_mid_burst_goes_on_where_it_was() -> None:
    world, reader = followed(batch_events_max=3)
    reader.room = 1
    world.commit(10)
    world.settle()
    assert reader.seqs == [1, 2, 3]
    reader.room = 1_000
    world.make_room(reader)
    world.settle()
    assert reader.seqs == list(range(1, 11))


def test_what_the_ring_drops_is_not_kept_for_those_who_wait_for_it() -> None:
    world, reader = followed(batch_events_max=3, ring_events_max=16)
    world.commit(9)
    world.step()
    assert reader.topic_pending() == 6
    world.commit(9)
    assert reader.topic_pending() == 0
    world.check()
    world.settle()
    assert reader.seqs == list(range(1, 19))


def test_readers_far_apart_in_one_ledger_do_not_take_each_others_pages() -> None:
    world = World(
        page_blocks_max=3, pages_max=1, reads_max=1, batch_events_max=2, ring_events_max=4
    )
    for _ in range(60):
        world.commit(2)
    readers = [world.follow(after_seq=cursor) for cursor in (0, 100)]
    while world.reads or world.core.wakeup_at is not None:
        while world.answer():
            pass
        world.step()
    assert [reader.told for reader in readers] == [120, 120]
    assert world.reads_total <= 60 // 3 + 20 // 6 + 4


def test_what_a_read_did_not_find_is_gone_only_as_far_as_it_could_see() -> None:
    world, _ = followed(ring_events_max=4)
    for _ in range(4):
        world.commit(2)
        world.settle()
    world.forget("acme", 4)
    late = world.follow()
    [read] = world.reads
    world.reads.clear()
    for _ in range(4):
        world.commit(2)
        world.settle()
    world.tell_read(read, [])
    world.settle()
    assert [batch.gap for batch in late.batches if batch.gap] == [(1, 8)]
    assert late.seqs == list(range(9, 17))


def test_what_retention_has_taken_is_named_by_one_gap() -> None:
    world = World(page_blocks_max=2)
    for _ in range(10):
        world.commit(3)
    world.forget("acme", 4)
    reader = world.follow(after_seq=2)
    world.settle()
    assert [batch.gap for batch in reader.batches if batch.gap] == [(3, 12)]
    assert reader.seqs == list(range(13, 31))


def test_a_ledger_of_which_retention_has_left_nothing_gives_a_gap_up_to_the_ring() -> None:
    world, live = followed(ring_events_max=4)
    for _ in range(6):
        world.commit(2)
        world.settle()
    world.forget("acme", 6)
    late = world.follow()
    world.settle()
    world.commit(2)
    world.settle()
    assert live.seqs == list(range(1, 15))
    assert [batch.gap for batch in late.batches if batch.gap] == [(1, 8)]
    assert late.seqs == list(range(9, 15))


def test_a_cursor_from_the_future_waits_until_the_ledger_has_come_so_far() -> None:
    world = World()
    ahead = world.follow(after_seq=8)
    level = world.follow()
    world.settle()
    for _ in range(6):
        world.commit(2)
        world.settle()
    assert level.seqs == list(range(1, 13))
    assert ahead.seqs == [9, 10, 11, 12]


def test_one_page_serves_all_whose_cursor_lies_within_it() -> None:
    world = World(page_blocks_max=64)
    for _ in range(50):
        world.commit(2)
    readers = [world.follow(after_seq=cursor) for cursor in range(0, 100, 7)]
    world.settle()
    for reader in readers:
        assert reader.told == 100
    assert world.reads_total <= 5


def test_tenants_take_turns_at_the_ledger() -> None:
    world = World(page_blocks_max=1, pages_max=1, reads_max=1)
    for tenant in ("a", "b", "c"):
        for _ in range(5):
            world.commit(1, tenant)
    for tenant in ("a", "b", "c"):
        world.follow(tenant)
    order = []
    while world.reads or world.core.wakeup_at is not None:
        if world.reads:
            order.append(world.reads[0].tenant_id)
        if not world.answer():
            world.step()
    assert order[:9] == ["a", "b", "c"] * 3


def test_a_store_that_does_not_answer_is_asked_again_ever_less_often() -> None:
    world = World(backoff_s_first=0.1, backoff_s_max=1.0)
    world.commit(3)
    reader = world.follow()
    tries = []
    for _ in range(8):
        tries.append(world.mono)
        world.answer(fail=True)
        assert not world.reads
        world.step()
    pauses = [round(after - before, 3) for before, after in pairwise(tries)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    world.settle()
    assert reader.seqs == [1, 2, 3]


def test_a_late_answer_to_an_earlier_life_is_dropped() -> None:
    world = World()
    world.commit(3)
    reader = world.follow()
    [read] = world.reads
    world.restart()
    world.settle()
    world.tell_read(read, world.found(read))
    world.settle()
    assert reader.seqs == [1, 2, 3]


def test_lines_that_were_stored_are_told_to_those_who_asked_for_that_job() -> None:
    world = World()
    one = world.follow(logs_of="j1")
    every = world.follow(logs_of="*")
    none = world.follow()
    foreign = world.follow("other", logs_of="j1")
    world.settle()
    world.tell(Published(blocks=(), logged=(("acme", "j1"), ("acme", "j2"))))
    world.tell(Published(blocks=(), logged=(("acme", "j1"),)))
    world.settle()
    assert [each.logged for each in (one, every, none, foreign)] == [1, 1, 0, 0]
    world.leave(one)
    world.tell(Published(blocks=(), logged=(("acme", "j1"),)))
    world.settle()
    assert every.logged == 2


def test_watchers_hear_of_every_tenant_whose_ledger_grows() -> None:
    world = World()
    world.tell(Watch(watcher_id=7))
    world.commit(3)
    world.commit(2, "other")
    assert world.moved == [
        TellMoved(watcher_id=7, moved=(Moved("acme", 3),)),
        TellMoved(watcher_id=7, moved=(Moved("other", 2),)),
    ]
    world.tell(Unwatch(watcher_id=7))
    world.commit()
    assert len(world.moved) == 2


def test_nothing_is_kept_for_a_tenant_whose_last_reader_has_left() -> None:
    world = World(**SMALL)
    readers = [world.follow(f"t{number % 3}") for number in range(30)]
    for number in range(60):
        world.commit(2, f"t{number % 4}")
        if number % 5 == 0:
            world.step()
            world.answer()
    for reader in readers:
        world.leave(reader)
        world.leave(reader)
    world.settle()
    core = world.core
    assert not core._tenants
    assert not core._readers
    assert not core._line
    assert not core._unmade
    assert not core._reads.hungry
    assert not core._reads._paged
    world.commit(2, "t1")
    assert core.wakeup_at is None


def test_a_busy_node_gives_streams_a_tenth_of_its_time() -> None:
    world, reader = followed()
    world.took_s = 0.004
    began, rounds = world.mono, 0
    for _ in range(60):
        world.commit(4)
        rounds += world.step()
        world.mono += 0.004
    assert rounds * 0.004 <= 0.13 * (world.mono - began)
    world.settle()
    assert reader.seqs == list(range(1, world.last_seq() + 1))


def test_a_pause_ends_when_nobody_else_has_anything_to_do() -> None:
    world, reader = followed()
    world.took_s = 0.004
    world.commit(4)
    world.step()
    world.commit(4)
    assert world.core.wakeup_at == pytest.approx(world.mono + 0.036)
    world.spare(world.rounds - 1)
    assert world.core.wakeup_at == pytest.approx(world.mono + 0.036)
    world.spare(world.rounds)
    assert world.core.wakeup_at == world.mono
    world.step()
    assert reader.seqs == list(range(1, 9))


def test_what_sinks_had_kept_counts_when_it_is_sent() -> None:
    world, _ = followed()
    world.took_s, world.sent_bytes = 0.001, 0
    world.commit(4)
    world.step()
    world.commit(4)
    alone_s = world.pause_s()
    world.sent_bytes = 2_000_000
    world.step()
    world.commit(4)
    assert alone_s == pytest.approx(0.009)
    assert world.pause_s() == pytest.approx(0.036)


def test_rounds_become_smaller_where_much_is_sent_after_them() -> None:
    world, _ = followed()
    world.took_s = 0.00001
    units = []
    for sent_bytes in (0, 10_000_000):
        world.sent_bytes = sent_bytes
        for _ in range(20):
            world.commit(4)
            world.step()
        units.append(world.core.pace.units)
    assert units[1] < units[0] / 5


def test_no_pause_is_longer_than_a_tenth_of_a_second() -> None:
    world, _ = followed()
    world.took_s = 3.0
    world.commit()
    world.step()
    world.commit()
    assert world.pause_s() <= 0.1


def test_the_census_says_who_is_behind_and_who_is_full() -> None:
    world, _ = followed(ring_events_max=16)
    full = world.follow(room=1)
    world.settle()
    world.commit(1)
    world.settle()
    world.commit(10)
    world.settle()
    world.commit(10)
    world.settle()
    world.follow()
    census = world.core.census()
    assert (census.readers, census.behind, census.full) == (3, 1, 1)
    assert census.lag == 21
    assert full.full


TENANTS = ("acme", "other")
FILTERS = (
    EVERYTHING,
    EventFilter.of(job_id="j1"),
    EventFilter.of(["job.completed"]),
    EventFilter.of(["job.*"], run_id="r1"),
    EventFilter.of(job_type="type-j2"),
)
tenants = st.sampled_from(TENANTS)
steps = st.one_of(
    st.tuples(st.just("publish"), tenants, st.integers(1, 9)),
    st.tuples(st.just("publish"), tenants, st.integers(1, 9)),
    st.tuples(st.just("lose"), tenants, st.integers(1, 4)),
    st.tuples(st.just("doubt"), st.none(), st.none()),
    st.tuples(
        st.just("follow"),
        tenants,
        st.tuples(st.integers(0, 4), st.sampled_from([0, 0, 1, 5, 20, 40, -2]), st.integers(1, 4)),
    ),
    st.tuples(st.just("leave"), st.integers(0, 9), st.none()),
    st.tuples(st.just("roomy"), st.integers(0, 9), st.none()),
    st.tuples(st.just("answer"), st.none(), st.booleans()),
    st.tuples(st.just("answer"), st.none(), st.just(False)),
    st.tuples(st.just("step"), st.sampled_from([0.0, 0.001, 0.02]), st.sampled_from([0.0, 0.003])),
    st.tuples(st.just("step"), st.just(0.0), st.just(0.0)),
    st.tuples(st.just("retain"), tenants, st.integers(1, 3)),
    st.tuples(st.just("restart"), st.none(), st.none()),
)


def mixed(seq: int) -> Any:
    kind = "job.completed" if seq % 2 else "job.progressed"
    return job_entry(seq, f"j{seq % 3}", kind, f"r{seq % 4}")


def act(
    world: World, kind: str, first: Any, second: Any, filters: Sequence[EventFilter] = FILTERS
) -> None:
    readers = list(world.readers.values())
    match kind:
        case "publish" | "lose":
            world.commit(second, first, publish=kind == "publish", make=mixed)
        case "doubt":
            world.doubt()
        case "follow":
            which, back, room = second
            if len(readers) < 10:
                cursor = max(0, world.last_seq(first) - back)
                world.follow(first, cursor, filters[which % len(filters)], room=room)
        case "leave" if readers:
            world.leave(readers[first % len(readers)])
        case "roomy" if readers:
            world.make_room(readers[first % len(readers)])
        case "answer":
            world.answer(fail=second)
        case "step":
            world.took_s = second
            world.step(late_s=first)
        case "retain":
            world.forget(first, second)
        case "restart":
            world.restart()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(steps, min_size=40, max_size=100),
    st.integers(1, 2),
    st.sampled_from([1, 400, 1 << 20]),
    st.sampled_from([FILTERS, FILTERS[1:]]),
)
def test_every_reader_gets_every_event_that_it_wants_once_and_in_order(
    course: list[tuple[str, Any, Any]],
    reads_max: int,
    ring_bytes_max: int,
    filters: Sequence[EventFilter],
) -> None:
    """``lose`` is a block that became durable and was never published, ``retain`` a loss of old
    ones. Each reader checks each batch against the history (`Reader.take`)."""
    world = World(**(SMALL | {"reads_max": reads_max, "ring_bytes_max": ring_bytes_max}))
    for kind, first, second in course:
        act(world, kind, first, second, filters)
        world.check()
    # The store answers, everybody has room, and the ledger goes on.
    for reader in list(world.readers.values()):
        reader.room = 1_000_000
        world.make_room(reader)
    world.settle()
    for tenant in TENANTS:
        world.commit(40, tenant, make=mixed)
    world.settle()
    world.check()
    for reader in world.readers.values():
        missing = world.matching(reader, reader.told, world.last_seq(reader.tenant_id))
        assert not missing
    for reader in list(world.readers.values()):
        world.leave(reader)
    world.settle()
    world.check()
    assert not world.core._line
