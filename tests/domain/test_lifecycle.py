"""The transition table against the specification's, written out here a second time."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobengine.core.lease_shard.draft import Draft
from jobengine.domain.errors import ErrorCode
from jobengine.domain.instant import Moment
from jobengine.domain.job import (
    FINAL,
    TRANSITIONS,
    Job,
    Reason,
    State,
    Trigger,
    allowed_targets,
    find_transition,
    refuse_transition,
)
from jobengine.messages.lease_shard import Actor
from tests.core.shard_driver import stored_job
from tools.lifecycle import page

CANCELS = {"user_cancelled", "upstream_failed", "expired", "run_cancelled"}
SPECIFIED = {
    (None, "pending"): ("create", "job.created", set()),
    ("pending", "scheduled"): ("release", "job.scheduled", set()),
    ("pending", "cancelled"): ("cancel", "job.cancelled", CANCELS | {"skipped"}),
    ("scheduled", "cancelled"): ("cancel", "job.cancelled", CANCELS),
    ("scheduled", "running"): ("grant", "job.started", set()),
    ("running", "completed"): ("complete", "job.completed", set()),
    ("running", "failed"): ("fail", "job.failed", {"error", "lease_expired", "timed_out"}),
    ("running", "scheduled"): ("give_back", "job.released", set()),
    ("running", "cancelled"): ("stop", "job.cancelled", CANCELS),
    ("failed", "scheduled"): ("retry", "job.retried", set()),
}
SOURCES = (None, *State)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(SOURCES, State)))
def test_a_pair_of_states_is_legal_exactly_when_the_specification_says_so(
    source: State | None, target: State
) -> None:
    found = find_transition(source, target)
    specified = SPECIFIED.get((source, target))
    assert (found is None) == (specified is None)
    assert (target in allowed_targets(source)) == (specified is not None)
    if found is not None and specified is not None:
        assert (found.trigger, found.event, set(found.reasons)) == specified


@pytest.mark.parametrize(("source", "trigger"), list(itertools.product(SOURCES, Trigger)))
def test_a_trigger_leads_from_a_state_to_one_state_at_most(
    source: State | None, trigger: Trigger
) -> None:
    targets = [row.target for row in TRANSITIONS if (row.source, row.trigger) == (source, trigger)]
    specified = [
        to for (from_, to), row in SPECIFIED.items() if (from_, row[0]) == (source, trigger)
    ]
    assert targets == specified
    assert len(targets) <= 1


def test_final_states_are_those_without_a_way_out_and_failed_is_left_by_a_retry_only() -> None:
    assert {state for state in State if not allowed_targets(state)} == FINAL
    assert allowed_targets(State.FAILED) == (State.SCHEDULED,)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_a_refusal_names_the_pair_and_what_would_be_legal(source: State, target: State) -> None:
    refusal = refuse_transition("j", source, target)
    assert refusal.code is ErrorCode.ILLEGAL_TRANSITION
    assert refusal.details["from"] == source
    assert refusal.details["to"] == target
    legal = [to for from_, to in SPECIFIED if from_ == source]
    assert sorted(refusal.details["allowed"]) == sorted(legal)


def test_the_diagram_in_the_documents_is_made_from_the_table() -> None:
    document = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert document.read_text() == page()


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_a_draft_takes_legal_steps_only(source: State, target: State) -> None:
    job = stored_job(1, source, attempt=1)
    draft = Draft("acme", 0, Actor("a"), Moment(0.0, 5), 60)
    draft.open()
    if (source, target) not in SPECIFIED:
        with pytest.raises(AssertionError):
            draft.step(job, target)
        assert (job.state, draft.changes.entries) == (source, [])
        return
    draft.step(job, target)
    draft.close(job, source)
    [entry], [row] = draft.changes.entries, draft.changes.rows
    assert (entry.from_, entry.to, entry.about is not None) == (source, target, True)
    assert (row.from_state, row.state, draft.changes.spans) == (source, target, [(0, 1)])
    assert (row.rank is not None) == (target is State.SCHEDULED)
    assert (row.worker_id is None) or target is State.RUNNING


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(State), st.sampled_from((None, *Reason))), max_size=25))
def test_random_walks_leave_a_history_that_joins_up(
    steps: list[tuple[State, Reason | None]],
) -> None:
    job = stored_job(1, State.PENDING)
    draft = Draft("acme", 0, Actor("a"), Moment(0.0, 5), 60)
    draft.create(job)
    for target, reason in steps:
        before = job.state
        specified = SPECIFIED.get((before, target))
        legal = specified is not None and (
            reason is None or not specified[2] or reason in specified[2]
        )
        if legal:
            take(draft, job, target, reason)
        else:
            with pytest.raises(AssertionError):
                draft.step(job, target, reason=reason)
            assert job.state is before
    walk = [(entry.from_, entry.to) for entry in draft.changes.entries]
    assert walk[0] == (None, "pending")
    assert all(pair in SPECIFIED for pair in walk)
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(walk))
    assert job.state == walk[-1][1]


def take(draft: Draft, job: Job, target: State, reason: Reason | None) -> None:
    draft.step(job, target, reason=reason)
    assert job.state is target
    assert job.reason == reason
