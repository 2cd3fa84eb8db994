"""The auditor itself: runs and reruns, kept and broken."""

import pytest

from tests.sim.evidence_kit import Case, refused


def run_of(trigger: str, above: str, *, then: str, end: str, counts: str) -> Case:
    """A run of two nodes, the second behind the first; `counts` are completed, failed and
    cancelled."""
    case = Case()
    nodes = [{"key": "x"}, {"key": "y", "trigger": trigger}]
    case.ask(1, "run", "t", runToken="t", jobs=nodes)
    case.entry("run.created", data={"runId": "R", "runToken": "t"})
    case.create("a", scheduled=False, runId="R", nodeKey="x")
    case.create("b", scheduled=False, runId="R", nodeKey="y", dependsOn=["a"])
    case.entry("job.scheduled", "a")
    case.start("a")
    if above == "completed":
        case.complete("a")
    elif above == "failed":
        case.fail("a", error={"retryable": False})
        case.end("job.dead_lettered", "a")
    else:
        case.running.add("a")
    if then == "starts":
        case.entry("job.scheduled", "b")
        case.start("b")
        case.complete("b")
    else:
        gone = {"from": "pending", "to": "cancelled", "reason": "upstream_failed"}
        case.entry("job.cancelled", "b", **gone)
    completed, failed, cancelled = map(int, counts.split())
    data = {"runId": "R", "completed": completed, "failed": failed, "cancelled": cancelled}
    case.entry(end, data=data)
    return case


@pytest.mark.parametrize(
    ("trigger", "above", "then", "end", "counts", "rule"),
    [
        ("all_succeeded", "completed", "starts", "run.completed", "2 0 0", ""),
        ("all_succeeded", "failed", "is given up", "run.failed", "0 1 1", ""),
        ("any_failed", "failed", "starts", "run.failed", "1 1 0", ""),
        ("all_done", "failed", "starts", "run.failed", "1 1 0", ""),
        ("all_succeeded", "failed", "starts", "run.failed", "1 1 0", "R25"),
        ("all_succeeded", "runs", "starts", "run.completed", "1 0 0", "R25"),
        ("none_failed", "failed", "starts", "run.failed", "1 1 0", "R25"),
        ("any_failed", "completed", "starts", "run.completed", "2 0 0", "R25"),
        ("all_done", "failed", "is given up", "run.failed", "0 1 1", "R25"),
        ("all_succeeded", "completed", "starts", "run.failed", "2 0 0", "R26"),
        ("all_succeeded", "completed", "starts", "run.completed", "1 1 0", "R26"),
        ("any_failed", "failed", "starts", "run.completed", "1 1 0", "R26"),
        ("all_succeeded", "completed", "starts", "run.grown", "2 0 0", "R26"),
    ],
)
def test_a_run_goes_by_its_rules_and_ends_as_its_nodes_do(
    trigger: str, above: str, then: str, end: str, counts: str, rule: str
) -> None:
    assert refused(run_of(trigger, above, then=then, end=end, counts=counts)) == rule


def test_a_run_with_another_node_than_was_asked_for_breaks_r27() -> None:
    case = run_of("all_done", "completed", then="starts", end="run.completed", counts="2 0 0")
    case.journal.asked[0].about["jobs"].append({"key": "z"})
    assert refused(case) == "R27"


def test_what_grows_behind_a_map_waits_for_its_join_or_r25_is_broken() -> None:
    case = Case()
    case.ask(1, "run", "t", runToken="t", jobs=[{"key": "x"}, {"key": "y"}])
    case.entry("run.created", data={"runId": "R", "runToken": "t"})
    case.create("a", scheduled=False, runId="R", nodeKey="x")
    case.create("b", scheduled=False, runId="R", nodeKey="y", dependsOn=["a"])
    grown = {"jobs": [{"key": "m", "kind": "map"}], "edges": [{"from": "m", "to": "y"}]}
    case.ask(2, "extend", "R+m", runId="R", **grown)
    case.create("map", scheduled=False, runId="R", nodeKey="m")
    case.create("join", scheduled=False, runId="R", nodeKey="m[]", dependsOn=["map"])
    case.entry("job.scheduled", "a")
    case.start("a")
    case.complete("a")
    case.create("one", scheduled=False, runId="R", nodeKey="m[0]", dependsOn=["map"])
    step_by_engine(case, "map", "job.completed")
    case.entry("job.scheduled", "one")
    case.start("one")
    case.fail("one", error={"retryable": False})
    case.end("job.dead_lettered", "one")
    step_by_engine(case, "join", "job.failed", reason="error", error={"retryable": False})
    gone = {"from": "pending", "to": "cancelled", "reason": "upstream_failed"}
    case.entry("job.cancelled", "b", **gone)
    case.entry("run.failed", data={"runId": "R", "completed": 2, "failed": 2, "cancelled": 1})
    assert refused(case) == ""


def step_by_engine(case: Case, job: str, end: str, **fields: object) -> None:
    """A node that no worker has starts and ends."""
    case.entry("job.scheduled", job)
    case.entry("job.started", job, attempt=1)
    case.entry(end, job, attempt=1, **fields)


def rerun_of_both(key: str, *, again: str, kept: int, asked: str = "R") -> Case:
    """The run of `run_of`, completed, and a rerun from `key` on: of the nodes `again`."""
    case = run_of("all_done", "completed", then="starts", end="run.completed", counts="2 0 0")
    case.ask(2, "rerun", "u", runToken="u", runId=asked)
    case.journal.asked[-1].about["key"] = key
    case.entry("run.created", data={"runId": "S", "runToken": "u", "replayOf": "R", "kept": kept})
    jobs = {"x": "c", "y": "d"}
    for node in again:
        above = {"dependsOn": [jobs["x"] if "x" in again else "a"]} if node == "y" else {}
        case.create(jobs[node], scheduled=False, runId="S", nodeKey=node, **above)
    for node in again:
        case.entry("job.scheduled", jobs[node])
        case.start(jobs[node])
        case.complete(jobs[node])
    case.entry("run.completed", data={"runId": "S", "completed": 2, "failed": 0, "cancelled": 0})
    return case


def test_a_rerun_is_of_what_was_asked_for_and_all_behind_it_or_r36_is_broken() -> None:
    assert refused(rerun_of_both("x", again="xy", kept=0)) == ""
    assert refused(rerun_of_both("y", again="y", kept=1)) == ""
    assert refused(rerun_of_both("x", again="x", kept=1)) == "R36"
    assert refused(rerun_of_both("y", again="xy", kept=0)) == "R36"
    assert refused(rerun_of_both("x", again="xy", kept=0, asked="Q")) == "R36"


def test_a_rerun_of_a_run_that_has_not_ended_breaks_r36() -> None:
    case = Case()
    case.ask(1, "run", "t", runToken="t", jobs=[{"key": "x"}])
    case.entry("run.created", data={"runId": "R", "runToken": "t"})
    case.ask(2, "rerun", "u", runToken="u", runId="R")
    case.entry("run.created", data={"runId": "S", "runToken": "u", "replayOf": "R"})
    assert refused(case) == "R36"
