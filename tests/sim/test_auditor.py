"""The auditor itself: of each rule a small run that keeps it, and one that breaks it."""

from collections.abc import Callable
from typing import Any

import pytest

from jobengine.testing.sim.audited import AuditedLedger, ViolationError
from jobengine.testing.sim.auditor import judge
from tests.sim.evidence_kit import TENANT, WORKER, Case, block, lease, refused, whole

Change = Callable[[Case], None]


def test_a_run_that_keeps_every_rule_is_not_held_against_anybody() -> None:
    judge(whole().evidence())


# ---- the ledger by itself


def test_a_ledger_with_a_gap_or_another_link_breaks_r1() -> None:
    first = block([{"seq": 1, "kind": "x"}])
    good = block([{"seq": 2, "kind": "x"}], first.link)
    AuditedLedger(TENANT, [first, good])
    for bad in (
        block([{"seq": 3, "kind": "x"}], first.link),
        block([{"seq": 2, "kind": "x"}]),
        block([{"seq": 2, "kind": "x"}, {"seq": 4, "kind": "x"}], first.link),
    ):
        with pytest.raises(ViolationError, match="R1"):
            AuditedLedger(TENANT, [first, bad])


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.create("a"),
        lambda case: case.entry("job.scheduled", "a"),
        lambda case: case.entry("job.scheduled", "nobody"),
        lambda case: case.entry("job.completed", "a", attempt=1),
    ],
    ids=["created twice", "scheduled twice", "nobody's", "never ran"],
)
def test_a_step_that_the_table_does_not_have_breaks_r2(change: Change) -> None:
    case = whole()
    change(case)
    with pytest.raises(ViolationError, match="R2"):
        case.ledger()


def test_an_attempt_that_does_not_count_on_breaks_r3() -> None:
    case = Case()
    case.create("a")
    case.start("a", attempt=2)
    with pytest.raises(ViolationError, match="R3"):
        case.ledger()


# ---- requests


def test_a_job_that_was_told_of_and_is_not_there_breaks_r4() -> None:
    case = whole()
    outcome = {"outcome": "existing", "jobId": "gone", "refusal": None}
    case.ask(2, "submit", jobs=[{"jobType": "scan", "payload": {}}])
    case.answer(2, outcomes=[outcome])
    assert refused(case) == "R4"


def test_an_answer_before_its_commit_breaks_r4() -> None:
    case = whole()
    case.ask(2, "cancel", jobId="a")
    case.answer(2, at=0.5)
    assert refused(case) == "R4"


def test_a_key_with_two_effects_or_two_answers_breaks_r5() -> None:
    case = whole()
    case.entries[0]["data"]["uniqueKey"] = None
    twin = case.entries[0]["data"]
    case.entry("job.created", "b", data=twin)
    assert refused(case) == "R5"
    case = whole()
    case.create("b")
    case.ask(1, "submit", "k", jobs=[])
    case.answer(1, outcomes=[{"outcome": "existing", "jobId": "b", "refusal": None}])
    assert refused(case) == "R5"


def test_a_job_that_is_not_what_was_asked_for_breaks_r6() -> None:
    case = whole()
    case.entries[0]["data"]["priority"] = 9
    assert refused(case) == "R6"


def test_a_cancel_that_left_no_trace_breaks_r6() -> None:
    case = Case()
    case.create("a")
    case.ask(1, "cancel", jobId="a")
    case.answer(1)
    assert refused(case) == "R6"


def test_a_unique_key_that_names_a_job_that_had_ended_breaks_r29() -> None:
    def asking(scope: dict[str, Any], *, ended: bool) -> Case:
        case = Case()
        case.create("a", uniqueKey="u", **scope)
        case.start("a")
        if ended:
            case.complete("a")
        case.ask(1, "submit", jobs=[{"jobType": "scan", "payload": {}, "uniqueKey": "u"}])
        case.answer(1, outcomes=[{"outcome": "existing", "jobId": "a", "refusal": None}])
        if not ended:
            case.complete("a")
        return case

    assert refused(asking({}, ended=False)) == ""
    assert refused(asking({}, ended=True)) == "R29"
    assert refused(asking({"uniqueScope": "window", "uniqueWindowUs": 9}, ended=True)) == ""


def test_a_repeat_of_a_request_may_name_what_has_ended_since() -> None:
    case = Case()
    case.create("a", uniqueKey="u")
    case.ask(1, "submit", "k", jobs=[{"jobType": "scan", "payload": {}, "uniqueKey": "u"}])
    case.start("a")
    case.complete("a")
    case.ask(2, "submit", "k", jobs=[{"jobType": "scan", "payload": {}, "uniqueKey": "u"}])
    case.answer(2, outcomes=[{"outcome": "existing", "jobId": "a", "refusal": None}])
    assert refused(case) == ""


# ---- leases


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.tell_lease("a", worker="w2"),
        lambda case: case.tell_lease("a", attempt=2),
        lambda case: case.tell_lease("a", token=7),
        lambda case: case.hear(case.journal.heard[0].message, at=2.5),
    ],
    ids=["another worker", "never committed", "another token", "before its commit"],
)
def test_a_lease_that_is_anothers_or_not_committed_breaks_r7(change: Change) -> None:
    case = whole()
    change(case)
    assert refused(case) == "R7"


