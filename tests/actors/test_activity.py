"""What happened lately, by tenant and second: the tally, and the ledger's shell that keeps it."""

from collections.abc import Iterator, Mapping

from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from jobengine.actors.activity import WINDOW_S, Activity, Counts
from jobengine.domain.instant import SECOND
from jobengine.testing import memory_engine
from tests.actors.bare_worker import PRODUCER, new_job
from tests.actors.faulty_store import Fault, FaultyStore, fail_call

AT = 1_790_000_000 * SECOND
NONE = Counts(0, 0, 0, 0, 0, 0, 0, 0)


def test_a_second_is_counted_under_its_first_instant_and_quiet_ones_are_left_out() -> None:
    activity = Activity(since_at=AT)
    activity.count("t", AT + 1, {"job.created": 2, "job.scheduled": 1}, 3)
    activity.count("t", AT + SECOND - 1, {"job.created": 1, "worker.drain_requested": 1}, 5)
    activity.count("t", AT + 4 * SECOND, {"job.dead_lettered": 1}, 6)
    recent = activity.recent("t", AT + 4 * SECOND, 300)
    assert (recent.since_at, recent.newest_seq) == (AT, 6)
    assert recent.seconds == [
        (AT, NONE._replace(created=3, scheduled=1)),
        (AT + 4 * SECOND, NONE._replace(dead_lettered=1)),
    ]


def test_what_is_older_than_was_asked_for_is_not_shown_and_what_fell_out_is_gone() -> None:
    activity = Activity()
    activity.count("t", AT, {"job.created": 7}, 7)
    assert activity.recent("t", AT + 9 * SECOND, 10).seconds
    assert not activity.recent("t", AT + 10 * SECOND, 10).seconds
    assert not activity.recent("t", AT + WINDOW_S * SECOND, 10_000).seconds
    activity.count("t", AT + WINDOW_S * SECOND, {"job.created": 1}, 8)
    (only,) = activity.recent("t", AT + WINDOW_S * SECOND, WINDOW_S).seconds
    assert only == (AT + WINDOW_S * SECOND, NONE._replace(created=1))


def test_who_was_quiet_longest_is_forgotten_and_whoever_comes_back_is_told_since_when() -> None:
    activity = Activity(since_at=AT, tenants_max=2)
    for number, tenant_id in enumerate(("a", "b", "a", "c")):
        activity.count(tenant_id, AT + number * SECOND, {"job.created": 1}, number + 1)
    assert activity.recent("b", AT + 5 * SECOND, 60).newest_seq is None
    assert activity.recent("b", AT + 5 * SECOND, 60).since_at == AT + 2 * SECOND
    assert activity.recent("a", AT + 5 * SECOND, 60).since_at == AT
    assert len(activity.recent("a", AT + 5 * SECOND, 60).seconds) == 2
    activity.count("b", AT + 6 * SECOND, {"job.created": 1}, 9)
    assert activity.recent("b", AT + 6 * SECOND, 60).since_at == AT + 2 * SECOND


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(1, 9)), max_size=60))
def test_the_ring_says_what_a_list_of_everything_would(steps: list[tuple[int, int]]) -> None:
    activity = Activity()
    for second, number in sorted(steps):
        activity.count("t", AT + second * SECOND, {"job.started": number}, 1)
    newest = max((second for second, _ in steps), default=0)
    expected: dict[int, int] = {}
    for second, number in sorted(steps):
        if second > newest - WINDOW_S:
            at = AT + second * SECOND
            expected[at] = expected.get(at, 0) + number
    shown = activity.recent("t", AT + newest * SECOND, WINDOW_S).seconds
    assert {at: counts.started for at, counts in shown} == expected


async def test_a_commit_whose_answer_was_lost_is_counted_once(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with memory_engine(store=store) as engine:
        lost = store.calls["commit"] + 1
        store.plan = fail_call("commit", Fault(lost=True), first=lost)
        await engine.gateway.submit("t", PRODUCER, [new_job(engine)], None)
        recent = engine.ledger.state.activity.recent("t", engine.clock.moment().at, 60)
        assert sum(counts.created for _, counts in recent.seconds) == 1
        assert engine.ledger.transitions["job.created"] == 1
        assert recent.newest_seq == (await store.heads(["t"]))["t"].next_seq - 1


class CountedKinds(Mapping[str, int]):
    """Counts how often it is looked into."""

    def __init__(self, kinds: dict[str, int]) -> None:
        self._kinds = kinds
        self.reads = 0

    def __getitem__(self, kind: str) -> int:
        self.reads += 1
        return self._kinds[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def test_a_commit_costs_the_tally_a_step_a_kind_however_many_entries_and_tenants_there_are() -> (
    None
):
    activity = Activity()
    for number in range(50):
        activity.count(f"t{number}", AT, {"job.created": 1}, number)
    kinds = CountedKinds({"job.created": 300, "job.scheduled": 300_000, "worker.connected": 9})
    for second in range(2 * WINDOW_S):
        activity.count("t0", AT + second * SECOND, kinds, second)
    assert kinds.reads == 2 * WINDOW_S * len(kinds)
