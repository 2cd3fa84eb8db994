"""The governor: one capacity, divided exactly among tenants of several shards."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.shares import MICRO, Want, divide
from jobengine.domain.governance import (
    CAPACITY_MAX,
    LISTED_MAX,
    Governance,
    Share,
    Strategy,
    refuse_governance,
)
from jobengine.messages.admission import Allot
from tests.core.governed_shards import SHARDS, World, policy

TENANTS = ("acme", "blue", "cyan", "dune", "echo")
LIMITED = ("proportional", "priority", "reserved", "max-limit")
MANY = 1_000

# ---- the division


def wants(*given: tuple[Share, int]) -> Sequence[Want]:
    return [Want(share, demand, 0) for share, demand in given]


@st.composite
def divisions(draw: st.DrawFn) -> tuple[Governance, Sequence[Want]]:
    capacity = draw(st.integers(1, 60))
    left = capacity
    shares = []
    for name in TENANTS[: draw(st.integers(1, len(TENANTS)))]:
        reserved = draw(st.integers(0, left))
        left -= reserved
        shares.append(
            Share(
                tenant_id=name,
                weight=draw(st.integers(1, 9)),
                priority=draw(st.integers(0, 2)),
                reserved=reserved,
                cap=draw(st.none() | st.integers(max(1, reserved), 60)),
            )
        )
    strategy = Strategy(draw(st.sampled_from(LIMITED)))
    asked = [
        Want(share, draw(st.integers(0, 80)), draw(st.integers(-MICRO, MICRO))) for share in shares
    ]
    return Governance(capacity=capacity, strategy=strategy, tenants=tuple(shares)), asked


@settings(max_examples=200, deadline=None)
@given(divisions())
def test_a_division_fits_wastes_nothing_and_is_fair_within_rounding(
    drawn: tuple[Governance, Sequence[Want]],
) -> None:
    rules, asked = drawn
    capacity = rules.capacity
    assert capacity is not None
    slots, in_turn = divide(rules, asked)
    assert sum(slots.values()) <= capacity
    reserved = {want.share.tenant_id: 0 for want in asked}
    if rules.strategy is Strategy.RESERVED:
        reserved = {want.share.tenant_id: want.share.reserved for want in asked}
    unmet = []
    for want in asked:
        name = want.share.tenant_id
        most = want.demand
        if rules.strategy is Strategy.MAX_LIMIT and want.share.cap is not None:
            most = min(most, want.share.cap)
        assert reserved[name] <= slots[name] <= max(most, reserved[name])
        if slots[name] < most:
            unmet.append(want)
        if name in in_turn:
            assert abs(slots[name] * MICRO - in_turn[name]) < MICRO
    if unmet:
        assert sum(slots.values()) == capacity
    for short in unmet:
        _is_not_behind(short, rules, asked, slots, reserved)


def _is_not_behind(
    short: Want,
    rules: Governance,
    asked: Sequence[Want],
    slots: Mapping[str, int],
    reserved: Mapping[str, int],
) -> None:
    """Nobody has more of what is shared, by weight, than who wants more; but for a slot."""
    mine = short.share
    for other in (want.share for want in asked):
        if rules.strategy is Strategy.PRIORITY:
            if other.priority < mine.priority:
                assert slots[other.tenant_id] == 0
            elif other.priority == mine.priority:
                assert slots[other.tenant_id] - 1 <= slots[mine.tenant_id]
            continue
        theirs = slots[other.tenant_id] - reserved[other.tenant_id]
        ours = slots[mine.tenant_id] - reserved[mine.tenant_id]
        assert (theirs - 1) * mine.weight <= (ours + 1) * other.weight


def test_each_strategy_divides_by_its_own_numbers_and_no_others() -> None:
    acme = Share(tenant_id="acme", weight=3, priority=1, reserved=2, cap=5)
    blue = Share(tenant_id="blue", weight=1, priority=2)
    both = wants((acme, 100), (blue, 100))
    expected = {
        "proportional": {"acme": 9, "blue": 3},
        "priority": {"acme": 0, "blue": 12},
        "reserved": {"acme": 10, "blue": 2},
        "max-limit": {"acme": 5, "blue": 7},
    }
    for strategy, slots in expected.items():
        rules = Governance(capacity=12, strategy=Strategy(strategy), tenants=(acme, blue))
        found = dict(divide(rules, both).slots)
        if strategy == "reserved":
            assert found in ({"acme": 10, "blue": 2}, {"acme": 9, "blue": 3})
        else:
            assert found == slots, strategy


def test_a_reserve_is_kept_free_while_its_tenant_wants_nothing() -> None:
    acme, blue = Share(tenant_id="acme", reserved=4), Share(tenant_id="blue")
    rules = Governance(capacity=10, strategy=Strategy.RESERVED, tenants=(acme, blue))
    assert divide(rules, wants((acme, 0), (blue, 100))).slots == {"acme": 4, "blue": 6}


# ---- policies that make no sense


@pytest.mark.parametrize(
    ("rules", "path", "words"),
    [
        (policy("proportional", 0), "capacity", ["1 to"]),
        (policy("proportional", -1), "capacity", ["1 to"]),
        (policy("proportional", CAPACITY_MAX + 1), "capacity", ["10,000,000"]),
        (Governance(strategy=Strategy.PRIORITY), "capacity", ["needed", "priority"]),
        (policy("proportional", 4, acme={"weight": 0}), "tenants[0].weight", ["acme"]),
        (policy("proportional", 4, acme={"weight": 1_001}), "tenants[0].weight", ["acme"]),
        (policy("priority", 4, acme={"priority": 10}), "tenants[0].priority", ["acme", "9"]),
        (policy("reserved", 4, acme={"reserved": -1}), "tenants[0].reserved", ["acme"]),
        (policy("max-limit", 4, acme={"cap": 0}), "tenants[0].cap", ["acme"]),
        (policy("max-limit", 9, a={"cap": 2, "reserved": 3}), "tenants[0].cap", ["a", "2", "3"]),
        (policy("reserved", 4, _system={}), "tenants[0].tenantId", ["_system"]),
        (
            policy("reserved", 10, acme={"reserved": 8}, blue={"reserved": 4}),
            "tenants",
            ["12 slots", "acme 8", "blue 4", "capacity is 10"],
        ),
        (
            policy("proportional", 10, acme={"reserved": 8}, blue={"reserved": 4}),
            "tenants",
            ["12 slots"],
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_names_and_numbers(
    rules: Governance, path: str, words: Sequence[str]
) -> None:
    refusal = refuse_governance(rules)
    assert refusal is not None
    assert refusal.details["path"] == path
    for word in words:
        assert word in refusal.message


def test_too_many_tenants_and_one_listed_twice_are_refused() -> None:
    many = tuple(Share(tenant_id=f"t{number}") for number in range(LISTED_MAX + 1))
    refusal = refuse_governance(Governance(tenants=many))
    assert refusal is not None
    assert "1,000" in refusal.message
    twice = refuse_governance(Governance(tenants=(many[0], many[1], many[0])))
    assert twice is not None
    assert "t0" in twice.message
    assert refuse_governance(Governance(tenants=many[:LISTED_MAX])) is None


# ---- the governor among its shards


def governed(rules: Governance) -> World:
    """Every shard obeys already."""
    world = World(rules)
    world.settle(0.1)
    return world


def test_unlimited_says_nothing_and_is_told_nothing() -> None:
    world = World()
    world.submit("acme", 50)
    world.settle()
    assert world.commands == []
    assert world.governor.wakeup_at is None
    assert world.running("acme") == 50


def test_two_backlogged_tenants_share_by_weight() -> None:
    world = governed(policy("proportional", 8, acme={"weight": 3}))
    world.submit("acme", MANY)
    world.submit("blue", MANY)
    world.settle()
    assert (world.running("acme"), world.running("blue")) == (6, 2)


def test_what_one_tenant_leaves_the_others_use_and_give_back() -> None:
    world = governed(policy("proportional", 8))
    world.submit("acme", MANY)
    world.settle()
    assert world.running("acme") == 8
    world.submit("blue", MANY)
    world.settle()
    assert world.running("blue") == 0
    for _ in range(4):
        world.finish("acme")
        world.settle()
    assert (world.running("acme"), world.running("blue")) == (4, 4)


def test_a_higher_class_goes_first_and_ties_share_equally() -> None:
    world = governed(policy("priority", 6, acme={"priority": 5}, blue={"priority": 5}))
    for tenant_id in ("cyan", "blue", "acme"):
        world.submit(tenant_id, MANY)
    world.settle()
    while world.running("cyan"):
        world.finish("cyan")
        world.settle()
    assert (world.running("acme"), world.running("blue")) == (3, 3)


def test_a_reserved_tenant_starts_at_once_whatever_the_others_want() -> None:
    world = governed(policy("reserved", 6, acme={"reserved": 2}))
    world.submit("blue", MANY)
    world.settle()
    assert world.running("blue") == 4
    world.submit("acme", 2)
    assert world.running("acme") == 2


def test_a_cap_holds_where_nobody_else_wants_the_slots_and_when_it_is_lowered() -> None:
    world = governed(policy("max-limit", 10, acme={"cap": 6}))
    world.submit("acme", MANY)
    world.settle()
    assert world.running("acme") == 6
    world.change(policy("max-limit", 10, acme={"cap": 2}))
    world.settle()
    assert (world.running("acme"), world.allotment("acme")) == (6, 2)
    world.finish("acme", 5)
    assert world.running("acme") == 2


def test_a_lowered_capacity_drains_and_stops_nothing() -> None:
    world = governed(policy("proportional", 10))
    world.submit("acme", MANY)
    world.settle()
    world.change(policy("proportional", 3))
    world.settle()
    assert world.running("acme") == 10
    for _ in range(7):
        world.finish("acme")
        world.settle(0.1)
    assert world.running("acme") == 3


def test_slots_taken_back_are_given_on_only_when_their_shard_has_said_so() -> None:
    world = governed(policy("proportional", 2))
    world.submit("acme", 2)
    world.settle()
    world.submit("blue", MANY)
    blue = world.shard("blue").number
    acme = world.shard("acme").number
    assert acme != blue
    world.shards[blue].tell()
    world.to_governor(blue)
    world.wait(0.02)
    assert [message.slots for message in world.shards[acme].inbox] == [1]
    world.wait(5.0)
    assert not world.shards[blue].inbox
    world.finish("acme")
    world.to_shard(acme)
    world.to_governor(acme)
    world.wait(0.02)
    assert [message.slots for message in world.shards[blue].inbox] == [1]


def test_what_was_said_before_an_allotment_arrived_frees_no_slot() -> None:
    world = governed(policy("proportional", 2))
    world.submit("acme", 2)
    world.settle()
    acme, blue = world.shard("acme"), world.shard("blue")
    world.submit("blue", MANY)
    blue.tell()
    world.to_governor(blue.number)
    world.wait(0.02)
    assert [message.slots for message in acme.inbox] == [1]
    world.finish("acme", 2)
    acme.tell()
    world.to_governor(acme.number)
    world.submit("acme", 2)
    assert (world.running("acme"), world.governor.held) == (2, 2)


def test_a_moment_without_work_does_not_cost_a_tenant_its_slots() -> None:
    world = governed(policy("proportional", 2))
    world.submit("acme", 1)
    world.submit("blue", MANY)
    world.settle()
    acme = world.shard("acme")
    world.finish("acme")
    acme.tell()
    world.to_governor(acme.number)
    world.wait(0.05)
    world.submit("acme", 1)
    acme.tell()
    world.to_governor(acme.number)
    world.settle(1.0)
    assert (world.running("acme"), world.allotment("acme")) == (1, 1)


def test_nobody_starves_where_there_are_more_tenants_than_slots() -> None:
    world = governed(policy("proportional", 2))
    served = dict.fromkeys(TENANTS, 0)
    for tenant_id in TENANTS:
        world.submit(tenant_id, MANY)
    for second in range(100):
        world.settle(1.0)
        for tenant_id in TENANTS:
            served[tenant_id] += world.running(tenant_id)
            # Jobs of three seconds: longer than a turn.
            if second % 3 == 0:
                world.finish(tenant_id, MANY)
    assert sum(served.values()) > 180
    assert min(served.values()) > 20


def test_more_weight_means_more_turns_of_the_odd_slot() -> None:
    world = governed(policy("proportional", 1, acme={"weight": 3}))
    served = {"acme": 0, "blue": 0}
    world.submit("acme", MANY)
    world.submit("blue", MANY)
    for _ in range(120):
        world.settle(1.0)
        for tenant_id in served:
            served[tenant_id] += world.running(tenant_id)
            world.finish(tenant_id)
    assert 2.0 <= served["acme"] / served["blue"] <= 4.0


def test_shards_that_restart_keep_their_share_and_nothing_else() -> None:
    world = governed(policy("proportional", 4))
    world.submit("acme", MANY)
    world.submit("blue", MANY)
    world.settle()
    for number in range(SHARDS):
        world.crash(number)
        assert world.running() <= 4
    world.settle()
    assert (world.running("acme"), world.running("blue")) == (2, 2)


def test_a_governor_that_restarts_asks_what_runs_and_goes_on() -> None:
    world = governed(policy("proportional", 4))
    world.submit("acme", MANY)
    world.settle()
    world.restart_governor()
    world.submit("blue", MANY)
    world.finish("acme", 2)
    assert world.running() == 4
    world.settle()
    world.finish("acme", 2)
    world.settle()
    assert (world.running("acme"), world.running("blue")) == (2, 2)


def test_a_governor_that_missed_the_end_of_governance_lets_its_shards_go() -> None:
    world = governed(policy("proportional", 1))
    world.submit("acme", 5)
    world.settle()
    world.policy = Governance()
    world.revision += 1
    world.restart_governor()
    world.settle()
    assert world.running("acme") == 5


def test_an_older_policy_that_is_told_late_changes_nothing() -> None:
    world = governed(policy("proportional", 2))
    world.change(policy("proportional", 5))
    world.revision = 0
    world.change(policy("proportional", 9))
    world.policy = policy("proportional", 5)
    world.submit("acme", MANY)
    world.settle()
    assert world.running("acme") == 5


def test_equal_histories_give_equal_commands() -> None:
    def history() -> list[object]:
        world = governed(policy("proportional", 7, acme={"weight": 2}))
        for tenant_id in TENANTS:
            world.submit(tenant_id, 20)
        world.settle(3.0)
        world.crash(1)
        world.settle(3.0)
        return world.commands

    first = history()
    assert any(isinstance(command, Allot) for command in first)
    assert first == history()


POLICIES = (
    policy("proportional", 5, acme={"weight": 3}),
    policy("proportional", 2),
    policy("priority", 4, acme={"priority": 2}, blue={"priority": 1}),
    policy("reserved", 6, acme={"reserved": 2}, blue={"reserved": 1}),
    policy("max-limit", 6, acme={"cap": 2}, blue={"cap": 3}),
    Governance(),
)
_tenant = st.sampled_from(TENANTS)
_shard = st.integers(0, SHARDS - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), _tenant, st.integers(1, 8)),
        st.tuples(st.just("finish"), _tenant, st.integers(1, 4)),
        st.tuples(st.just("to_shard"), _shard),
        st.tuples(st.just("to_governor"), _shard),
        st.tuples(st.just("tell"), _shard),
        st.tuples(st.just("wait"), st.sampled_from((0.01, 0.1, 1.1))),
        st.tuples(st.just("settle"), st.just(0.1)),
        st.tuples(st.just("crash"), _shard, st.booleans()),
        st.tuples(st.just("restart_governor")),
        st.tuples(st.just("change"), st.sampled_from(POLICIES)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(POLICIES), STEPS)
def test_what_runs_never_exceeds_the_capacity_and_no_slot_is_lost(
    first: Governance, steps: list[tuple[Any, ...]]
) -> None:
    world = World(first)
    for name, *arguments in steps:
        match name:
            case "tell":
                world.shards[arguments[0]].tell()
            case "crash":
                number, loses_one = arguments
                world.crash(number, loses_one=loses_one)
            case _:
                getattr(world, str(name))(*arguments)
    _everything_ends_well(world)


def _everything_ends_well(world: World) -> None:
    """Left alone, with jobs that end, every tenant runs what it is due."""
    world.settle(0.3)
    for tenant_id in TENANTS:
        world.submit(tenant_id, MANY)
    for _ in range(4):
        world.settle(0.3)
        for tenant_id in TENANTS:
            world.finish(tenant_id, 100)
    world.settle(0.3)
    rules = world.policy
    if rules.capacity is None or rules.strategy is Strategy.UNLIMITED:
        return
    assert world.running() == world.governor.held == rules.capacity
    for share in rules.tenants:
        running = world.running(share.tenant_id)
        if rules.strategy is Strategy.RESERVED:
            assert running >= share.reserved
        if rules.strategy is Strategy.MAX_LIMIT and share.cap is not None:
            assert running <= share.cap