def test_a_token_that_does_not_grow_breaks_r7() -> None:
    case = Case()
    case.create("a")
    case.start("a")
    case.tell_lease("a", token=5)
    case.end("job.failed", "a", actor="engine", reason="lease_expired")
    case.entry("job.retried", "a", spanUs=0)
    case.start("a", attempt=2)
    case.tell_lease("a", attempt=2, token=5)
    assert refused(case) == "R7"


def test_an_ack_of_what_is_not_in_the_ledger_yet_or_at_all_breaks_r8() -> None:
    case = whole()
    case.hear({"op": "ack", "ref": "a.1"}, at=3.9)
    assert refused(case) == "R8"
    case = Case()
    case.create("a")
    case.start("a")
    case.tell_lease("a")
    case.say("complete", lease("a"))
    case.hear({"op": "ack", "ref": "a.1"})
    assert refused(case) == "R8"


def test_an_end_that_only_an_earlier_owner_reported_breaks_r9() -> None:
    case = Case()
    case.create("a", steps=["complete"])
    case.start("a")
    case.tell_lease("a")
    case.say("complete", lease("a"))
    case.end("job.failed", "a", actor="engine", reason="lease_expired")
    case.entry("job.retried", "a", spanUs=1_000_000)
    case.start("a", attempt=2, worker="w2")
    case.tell_lease("a", attempt=2, worker="w2")
    case.end("job.completed", "a", attempt=2)
    assert refused(case) == "R9"


def silent(words_at: list[float], struck: list[tuple[float, str]]) -> Case:
    case = Case(struck=struck)
    case.create("a", leaseUs=2_000_000)
    case.start("a")
    for _ in range(8):
        case.entry("something")
    case.complete("a")
    case.journal.arrivals[WORKER] = words_at
    return case


def test_a_lease_that_outlives_its_workers_silence_breaks_r10() -> None:
    assert refused(silent([], [])) == "R10"
    assert refused(silent([5.0, 7.0, 10.0], [])) == ""
    assert refused(silent([], [(4.0, "store.outage")])) == ""
    assert refused(silent([], [(4.0, "link.cut")])) == "R10"


def test_a_lease_behind_an_acked_drain_breaks_r11() -> None:
    case = whole()
    case.say("drain", ref=9)
    case.hear({"op": "ack", "ref": 9})
    assert refused(case) == ""
    case.tell_lease("a")
    assert refused(case) == "R11"


# ---- ends


def test_a_job_that_goes_on_behind_its_cancel_breaks_r28() -> None:
    def cancelled(end: str) -> Case:
        case = Case()
        case.create("a", maxRetries=0)
        case.start("a")
        case.tell_lease("a")
        case.entry("job.cancel_requested", "a")
        case.say("fail" if end == "job.failed" else "complete", lease("a"))
        steps: dict[str, Any] = {"from": "running", "to": end.removeprefix("job.")}
        case.end(end, "a", **steps)
        return case

    for end, rule in (("job.completed", ""), ("job.cancelled", ""), ("job.failed", "R28")):
        assert refused(cancelled(end)) == rule, end


def test_a_job_that_never_ends_breaks_r12() -> None:
    case = Case()
    case.create("a", scheduled=False)
    assert refused(case) == "R12"


def test_a_job_that_completes_where_it_was_to_fail_breaks_r13() -> None:
    case = Case()
    case.run_through("a", steps=["fail"])
    assert refused(case) == "R13"


def failing(retries: int, *, retried: int, buried: bool, delay_us: int = 1_000_000) -> Case:
    case = Case()
    backoff = {"kind": "fixed", "baseUs": 1_000_000, "jitter": "none"}
    case.create("a", maxRetries=retries, backoff=backoff)
    for attempt in range(1, retried + 2):
        case.start("a", attempt)
        case.fail("a", attempt)
        if attempt <= retried:
            case.entry("job.retried", "a", spanUs=delay_us)
    if buried:
        case.end("job.dead_lettered", "a", retried + 1)
    return case


def test_retries_are_as_many_as_the_policy_has_or_r14_is_broken() -> None:
    assert refused(failing(1, retried=1, buried=True)) == ""
    assert refused(failing(1, retried=0, buried=True)) == "R14"
    assert refused(failing(1, retried=2, buried=True)) == "R14"
    assert refused(failing(1, retried=1, buried=False)) == "R14"
    assert refused(failing(1, retried=1, buried=True, delay_us=2)) == "R14"


def test_a_start_before_its_time_or_behind_its_expiry_breaks_r15() -> None:
    for field, right_us, wrong_us in (
        ("notBefore", 3_000_000, 60_000_000),
        ("expiresAt", 3_000_000, 1_000_000),
    ):
        for offset_us, rule in ((right_us, ""), (wrong_us, "R15")):
            case = Case()
            case.create("a")
            case.entries[0]["data"][field] = case.entries[0]["at"] - 1_000_000 + offset_us
            case.start("a")
            case.complete("a")
            assert refused(case) == rule, (field, offset_us)
