"""What the closing lines say of a run."""

from datetime import UTC, datetime, timedelta

from jobengine.demo.api import Dag, Node
from jobengine.demo.summary import critical_path

AT = datetime(2026, 11, 1, tzinfo=UTC)


def node(key: str, end_s: float | None, kind: str = "job") -> Node:
    return Node(
        key=key,
        job_id=key,
        kind=kind,
        job_type="t",
        state="pending" if end_s is None else "completed",
        attempt=1,
        finished_at=None if end_s is None else AT + timedelta(seconds=end_s),
    )


NODES = (
    node("fetch", 0.1, "map"),
    node("fetch[0]", 3.0),
    node("fetch[1]", 4.0),
    node("fetch[]", 4.0, "join"),
    node("sbom", 2.0),
    node("report", 5.5),
)
EDGES = (
    ("fetch", "fetch[0]"),
    ("fetch", "fetch[1]"),
    ("fetch[0]", "fetch[]"),
    ("fetch[1]", "fetch[]"),
    ("fetch[]", "report"),
    ("sbom", "report"),
)


def test_the_critical_path_is_of_what_each_end_waited_for_and_adds_up_to_the_run() -> None:
    dag = Dag(run_id="r", state="completed", nodes=NODES, edges=EDGES)
    assert [(step.key, seconds) for step, seconds in critical_path(dag, AT)] == [
        ("fetch[1]", 4.0),
        ("report", 1.5),
    ]


def test_nothing_has_ended_so_nothing_was_waited_for() -> None:
    dag = Dag(run_id="r", state="running", nodes=(node("sbom", None),), edges=())
    assert critical_path(dag, AT) == []
