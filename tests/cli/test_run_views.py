"""What is shown of a run: its graph as rows, for Graphviz, live, and its chart."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobengine.cli.run_chart import chart_lines
from jobengine.cli.run_graph import WatchedRun
from jobengine.cli.run_screen import counts_text, screen_lines
from jobengine.cli.run_text import dag_rows, dot_lines
from jobengine.wire.run_views import DagNode, DagView, GanttLane, GanttSpan, GanttView, RunView

NOW = datetime(2026, 11, 22, 12, 0, 20, tzinfo=UTC)


def at(second: float) -> str:
    return f"2026-11-22T12:00:{second:06.3f}Z"


def run_view(**changes: Any) -> RunView:
    values: dict[str, Any] = {
        "run_id": "r1", "tenant_id": "acme", "run_token": "nightly", "state": "running",
        "nodes": 4, "inputs": msgspec.Raw(b"{}"), "inputs_hash": "0", "correlation_id": "c",
        "created_by": "me", "created_at": at(0), "started_at": at(0), **changes,
    }  # fmt: skip
    return RunView(**values)


def node(key: str, level: int, state: str, **changes: Any) -> DagNode:
    values: dict[str, Any] = {
        "key": key, "job_id": f"job-{key}", "kind": "job", "type": "scan", "state": state,
        "attempt": 0 if state in ("pending", "scheduled") else 1, "level": level,
        "on_critical_path": False, "estimate_ms": 10_000, **changes,
    }  # fmt: skip
    return DagNode(**values)


def graph(nodes: list[DagNode], *edges: tuple[str, str]) -> DagView:
    path = [each.key for each in nodes if each.on_critical_path]
    return DagView(
        run_id="r1", state="running", nodes=nodes, edges=[list(edge) for edge in edges], levels=3,
        width=2, critical_path=path, critical_ms=20_000,
    )  # fmt: skip


def small() -> DagView:
    return graph(
        [
            node("fetch", 0, "completed", on_critical_path=True, run_ms=1500, attempt=2),
            node("match", 1, "running", on_critical_path=True, started_at=at(14)),
            node("other", 1, "failed", error="http_5xx", run_ms=20),
            node("ok", 2, "pending", kind="approval", type="orch.approval", open=True),
        ],
        ("fetch", "match"),
        ("fetch", "other"),
        ("match", "ok"),
    )


def wide(instances: int) -> DagView:
    made = [node("match", 0, "completed", kind="map", type="orch.map", estimate_ms=0)]
    states = ["failed", "running", "running"] + ["completed"] * (instances - 3)
    for place, state in enumerate(states):
        made.append(node(f"match[{place}]", 1, state, of="match", started_at=at(15)))
    made.append(node("match[]", 2, "pending", kind="join", type="orch.join", estimate_ms=0))
    return graph(made)


def drawn(view: DagView, height: int = 40, **run: Any) -> list[str]:
    watched = WatchedRun(run_view(**run), view)
    return [line.plain for line in screen_lines(watched, NOW, 80, height)]


def test_a_small_graph_is_drawn_whole_by_level() -> None:
    assert drawn(small()) == [
        "run r1  nightly  running  20.0 s",
        "━━━━━━━━━━━━━───────────── " + " 2/4  ▶ 1 ? 1 ✗ 1 ✓ 1   about 20.0 s left",
        "* critical path",
        "  0 * ✓ fetch  scan  1.5 s  attempt 2",
        "  1 * ▶ match  scan  6.0 s",
        "      ✗ other  scan  20 ms  http_5xx",
        "  2   ? ok     orch.approval  waits for an approval",
    ]


def test_a_large_graph_is_summed_up_by_level_and_names_what_needs_eyes() -> None:
    lines = drawn(wide(1000), height=12)
    assert len(lines) <= 12
    assert "  1     1000 jobs  ▶ 2 ✗ 1 ✓ 997   match[] ×1000" in lines
    assert any("✗ match[0]" in line for line in lines)
    assert any("▶ match[1]" in line for line in lines)
    assert not any("match[7]" in line for line in lines)


@pytest.mark.parametrize("height", [1, 4, 5, 6, 7, 8, 10])
def test_a_drawing_is_no_higher_than_the_terminal(height: int) -> None:
    assert len(drawn(wide(50), height)) <= height


def test_text_of_a_tenant_does_not_steer_the_terminal() -> None:
    watched = WatchedRun(run_view(run_token="\x1b[2J"), small(), signal="\x1b]0;evil")
    assert not any("\x1b" in line.plain for line in screen_lines(watched, NOW, 80, 40))


EVIL = "\x1b]52;c;aGk=\x07 \x9b2J\n\r"


def test_keys_of_nodes_do_not_steer_the_terminal() -> None:
    nodes = [node(EVIL, 0, "running", started_at=at(1)), node(f"b{EVIL}", 1, "completed")]
    summed = [node(f"{EVIL}{place}", 0, "completed") for place in range(9)]
    lane = GanttLane(key=EVIL, job_id="j", state="running", level=0, on_critical_path=False,
        spans=[])  # fmt: skip
    chart = GanttView(run_id="r1", state="running", from_=at(0), to=at(1), lanes=[lane])
    lines = [
        *drawn(graph(nodes)),
        *drawn(graph(summed), height=6),
        *(line.plain for line in chart_lines(chart, 60, 10)),
        *dot_lines(graph(nodes, (EVIL, f"b{EVIL}"))),
    ]
    assert any("]52;c;aGk=" in line for line in lines)
    assert [line for line in lines if not line.isprintable()] == []


def test_what_is_drawn_keeps_its_colours() -> None:
    watched = WatchedRun(run_view(run_token="\x1b[2J"), small())
    title, *_ = screen_lines(watched, NOW, 80, 40)
    [colour] = [each for each in title.spans if title.plain[each.start : each.end] == "running"]
    assert colour.style == "cyan"


def test_what_is_left_follows_the_longest_way_and_the_pace() -> None:
    slow = WatchedRun(run_view(), graph([node("a", 0, "running", started_at=at(19)),
        node("b", 1, "pending")], ("a", "b")))  # fmt: skip
    assert slow.left_s(NOW) == 19.0
    paced = WatchedRun(run_view(), wide(4))
    assert paced.left_s(NOW) == 20.0  # three of six in 20 s
    waiting = WatchedRun(run_view(), graph([node("ok", 0, "pending", kind="approval", open=True)]))
    assert waiting.left_s(NOW) is None
    assert "waits for somebody" in drawn(waiting.graph)[1]


def event(job: str, state: str | None, attempt: int = 1, **more: Any) -> dict[str, Any]:
    about = {"id": f"job-{job}", "attempt": attempt}
    if state is not None:
        about["status"] = state
    return {"occurredAt": at(18), "job": about | more}


def test_events_bring_the_graph_up_to_date() -> None:
    watched = WatchedRun(run_view(), small())
    ended = watched.take("job.x", event("match", "completed"))
    assert ended is not None
    assert (ended.state, ended.run_ms, ended.finished_at) == ("completed", 4000, at(18))
    assert watched.take("job.x", event("match", "running")) is None
    assert counts_text(watched.counts()) == "1 open, 1 failed, 2 completed"
    assert watched.take("job.x", event("ok", "running")) is None
    approved = watched.take("job.x", event("ok", "completed"))
    assert approved is not None
    assert not approved.open


def test_an_event_from_before_the_graph_was_read_changes_nothing() -> None:
    watched = WatchedRun(run_view(), small())
    assert watched.take("job.x", event("match", "scheduled", attempt=0)) is None
    retried = watched.take("job.x", event("match", "scheduled", attempt=1))
    assert retried is not None
    assert retried.state == "scheduled"


def test_a_job_that_is_not_known_makes_the_graph_stale() -> None:
    watched = WatchedRun(run_view(), small())
    assert watched.take("job.x", event("new", "scheduled", 0)) is None
    assert watched.stale
    changed = watched.load(run_view(), graph([*small().nodes, node("new", 1, "scheduled")]))
    assert [each.key for each in changed] == ["new"]


def test_log_lines_and_the_first_signal_leave_the_graph_as_it_was_read() -> None:
    watched = WatchedRun(run_view(), small())
    line = {"jobId": "job-new", "attempt": 1, "level": "info", "text": "hi"}
    assert watched.take("log", line) is None
    assert watched.take("first_signal", {"firstSignal": {"message": "started"}}) is None
    assert (watched.stale, watched.signal) == (False, "started")
    assert watched.take("gap", {"from": 1, "to": 2}) is None
    assert watched.stale


def test_what_happens_to_the_run_itself_makes_the_graph_stale() -> None:
    watched = WatchedRun(run_view(), small(), stale=True)
    watched.load(run_view(), small())
    stale_at = [watched.stale]
    assert watched.take("run.grown", {}) is None
    stale_at.append(watched.stale)
    assert stale_at == [False, True]


def test_rows_name_level_state_and_what_comes_before() -> None:
    head, rows = dag_rows(small())
    assert head[0] == "LEVEL"
    assert rows[0] == (0, "*", "fetch", "job", "scan", "completed", 2, "1.5 s", None)
    assert rows[2][5:] == ("failed (http_5xx)", 1, "20 ms", "fetch")
    assert rows[3][5:] == ("open", 0, None, "match")


def test_graphviz_gets_nodes_edges_and_the_critical_path() -> None:
    text = "\n".join(dot_lines(small()))
    assert text.startswith('digraph "r1" {')
    assert '"fetch" [label="fetch\\nscan\\ncompleted", fillcolor=palegreen, penwidth=2];' in text
    assert '"fetch" -> "match" [penwidth=2];' in text
    assert '"fetch" -> "other";' in text


def test_graphviz_gets_a_key_with_controls_and_quotes_as_one_text() -> None:
    key = 'a "b" \\ \x1b[2J\nc'
    assert '  "a \\"b\\" \\\\ \\\\x1b[2J\\nc" [' in "\n".join(
        dot_lines(graph([node(key, 0, "pending")]))
    )


def span(kind: Any, begin: float, end: float | None, **more: Any) -> GanttSpan:
    until = None if end is None else at(end)
    return GanttSpan(kind=kind, attempt=1, from_=at(begin), to=until, **more)


def test_a_chart_is_scaled_to_the_width() -> None:
    lanes = [
        GanttLane(key="fetch", job_id="j", state="completed", level=0, on_critical_path=True,
            spans=[span("queue", 0, 2), span("run", 2, 4, outcome="scheduled"),
                span("backoff", 4, 6), span("run", 6, 8, outcome="completed")]),
        GanttLane(key="a-long-name-of-a-job-that-is-cut-off-somewhere", job_id="k",
            state="running", level=1, on_critical_path=False, spans=[span("run", 8, None)]),
        GanttLane(key="late", job_id="l", state="pending", level=1, on_critical_path=False,
            spans=[]),
    ]  # fmt: skip
    chart = GanttView(run_id="r1", state="running", from_=at(0), to=at(10), lanes=lanes)
    lines = [line.plain for line in chart_lines(chart, 45, 2)]
    assert lines == [
        "run r1 running, from 2026-11-22T12:00:00.000Z: 10.0 s in 10 columns",
        "* fetch                            ··▒▒~~██",
        "  a-long-name-of-a-job-that-is-cu…         ██",
        "… and 1 more jobs; see --limit",
        "* critical path  · queue  ~ backoff  █ run  █ going on  ▒ lost",
    ]


def test_a_run_that_took_no_time_has_a_chart() -> None:
    lane = GanttLane(key="a", job_id="j", state="completed", level=0, on_critical_path=True,
        spans=[span("run", 0, 0, outcome="completed")])  # fmt: skip
    chart = GanttView(run_id="r1", state="completed", from_=at(0), to=at(0), lanes=[lane])
    assert [line.plain for line in chart_lines(chart, 40, 10)][1] == "* a █"
