"""Fair queueing: shares by weight and cost, nobody starved, nothing saved up."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.deficit_ring import DeficitRing
from jobengine.core.fair_queue import (
    BACKGROUND,
    COST_MAX,
    NORMAL,
    WEIGHT_MAX,
    FairRounds,
    Flow,
    Head,
)

A, B, C = ("npm", "scan"), ("npm", "index"), ("pypi", "scan")
FLOWS = [(source, kind) for source in ("npm", "osv", "pypi") for kind in ("index", "scan")]
COSTS = st.one_of(st.integers(1, 5), st.integers(1, 2_000), st.just(COST_MAX))


def selections(rounds: FairRounds, count: int) -> list[Flow | None]:
    return [rounds.select() for _ in range(count)]


def test_flows_of_equal_weight_alternate_and_sources_share_whatever_types_they_have() -> None:
    rounds = FairRounds()
    rounds.begin({A: Head(1), B: Head(1), C: Head(1)})
    assert Counter(selections(rounds, 400)) == {A: 100, B: 100, C: 200}
    assert sorted(map(str, selections(rounds, 4))) == sorted(map(str, (A, B, C, C)))


def test_weights_share_sources_of_a_tenant_and_types_of_a_source() -> None:
    rounds = FairRounds()
    rounds.set_weight("npm", 3)
    rounds.begin({A: Head(1), B: Head(1), C: Head(1)})
    rounds.set_weight(A, 4)
    assert Counter(selections(rounds, 2_000)) == {A: 1_200, B: 300, C: 500}
    rounds.set_weight("npm", 1)
    rounds.set_weight(A, 1)
    counts = Counter(selections(rounds, 2_000))
    assert all(abs(counts[flow] - share) <= 8 for flow, share in ((A, 500), (B, 500), (C, 1_000)))


def test_service_is_counted_by_cost() -> None:
    rounds = FairRounds()
    rounds.begin({A: Head(5), C: Head(1)})
    assert Counter(selections(rounds, 600)) == {A: 100, C: 500}


def test_a_head_that_costs_a_million_quanta_is_reached_in_one_step() -> None:
    rounds = FairRounds()
    rounds.begin({A: Head(COST_MAX), C: Head(COST_MAX)})
    assert Counter(selections(rounds, 1_000)) == {A: 500, C: 500}


def test_rounds_that_serve_nobody_give_each_flow_its_quanta_and_no_more() -> None:
    ring: DeficitRing[str] = DeficitRing(quantum=2)
    for key, cost in (("a", 31), ("b", 20), ("c", 21)):
        ring.offer(key, cost)
    turn = ring.peek()
    assert turn is not None
    assert (turn.key, turn.deficit) == ("b", 20)
    ring.drop("b")
    ring.offer("a", 21)
    turn = ring.peek()
    assert turn is not None
    assert (turn.key, turn.deficit) == ("a", 22)
    ring.charge(turn)
    turn = ring.peek()
    assert turn is not None
    assert (turn.key, turn.deficit) == ("c", 22)


def test_an_idle_flow_comes_back_with_nothing_saved_up() -> None:
    rounds = FairRounds(quantum=100)
    rounds.begin({A: Head(1), C: Head(1)})
    assert selections(rounds, 10) == [A] * 10
    rounds.idle(A)
    assert selections(rounds, 1_000) == [C] * 1_000
    rounds.offer(A, 1)
    counts = Counter(selections(rounds, 1_000))
    assert abs(counts[A] - counts[C]) <= 100


def test_a_withheld_flow_goes_on_where_its_turn_was_broken_off() -> None:
    rounds = FairRounds(quantum=100)
    rounds.begin({A: Head(1), C: Head(1)})
    assert selections(rounds, 10) == [A] * 10
    rounds.withhold(A)
    assert selections(rounds, 1_000) == [C] * 1_000
    rounds.begin({A: Head(1), C: Head(1)})
    after = selections(rounds, 1_000)
    assert abs(after.count(A) - after.count(C)) <= 200
    assert after.count(A) > 0


def test_gates_that_open_and_close_give_no_flow_more_than_a_turn() -> None:
    """A flow that is withheld at each of its turns must not gather a quantum a time."""
    ring: DeficitRing[str] = DeficitRing(quantum=100)
    for _ in range(50):
        ring.offer("a", 100)
        ring.offer("b", 100)
        turn = ring.peek()
        assert turn is not None
        ring.withhold(turn.key)
        other = ring.peek()
        assert other is not None
        ring.charge(other)
    ring.drop("b")
    ring.offer("a", 1)
    ring.offer("c", 1)
    run = 0
    while (turn := ring.peek()) is not None and turn.key == "a":
        ring.charge(turn)
        run += 1
    assert run <= 200


def test_flows_that_only_some_sessions_take_are_served_in_turn() -> None:
    """Every other step offers one flow alone; it must not push the turns of the others on."""
    rounds = FairRounds()
    served: Counter[Flow | None] = Counter()
    for _ in range(300):
        for heads in ({A: Head(1)}, {A: Head(1), B: Head(1), ("npm", "diff"): Head(1)}):
            rounds.begin(heads)
            served[rounds.select()] += 1
    assert min(served[B], served[("npm", "diff")]) >= 149


def test_background_work_waits_for_all_normal_work_and_then_is_shared_too() -> None:
    rounds = FairRounds()
    rounds.begin({A: Head(1, BACKGROUND), B: Head(1, BACKGROUND), C: Head(1)})
    assert selections(rounds, 50) == [C] * 50
    rounds.idle(C)
    assert Counter(selections(rounds, 50)) == {A: 25, B: 25}
    rounds.offer(A, 1, NORMAL)
    assert selections(rounds, 50) == [A] * 50
    rounds.withhold(A)
    assert selections(rounds, 50) == [B] * 50


def test_nothing_offered_selects_nothing() -> None:
    rounds = FairRounds()
    assert rounds.select() is None
    rounds.offer(A, 1)
    rounds.withhold(A)
    assert rounds.select() is None
    rounds.offer(A, 1)
    assert rounds.select() == A
    rounds.idle(A)
    rounds.idle(A)
    rounds.withhold(A)
    assert rounds.select() is None
    assert len(rounds) == 0


def test_flows_that_are_not_offered_are_forgotten_beyond_a_bound() -> None:
    rounds = FairRounds(flows_max=10)
    for number in range(1_000):
        rounds.begin({("s", f"t{number}"): Head(1), C: Head(1)})
        rounds.select()
        assert len(rounds) <= 10
    everything = {("s", f"t{number}"): Head(1) for number in range(100)}
    rounds.begin(everything)
    assert set(selections(rounds, 100)) == set(everything)


@pytest.mark.parametrize("cost", [0, -1, COST_MAX + 1])
def test_a_cost_out_of_range_is_refused(cost: int) -> None:
    with pytest.raises(ValueError, match="cost"):
        FairRounds().offer(A, cost)


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1])
def test_a_weight_out_of_range_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="weight"):
        FairRounds().set_weight("npm", weight)


def spread(served: list[tuple[int, int]], weights: tuple[int, int]) -> Fraction:
    """The largest |S_i / w_i − S_j / w_j| of all intervals, from running totals of the two."""
    ahead = [Fraction(i, weights[0]) - Fraction(j, weights[1]) for i, j in served]
    return max(ahead) - min(ahead)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    quantum=st.sampled_from((1, 7, 1_000)),
    weights=st.lists(st.integers(1, 20), min_size=6, max_size=6),
    source_weights=st.lists(st.integers(1, 20), min_size=3, max_size=3),
    heads=st.lists(COSTS, min_size=30, max_size=120),
    others=st.lists(st.tuples(st.sampled_from(FLOWS[2:]), st.integers(0, 2)), max_size=40),
)
def test_flows_that_stay_backlogged_are_served_within_the_bound(
    quantum: int,
    weights: list[int],
    source_weights: list[int],
    heads: list[int],
    others: list[tuple[Flow, int]],
) -> None:
    """The two flows of npm stay offered, and with them npm; the rest come and go, osv's first
    flow excepted, which makes a second source that stays."""
    rounds = FairRounds(quantum=quantum)
    for flow, weight in zip(FLOWS, weights, strict=True):
        rounds.set_weight(flow, weight)
    by_source = dict(zip(("npm", "osv", "pypi"), source_weights, strict=True))
    for source, weight in by_source.items():
        rounds.set_weight(source, weight)
    costs = {flow: heads[number] for number, flow in enumerate(FLOWS)}
    rounds.begin({flow: Head(cost) for flow, cost in costs.items()})
    first, second, stays = FLOWS[0], FLOWS[1], FLOWS[2]
    total: Counter[Flow | str] = Counter()
    within, between = [(0, 0)], [(0, 0)]
    changes = iter(others)
    for cost in heads:
        served = rounds.select()
        assert served is not None
        total[served] += costs[served]
        total[served[0]] += costs[served]
        costs[served] = cost
        rounds.offer(served, cost)
        within.append((total[first], total[second]))
        between.append((total["npm"], total["osv"]))
        other, what = next(changes, (stays, 0))
        if other != stays:
            change(rounds, other, what, costs[other])
    largest = max(heads)
    w = weights[:2]
    bound = quantum + Fraction(largest, w[0]) + Fraction(largest, w[1])
    assert spread(within, (w[0], w[1])) <= bound
    v = by_source["npm"], by_source["osv"]
    bound = quantum + Fraction(largest, v[0]) + Fraction(largest, v[1])
    assert spread(between, v) <= bound


def change(rounds: FairRounds, flow: Flow, what: int, cost: int) -> None:
    if what == 0:
        rounds.idle(flow)
    elif what == 1:
        rounds.withhold(flow)
    else:
        rounds.offer(flow, cost)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(FLOWS), COSTS, st.integers(0, 1)),
        st.tuples(
            st.sampled_from(("withhold", "idle")), st.sampled_from(FLOWS), st.just(1), st.just(0)
        ),
        st.tuples(st.just("select"), st.just(A), st.just(1), st.just(0)),
    ),
    max_size=80,
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(steps=STEPS, quantum=st.sampled_from((1, 50)))
def test_whatever_is_told_it_selects_what_is_offered_normal_first_and_the_same_every_time(
    steps: list[tuple[str, Flow, int, int]], quantum: int
) -> None:
    runs = []
    for _ in range(2):
        rounds, offered = FairRounds(quantum=quantum, flows_max=4), dict[Flow, int]()
        selected = []
        for what, flow, cost, tier in steps:
            if what == "offer":
                rounds.offer(flow, cost, tier)
                offered[flow] = tier
            elif what == "select":
                chosen = rounds.select()
                selected.append(chosen)
                assert (chosen is None) == (not offered)
                if chosen is not None:
                    assert offered.get(chosen) == min(offered.values())
            else:
                (rounds.idle if what == "idle" else rounds.withhold)(flow)
                offered.pop(flow, None)
        runs.append(selected)
    assert runs[0] == runs[1]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    costs=st.lists(st.integers(1, 3), min_size=6, max_size=6),
    steps=st.lists(st.tuples(st.sampled_from(FLOWS[1:]), st.integers(0, 2)), max_size=300),
)
def test_a_flow_that_stays_offered_is_served_soon_whatever_the_others_do(
    costs: list[int], steps: list[tuple[Flow, int]]
) -> None:
    rounds = FairRounds(quantum=3)
    cost_of = dict(zip(FLOWS, costs, strict=True))
    rounds.begin({flow: Head(cost) for flow, cost in cost_of.items()})
    waited = 0
    for flow, what in steps + [(FLOWS[1], 2)] * 60:
        change(rounds, flow, what, cost_of[flow])
        waited = 0 if rounds.select() == FLOWS[0] else waited + 1
        assert waited <= 60
