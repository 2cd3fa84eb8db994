"""States, trigger rules, hashes and ids of runs."""

from collections.abc import Sequence
from itertools import product
from typing import Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.canonical import canonical_of
from jobengine.domain.job import State
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import (
    ENDED,
    ERRORS_MAX,
    RUN_TRANSITIONS,
    JobIds,
    RunDefinition,
    RunState,
    end_of_run,
    find_run_transition,
    inputs_hash,
    outputs_hash,
    refuse_run_transition,
    roll_up,
)
from jobengine.domain.trigger_rule import TriggerRule, Verdict, judge

AT: Final = 1_767_225_600_123_456


def test_a_run_only_goes_forward() -> None:
    order = list(RunState)
    for row in RUN_TRANSITIONS:
        assert row.source is None or order.index(row.source) < order.index(row.target)
        assert row.source not in ENDED
    assert {row.target for row in RUN_TRANSITIONS} == set(RunState)


@pytest.mark.parametrize("pair", list(product(RunState, RunState)))
def test_every_pair_of_states_is_a_row_or_refused(pair: tuple[RunState, RunState]) -> None:
    refusal = refuse_run_transition("r", *pair)
    assert (refusal is None) == (find_run_transition(*pair) is not None)
    if refusal is not None:
        assert refusal.details["from"] == pair[0]
        assert str(pair[1]) not in refusal.details["allowed"]


def naive(rule: TriggerRule, states: Sequence[State | None]) -> Verdict:
    """The rule in words, over the dependencies one by one."""
    done = all(state is not None for state in states)
    succeeded = [state is State.COMPLETED for state in states]
    failed = [state is State.FAILED for state in states]
    if not states:
        return Verdict.FIRE
    hopeless, fires = False, done
    match rule:
        case TriggerRule.ALL_SUCCEEDED:
            hopeless = any(state in (State.FAILED, State.CANCELLED) for state in states)
            fires = all(succeeded)
        case TriggerRule.ANY_SUCCEEDED:
            hopeless, fires = done and not any(succeeded), any(succeeded)
        case TriggerRule.ANY_FAILED:
            hopeless, fires = done and not any(failed), any(failed)
        case TriggerRule.NONE_FAILED:
            hopeless, fires = any(failed), done and not any(failed)
    return Verdict.FIRE if fires else Verdict.NEVER if hopeless else Verdict.WAIT


STATES = (None, State.COMPLETED, State.FAILED, State.CANCELLED)


@pytest.mark.parametrize("rule", list(TriggerRule))
def test_a_rule_says_what_its_name_says(rule: TriggerRule) -> None:
    for size in range(5):
        for states in product(STATES, repeat=size):
            said = judge(
                rule,
                succeeded=states.count(State.COMPLETED),
                failed=states.count(State.FAILED),
                cancelled=states.count(State.CANCELLED),
                left=states.count(None),
            )
            assert said is naive(rule, states), states


ends = st.sampled_from(["succeeded", "failed", "cancelled"])


@given(st.sampled_from(TriggerRule), st.lists(ends, min_size=1))
def test_a_verdict_stays_and_nothing_waits_for_ever(rule: TriggerRule, ended: list[str]) -> None:
    counts = {"succeeded": 0, "failed": 0, "cancelled": 0, "left": len(ended)}
    verdict = judge(rule, **counts)
    for end in ended:
        counts[end] += 1
        counts["left"] -= 1
        later = judge(rule, **counts)
        assert verdict in (Verdict.WAIT, later)
        verdict = later
    assert verdict is not Verdict.WAIT


def test_the_definition_is_canonical_json_as_it_is_encoded() -> None:
    node = Node(
        key="m", kind=NodeKind.MAP, depends_on=("b", "a"), digest="0" * 64,
        trigger=TriggerRule.ALL_DONE, join=TriggerRule.NONE_FAILED, of="x",
    )  # fmt: skip
    definition = RunDefinition(
        dag_id="d", dag_version=1, fail_fast=True, inputs_digest="1" * 64, jobs=(node,)
    )
    text = msgspec.json.encode(definition)
    assert text == canonical_of(msgspec.to_builtins(definition))
    assert b'"dependsOn":["b","a"],"digest":' in text


