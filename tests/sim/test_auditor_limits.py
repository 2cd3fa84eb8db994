"""The auditor itself: limits, streams, work and explanations, kept and broken."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.evidence_kit import TENANT, Case, refused, whole

Change = Callable[[Case], None]
RATE = {"burst": 9, "perMinuteMicro": 1_000_000}

# ---- limits


@pytest.mark.parametrize(
    ("control", "definition"),
    [
        (("quota", "scan", {"scope": "job_type", "key": "scan", "maxActive": 1}), {}),
        (("quota", "tenant", {"maxActive": 1}), {}),
        (("source", "s", {"host": "h", "maxActive": 1, "ratePolicy": RATE}), {"sourceId": "s"}),
        (("source", "s", {"host": "h", "lockKey": "l", "ratePolicy": RATE}), {"sourceId": "s"}),
        (None, {"concurrencyKey": "c", "concurrencyLimit": 1}),
    ],
    ids=["job type", "tenant", "source", "lock", "key"],
)
def test_one_more_than_a_limit_allows_breaks_r16(control: Any, definition: Any) -> None:
    case = Case()
    if control is not None:
        case.control(control[0], control[1], **control[2])
    case.create("a", **definition)
    case.create("b", **definition)
    case.start("a")
    case.complete("a")
    case.start("b")
    case.complete("b")
    assert refused(case) == ""
    case.create("c", **definition)
    case.create("d", **definition)
    case.start("c")
    case.start("d")
    assert refused(case) == "R16"


def test_a_start_while_it_is_paused_breaks_r16() -> None:
    case = Case()
    case.create("a")
    case.control("pause", "job_type:scan", scope="job_type", key="scan")
    case.start("a")
    assert refused(case) == "R16"


def test_a_unique_key_with_two_holders_breaks_r17() -> None:
    case = Case()
    case.run_through("a", uniqueKey="u")
    case.run_through("b", uniqueKey="u")
    assert refused(case) == ""
    case.create("c", uniqueKey="u")
    case.create("d", uniqueKey="u")
    assert refused(case) == "R17"


def test_a_unique_key_that_is_taken_within_its_window_breaks_r17() -> None:
    window = {"uniqueKey": "u", "uniqueScope": "window"}
    for window_us, rule in ((3_000_000, ""), (60_000_000, "R17")):
        case = Case()
        case.run_through("a", **window, uniqueWindowUs=window_us)
        case.run_through("b", **window, uniqueWindowUs=window_us)
        assert refused(case) == rule


def test_a_lease_in_the_store_that_the_ledger_has_not_breaks_r18() -> None:
    case = whole()
    case.running.add("a")
    assert refused(case) == "R18"


def test_more_starts_than_a_bucket_has_tokens_break_r19() -> None:
    for burst, rule in ((2, ""), (1, "R19")):
        case = Case()
        case.control("throttle", "tenant", rate={"burst": burst, "perMinuteMicro": 60_000})
        case.run_through("a")
        case.run_through("b")
        assert refused(case) == rule


def test_a_bucket_is_full_under_its_last_burst_until_the_first_start_takes_from_it() -> None:
    for starts_before, rule in ((0, ""), (1, "R19")):
        case = Case()
        case.control("throttle", "tenant", rate={"burst": 1, "perMinuteMicro": 60_000})
        for number in range(starts_before):
            case.run_through(f"before{number}")
        case.control("throttle", "tenant", rate={"burst": 2, "perMinuteMicro": 60_000})
        case.run_through("a")
        case.run_through("b")
        assert refused(case) == rule


def test_more_starts_than_an_hour_allows_break_r19() -> None:
    for per_hour, rule in ((2, ""), (1, "R19")):
        case = Case()
        case.control("quota", "tenant", maxPerHour=per_hour)
        case.run_through("a")
        case.run_through("b")
        assert refused(case) == rule


# ---- streams, work, explanations, secrets


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.journal.read.pop(),
        lambda case: case.journal.read.pop(1),
        lambda case: case.read(2),
        lambda case: case.read(4, reader="r", eventType="job.failed"),
        lambda case: case.journal.readers.update(r=(TENANT, {"types": "job.c"})),
    ],
    ids=["the end", "one", "twice", "another", "unwanted"],
)
def test_a_reader_that_misses_or_gets_something_else_breaks_r20(change: Change) -> None:
    case = whole()
    change(case)
    assert refused(case) == "R20"


def test_an_event_before_its_commit_breaks_r20() -> None:
    case = whole()
    case.journal.read.clear()
    for entry in case.entries:
        case.read(entry["seq"], at=1.5)
    assert refused(case) == "R20"


def test_a_reader_with_a_filter_gets_exactly_what_matches() -> None:
    case = whole()
    case.journal.readers["some"] = (TENANT, {"types": "job.s", "jobType": "scan"})
    case.read(2, "some")
    assert refused(case) == "R20"
    case.read(3, "some")
    assert refused(case) == ""


def test_a_reader_that_is_there_and_hears_late_breaks_r35_unless_a_fault_explains_it() -> None:
    case = whole()
    case.journal.read.pop()
    case.journal.stays["r"] = [(0.0, 100.0)]
    case.read(4, at=30.0)
    assert refused(case) == "R35"
    case.struck = [(10.0, "link.cut")]
    assert refused(case) == "R35"
    case.struck = [(10.0, "store.read.away")]
    assert refused(case) == ""
    case.struck = []
    case.journal.stays["r"] = [(0.0, 15.0), (29.0, 100.0)]
    assert refused(case) == ""


def test_a_secret_anywhere_breaks_r21() -> None:
    case = whole()
    case.kept["logs"] = "token=s3cr3t5"
    assert refused(case) == "R21"
    case = whole()
    case.entries[0]["data"]["labels"] = {"x": "s3cr3t5"}
    case.journal.readers.clear()
    case.journal.read.clear()
    assert refused(case) == "R21"


def idle(
    control: dict[str, Any] | None = None,
    *,
    slots: int = 1,
    struck: Any = (),
    beats: bool = False,
    hears: bool = False,
) -> Case:
    """A job waits for ten seconds beside a worker with credit; it `beats` at the first of them, and
    `hears` an answer at once or never."""
    case = Case(struck=list(struck))
    case.say("hello", jobTypes=["scan"], capacity=1)
    case.say("credit", slots=slots)
    if control is not None:
        case.control("quota", "tenant", **control)
    case.run_through("r")
    case.create("a")
    if beats:
        case.say("heartbeat")
    if hears:
        case.hear({"op": "ack"}, at=case.now + 0.01)
    for _ in range(10):
        case.entry("something")
    case.start("a")
    case.complete("a")
    return case


def test_a_job_that_could_start_and_does_not_breaks_r22() -> None:
    assert refused(idle()) == "R22"
    assert refused(idle({"maxActive": 1})) == "R22"
    assert refused(idle(slots=0)) == ""
    assert refused(idle({"maxPerHour": 5})) == ""
    assert refused(idle(struck=[(3.0, "link.cut")])) == ""
    assert refused(idle(beats=True)) == ""
    assert refused(idle(beats=True, hears=True)) == "R22"


def explained(state: str, gates: list[tuple[str, str]]) -> Case:
    case = Case()
    case.control("pause", "job_type:scan", scope="job_type", key="scan")
    case.create("a")
    for _ in range(4):
        case.entry("something")
    case.ask(1, "explain")
    case.answer(1, jobs=[{"jobId": "a", "state": state, "gates": gates}])
    for _ in range(4):
        case.entry("something")
    case.control("pause", "job_type:scan")
    case.start("a")
    case.complete("a")
    return case


def test_an_explanation_of_another_state_or_gate_than_there_was_breaks_r23() -> None:
    assert refused(explained("scheduled", [("paused", "job_type:scan")])) == ""
    assert refused(explained("running", [])) == "R23"
    assert refused(explained("scheduled", [("quota_active", "tenant")])) == "R23"


def test_a_job_that_nothing_is_said_to_hold_and_that_waits_breaks_r24() -> None:
    assert refused(explained("scheduled", [])) == "R24"
