"""The auditor itself: dead letters, redrives, acts of operators, deadlines."""

from typing import Any

import pytest

from tests.sim.evidence_kit import EPOCH_AT, Case, refused

BY = "redriver-1"


def dead(*jobs: str) -> Case:
    """Jobs that have failed for good."""
    case = Case()
    for job in jobs:
        case.create(job, maxRetries=0)
        case.start(job)
        case.fail(job)
        case.end("job.dead_lettered", job)
    return case


def redrive(case: Case, **order: Any) -> None:
    order = {"createdAt": EPOCH_AT + len(case.entries) * 1_000_000} | order
    case.entry("deadletter.redrive_started", actor=BY, data={"order": order, "redriveId": "d1"})


def replay(case: Case, job: str, actor: str = BY) -> None:
    copy = f"{job}-{len(case.entries)}"
    case.create(copy, replayOf=job)
    case.entries[-2]["actor"] = actor
    case.start(copy)
    case.complete(copy)


def move(case: Case, step: str, replayed: int) -> None:
    data = {"failed": 0, "redriveId": "d1", "replayed": replayed}
    case.entry(f"deadletter.redrive_{step}", data=data)


def redriven(*steps: str, **order: Any) -> Case:
    """Two letters; what a redrive does, step by step: jobs that it replays, and moves with what
    they count."""
    case = dead("a", "b")
    redrive(case, **order)
    for step in steps:
        name, _, count = step.partition(" ")
        if count:
            move(case, name, int(count))
        else:
            replay(case, name)
    return case


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        (("b", "a", "completed 2"), ""),
        (("b", "paused 1", "resumed 1", "a", "completed 2"), ""),
        (("b", "stopped 1"), ""),
        (("b", "completed 1"), "R32"),
        (("b", "b", "stopped 2"), "R32"),
        (("b", "paused 1", "a", "stopped 2"), "R32"),
        (("b", "stopped 1", "a"), "R32"),
        (("b", "stopped 2"), "R32"),
        (("b", "a"), "R32"),
    ],
)
def test_a_redrive_that_repeats_omits_miscounts_or_goes_on_breaks_r32(
    steps: tuple[str, ...], rule: str
) -> None:
    assert refused(redriven(*steps)) == rule


def test_a_redrive_of_other_letters_than_it_may_or_beyond_its_cap_breaks_r32() -> None:
    assert refused(redriven("b", "completed 1", lettersMax=1)) == ""
    assert refused(redriven("b", "a", "completed 2", lettersMax=1)) == "R32"
    assert refused(redriven("b", "a", "completed 2", jobType="scan")) == ""
    assert refused(redriven("completed 0", jobType="fetch")) == ""
    assert refused(redriven("b", "stopped 1", jobType="fetch")) == "R32"
    assert refused(redriven("b", "stopped 1", createdAt=EPOCH_AT)) == "R32"


def test_letters_that_ledger_and_store_do_not_agree_on_break_r31() -> None:
    case = dead("a")
    case.letters = {"a"}
    assert refused(case) == ""
    case.letters = set()
    assert refused(case) == "R31"
    replay(case, "a", actor="somebody")
    assert refused(case) == ""


def test_an_act_that_left_no_trace_or_was_done_twice_breaks_r33() -> None:
    case = dead("a")
    case.ask(1, "replay", "k", jobId="a")
    case.answer(1, jobId="x")
    assert refused(case) == "R33"
    replay(case, "a", actor="operator")
    assert refused(case) == ""
    replay(case, "a", actor="operator")
    assert refused(case) == "R33"


def test_a_job_that_waits_behind_its_expiry_or_expires_before_it_breaks_r34() -> None:
    for cancelled_at, rule in ((8, "R34"), (11, ""), (15, "R34")):
        case = Case()
        case.create("a", expiresAt=EPOCH_AT + 10_000_000)
        while len(case.entries) < cancelled_at - 1:
            case.entry("something")
        case.entry("job.cancelled", "a", **{"from": "scheduled"}, to="cancelled", reason="expired")
        assert refused(case) == rule, cancelled_at