def test_equal_inputs_have_one_hash_in_whatever_order_and_others_another() -> None:
    a, b = Node(key="a"), Node(key="b")
    jobs = (a, b, Node(key="c", depends_on=("a", "b")))
    turned = (Node(key="c", depends_on=("b", "a")), b, a)
    first = inputs_hash(RunDefinition(jobs=jobs))
    assert first == inputs_hash(RunDefinition(jobs=turned))
    assert len(first) == 64
    others = {
        inputs_hash(RunDefinition(jobs=jobs, fail_fast=True)),
        inputs_hash(RunDefinition(jobs=jobs[:2])),
        inputs_hash(RunDefinition(jobs=jobs, inputs_digest="0" * 64)),
        inputs_hash(RunDefinition(jobs=(Node(key="a", digest="0" * 64), *jobs[1:]))),
    }
    assert len(others | {first}) == 5


def test_outputs_have_one_hash_in_whatever_order_nodes_came() -> None:
    done, failed = State.COMPLETED, State.FAILED
    one = outputs_hash(["a", "b"], [done, failed], {0: "x"})
    assert one == outputs_hash(["b", "a"], [failed, done], {1: "x"})
    assert one != outputs_hash(["a", "b"], [done, failed], {0: "y"})
    assert one != outputs_hash(["a", "b"], [done, done], {0: "x"})


def test_a_roll_up_counts_all_and_names_some_of_the_failed() -> None:
    keys = [f"k{number:03}" for number in reversed(range(300))]
    states = [State.FAILED] * 200 + [State.COMPLETED] * 60 + [State.CANCELLED] * 40
    rolled = roll_up(keys, states, {}, {199: "timeout"})
    assert (rolled.failed, rolled.completed, rolled.cancelled) == (200, 60, 40)
    assert len(rolled.errors) == ERRORS_MAX
    assert (rolled.errors[0].key, rolled.errors[0].error) == ("k100", "timeout")


def test_how_a_run_ends_follows_from_its_nodes() -> None:
    def end(*states: State, cancel_requested: bool = False, interrupted: bool = False) -> RunState:
        rolled = roll_up([str(n) for n in range(len(states))], states, {}, {})
        return end_of_run(rolled, cancel_requested=cancel_requested, interrupted=interrupted)

    done, failed, cancelled = State.COMPLETED, State.FAILED, State.CANCELLED
    assert end(done, done) is RunState.COMPLETED
    assert end(done, cancelled) is RunState.COMPLETED
    assert end(done, cancelled, interrupted=True) is RunState.CANCELLED
    assert end(failed, cancelled, interrupted=True) is RunState.FAILED
    assert end(failed, done, cancel_requested=True) is RunState.CANCELLED


def test_job_ids_are_version_7_and_follow_from_tenant_token_and_key() -> None:
    ids = JobIds("demo", "token", AT)
    made = UUID(ids.of("a"))
    assert str(made) == ids.of("a") == JobIds("demo", "token", AT + 500).of("a")
    assert (made.version, made.variant) == (7, UUID(int=1 << 63).variant)
    assert made.int >> 80 == AT // 1_000
    tails = {
        JobIds(tenant, token, AT).of(key)
        for tenant, token, key in [
            ("demo", "token", "a"), ("demo", "token", "b"), ("demo", "other", "a"),
            ("other", "token", "a"), ("demot", "oken", "a"), ("demo", "tokena", ""),
        ]
    }  # fmt: skip
    assert len(tails) == 6


def test_job_ids_sort_by_the_age_of_their_runs() -> None:
    old, new = JobIds("demo", "z", AT), JobIds("demo", "a", AT + 1_000)
    assert max(old.of(str(n)) for n in range(50)) < min(new.of(str(n)) for n in range(50))


def test_job_ids_of_a_large_run_are_distinct() -> None:
    ids = JobIds("demo", "token", AT)
    assert len({ids.of(f"n{number}") for number in range(100_000)}) == 100_000
