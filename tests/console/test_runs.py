"""The pages of runs: list, graph, chart over time and table, each live; gates by dialog."""

from typing import Any

from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.console.conftest import PHONE, Chromium, hurry, until_heard
from tests.console.node import Node

FIXED = {"kind": "fixed", "baseSeconds": 1, "jitter": "none"}


def job(key: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "jobType": "scan", "dependsOn": list(depends_on), **fields}


def approval(key: str, *depends_on: str) -> dict[str, Any]:
    return {"key": key, "kind": "approval", "dependsOn": list(depends_on)}


def layered(levels: int, width: int) -> list[dict[str, Any]]:
    """Nodes in levels, most with three edges from the level before."""
    return [
        job(
            f"stage-{level}/part-{place:02}",
            *(
                f"stage-{level - 1}/part-{near:02}"
                for near in range(place - 1, place + 2)
                if level and 0 <= near < width
            ),
        )
        for level in range(levels)
        for place in range(width)
    ]


def open_run(page: Page, node: Node, run_id: str, query: str = "") -> Locator:
    """The page of a run, once its graph, chart or table is there."""
    page.goto(f"{node.url}/console/runs/{run_id}{query}")
    page.locator("[data-run-state]").wait_for()
    return page.locator("[data-run-state]")


def drawn(page: Page) -> None:
    """Waits until the graph has its layout and is painted."""
    with_layout = "() => document.querySelector('.graph')?.graph?.scene !== null"
    for _ in range(400):
        if page.evaluate(f"({with_layout})()"):
            break
        page.wait_for_timeout(20)
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => setTimeout(go, 200)))")


def colour_of(page: Page, key: str) -> list[int]:
    """The colour in which the sign of a node stands on the canvas."""
    found: list[int] = page.evaluate(
        """(key) => {
            const { canvas } = document.querySelector(".graph").graph;
            const box = document.querySelector(".graph").graph.boxOf(key);
            const ratio = canvas.width / canvas.clientWidth;
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            copy.drawImage(canvas, 0, 0);
            const x = (box.x + box.width * 0.016) * ratio, y = (box.y + box.height * 0.5) * ratio;
            return [...copy.getImageData(x, y, 1, 1).data].slice(0, 3);
        }""",
        key,
    )
    return found


def look_colour(page: Page, look: str) -> list[int]:
    """The colour of a state in the theme as it is."""
    found: list[int] = page.evaluate(
        """(look) => document.querySelector(".graph").graph.palette[`look-${look}`]
            .match(/\\d+/g).map(Number)""",
        look,
    )
    return found


def until_coloured(page: Page, key: str, look: str) -> None:
    for _ in range(200):
        if colour_of(page, key) == look_colour(page, look):
            return
        page.wait_for_timeout(20)
    assert colour_of(page, key) == look_colour(page, look)


def test_nodes_change_their_colours_as_they_go_until_the_run_has_completed(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("fetch"), job("build", "fetch"), job("ship", "build"))
    shown = open_run(console, node, run_id)
    drawn(console)
    until_coloured(console, "fetch", "scheduled")
    until_coloured(console, "ship", "pending")
    console.evaluate("window.loadedOnce = true")
    for key in ("fetch", "build", "ship"):
        grant = node.take()
        until_coloured(console, key, "running")
        node.complete(grant)
        until_coloured(console, key, "completed")
    expect(shown).to_have_attribute("data-run-state", "completed")
    expect(console.locator(".first-signal")).to_contain_text("the run has completed")
    expect(console.locator(".run-now .number")).to_have_text("3 / 3")
    expect(console.locator(".run-facts")).to_contain_text("Outputs")
    assert console.evaluate("window.loadedOnce")


def test_a_node_that_fails_is_shown_with_what_it_takes_along(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("scan"), job("report", "scan"), job("apart"))
    open_run(console, node, run_id, "?view=nodes")
    for _ in range(2):
        grant = node.take()
        if grant.job.definition.node_key == "scan":
            node.fail(grant)
        else:
            node.complete(grant)
    row = console.locator("tr[data-node=scan]")
    expect(row).to_have_attribute("data-state", "failed")
    expect(row).to_contain_text("Boom")
    expect(console.locator("tr[data-node=report]")).to_contain_text("upstream failed")
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "failed")
    expect(console.get_by_role("list", name="Failed nodes")).to_contain_text("scan")
    console.get_by_role("tab", name="Graph").click()
    drawn(console)
    until_coloured(console, "scan", "failed")
    until_coloured(console, "report", "cancelled")
    console.get_by_role("tab", name="Nodes").click()
    console.get_by_role("group", name="States").get_by_role("button", name="failed").click()
    expect(console.locator("tbody tr")).to_have_count(1)


def test_the_critical_path_is_marked_in_graph_chart_and_table(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"), job("c", "b"), job("aside"))
    open_run(console, node, run_id)
    drawn(console)
    drawing = "document.querySelector('.graph').graph.scene.graph"
    assert console.evaluate(f"{drawing}.criticalEdges.size") == 2
    expect(console.locator(".graph-stage")).to_have_attribute(
        "aria-label", "Graph of 4 nodes on 3 levels, 3 of them on the critical path."
        " Arrow keys go along edges and within a level, Enter opens the node,"
        " plus and minus scale, 0 shows all.",
    )  # fmt: skip
    console.get_by_role("tab", name="Chart").click()
    expect(console.locator(".gantt-critical")).to_have_count(3)
    console.get_by_role("tab", name="Nodes").click()
    expect(console.locator("tbody tr", has_text="yes")).to_have_count(3)


def test_a_gate_is_approved_by_a_dialog_that_asks_why(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("scan"), approval("sign-off", "scan"), job("ship", "sign-off"))
    open_run(console, node, run_id, "?node=sign-off")
    node.complete(node.take())
    expect(console.locator(".first-signal")).to_contain_text("waits for an approval")
    console.get_by_role("button", name="Approve").click()
    dialog = console.get_by_role("dialog", name="Approve sign-off")
    dialog.get_by_label("Reason").fill("looks right")
    dialog.get_by_label("Ticket").fill("OPS-7")
    dialog.get_by_role("button", name="Approve").click()
    panel = console.get_by_role("complementary", name="Node sign-off")
    expect(panel.locator("[data-look=completed]").first).to_be_visible()
    node.complete(node.take())
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")


def test_the_chart_shows_every_attempt_and_the_delay_before_the_next_one(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("flaky", backoff=FIXED), job("after", "flaky"))
    open_run(console, node, run_id, "?view=chart")
    lane = console.locator(".gantt-row[data-key=flaky]")
    expect(lane.locator("[data-kind=queue]")).to_have_count(1)
    grant = node.take()
    running = lane.locator("[data-kind=run][data-attempt='1']")
    expect(running).to_have_attribute("data-outcome", "")
    node.fail(grant, retryable=True)
    expect(running).to_have_attribute("data-outcome", "failed")
    expect(running).to_have_class("gantt-bar gantt-run look-retrying")
    expect(lane.locator("[data-kind=backoff]")).to_have_count(1)
    node.complete(node.take())
    expect(lane.locator("[data-kind=run]")).to_have_count(2)
    expect(lane.locator("[data-kind=run][data-attempt='2']")).to_have_class(
        "gantt-bar gantt-run look-completed"
    )
    node.complete(node.take())
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")
    live = [bar.get_attribute("data-kind") for bar in lane.locator(".gantt-bar").all()]
    console.reload()
    expect(lane.locator(".gantt-bar")).to_have_count(len(live))
    stored = [bar.get_attribute("data-kind") for bar in lane.locator(".gantt-bar").all()]
    assert live == stored == ["queue", "run", "backoff", "queue", "run"]


def test_a_thousand_nodes_open_without_overlap_move_and_are_found(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(*layered(20, 50))
    open_run(console, node, run_id)
    drawn(console)
    faults = console.evaluate(
        """() => {
            const { graph, layout } = document.querySelector(".graph").graph.scene;
            const [width, height] = [208, 44];
            const faults = { overlaps: 0, backward: 0, nodes: layout.x.length };
            const order = [...layout.x.keys()].sort((a, b) => layout.x[a] - layout.x[b]);
            order.forEach((a, at) => {
                for (let next = at + 1; next < order.length; next += 1) {
                    const b = order[next];
                    if (layout.x[b] >= layout.x[a] + width) break;
                    if (Math.abs(layout.y[a] - layout.y[b]) < height) faults.overlaps += 1;
                }
            });
            for (let at = 0; at < graph.edges.length; at += 2) {
                const [from, to] = [graph.edges[at], graph.edges[at + 1]];
                if (layout.x[to] < layout.x[from] + width) faults.backward += 1;
            }
            return faults;
        }"""
    )
    assert faults == {"overlaps": 0, "backward": 0, "nodes": 1000}
    key = "stage-19/part-07"
    place = "(key) => document.querySelector('.graph').graph.boxOf(key)"
    before = console.evaluate(place, key)
    stage = console.locator(".graph-stage").bounding_box()
    assert stage is not None
    console.mouse.move(stage["x"] + 300, stage["y"] + 200)
    console.mouse.down()
    console.mouse.move(stage["x"] + 360, stage["y"] + 230, steps=4)
    console.mouse.up()
    after = console.evaluate(place, key)
    moved = (after["x"] - before["x"], after["y"] - before["y"])
    assert moved[0] > 30
    assert moved[1] > 15
    console.get_by_role("searchbox", name="Find a node").fill(key)
    console.keyboard.press("Enter")
    box = console.evaluate(place, key)
    assert 0 < box["x"] < stage["width"]
    assert 0 < box["y"] < stage["height"]


def test_a_wide_fan_out_stands_in_several_columns(
    chromium: Chromium, console: Page, node: Node
) -> None:
    items = [f"item.{number}" for number in range(300)]
    run_id = node.begin(job("start"), *(job(item, "start") for item in items), job("end", *items))
    open_run(console, node, run_id)
    drawn(console)
    columns, ends, starts = console.evaluate(
        """() => {
            const { graph, layout } = document.querySelector(".graph").graph.scene;
            const middle = [...layout.x].filter((_, at) => graph.nodes[at].level === 1);
            const at = (key) => layout.x[graph.byKey.get(key)];
            const [least, most] = [Math.min(...middle), Math.max(...middle)];
            return [new Set(middle).size, most < at("end"), at("start") < least];
        }"""
    )
    assert columns > 3
    assert ends
    assert starts


def test_keys_go_through_the_graph_and_say_where_they_are(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"), job("c", "b"))
    open_run(console, node, run_id)
    drawn(console)
    console.locator(".graph-stage").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        console.keyboard.press(key)
    said = console.locator(".graph [role=status]")
    expect(said).to_contain_text("c, pending, scan · level 3 of 3")
    console.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("b, pending")
    console.keyboard.press("Enter")
    expect(console.get_by_role("complementary", name="Node b")).to_be_visible()
    assert console.url.endswith("?node=b")
    console.reload()
    expect(console.get_by_role("complementary", name="Node b")).to_be_visible()
    drawn(console)
    console.locator(".graph-stage").focus()
    console.keyboard.press("Escape")
    expect(console.get_by_role("complementary", name="Node b")).to_have_count(0)


def test_the_page_goes_on_after_the_engine_was_away(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"))
    open_run(console, node, run_id, "?view=nodes")
    node.complete(node.take())
    expect(console.locator("tr[data-node=a]")).to_have_attribute("data-state", "completed")
    node.stop()
    expect(console.locator(".run-link")).to_have_attribute("data-link", "reconnecting")
    node.start()
    node.complete(node.take())
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")
    expect(console.locator("tr[data-node=b]")).to_have_attribute("data-state", "completed")


SEE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_tab_out_of_sight_closes_its_streams_and_goes_on_when_it_is_looked_at(
    chromium: Chromium, console: Page, node: Node
) -> None:
    def of_run(request: Request) -> bool:
        return "/stream/runs/" in request.url

    def of_feed(request: Request) -> bool:
        return "/stream/events" in request.url

    run_id = node.begin(job("a"), job("b", "a"))
    hurry(console)
    open_run(console, node, run_id, "?view=nodes")
    node.complete(node.take())
    expect(console.locator("tr[data-node=b]")).to_have_attribute("data-state", "scheduled")
    with (
        console.expect_event("requestfailed", of_run),
        console.expect_event("requestfailed", of_feed),
    ):
        console.evaluate(SEE, True)
    node.complete(node.take())
    with console.expect_request(of_run) as asked:
        console.evaluate(SEE, False)
    assert int(asked.value.headers["last-event-id"]) < node.ledger_seqs()[-1]
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")
    expect(console.locator(".run-link")).to_have_attribute("data-link", "ended")


def test_the_page_of_a_run_is_sent_no_log_lines(
    chromium: Chromium, console: Page, node: Node
) -> None:
    console.add_init_script(
        """const ask = fetch;
        window.heard = "";
        window.fetch = async (path, options) => {
            const response = await ask(path, options);
            if (!path.includes("/stream/runs/")) return response;
            const listen = new TransformStream({ transform(text, onward) {
                window.heard += text;
                onward.enqueue(text);
            } });
            const heard = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(listen);
            return new Response(heard.pipeThrough(new TextEncoderStream()));
        };"""
    )
    run_id = node.begin(job("a"))
    grant = node.take()
    node.log(grant, "one")
    open_run(console, node, run_id)
    expect(console.locator(".run-link")).to_have_attribute("data-link", "live")
    node.log(grant, "two")
    node.complete(grant)
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")
    heard = console.evaluate("heard")
    assert "event: job.completed" in heard
    assert "event: log" not in heard


def test_a_run_is_read_again_when_events_are_past_retention(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"))
    gap = 'id: 1\nevent: gap\ndata: {"from": 1, "to": 1}\n\n'
    console.route(
        "**/stream/runs/**",
        lambda route: route.fulfill(content_type="text/event-stream", body=gap),
        times=1,
    )
    open_run(console, node, run_id, "?view=nodes")
    node.complete(node.take())
    expect(console.locator("tr[data-node=a]")).to_have_attribute("data-state", "completed")


def test_a_run_that_grows_is_drawn_with_its_new_nodes(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"))
    open_run(console, node, run_id, "?view=nodes")
    node.request("POST", f"/runs/{run_id}:extend", json={"jobs": [job("b", "a")]})
    expect(console.locator("tr[data-node=b]")).to_have_attribute("data-state", "pending")


def test_runs_are_listed_live_and_narrowed_by_what_the_address_says(
    chromium: Chromium, console: Page, node: Node
) -> None:
    console.goto(f"{node.url}/console/runs")
    expect(console.get_by_text("There is no run yet.")).to_be_visible()
    run_id = node.begin(job("a"), job("b", "a"), token="nightly", projectId="apollo")
    row = console.locator(f"tr[data-run='{run_id}']")
    expect(row).to_contain_text("nightly")
    node.complete(node.take())
    expect(row).to_contain_text("1 / 2")
    console.get_by_role("checkbox", name="failed").check()
    expect(console.get_by_text("No run is like that.")).to_be_visible()
    assert console.url.endswith("?state=failed")
    console.get_by_role("button", name="Clear filters").click()
    console.get_by_label("Project").fill("apollo")
    console.keyboard.press("Enter")
    expect(row).to_contain_text("apollo")
    node.complete(node.take())
    expect(row.locator("[data-state=completed]")).to_be_visible()
    row.get_by_role("link", name="nightly").click()
    expect(console.locator("[data-run-state]")).to_have_attribute("data-run-state", "completed")


def test_a_run_that_grows_while_it_is_counted_is_counted_again(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"))

    def answer(route: Route) -> None:
        told = route.fetch()
        node.request("POST", f"/runs/{run_id}:extend", json={"jobs": [job("c")]})
        until_heard(console, node)
        route.fulfill(response=told)

    console.route(f"**/runs/{run_id}/dag", answer, times=1)
    console.get_by_role("link", name="Runs", exact=True).click()
    row = console.locator(f"tr[data-run='{run_id}']")
    expect(row).to_contain_text("0 / 3")
    for _ in range(2):
        node.complete(node.take())
    expect(row).to_contain_text("2 / 3")


def test_a_run_that_could_not_be_counted_is_counted_a_little_later(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"))
    console.route(f"**/runs/{run_id}/dag", lambda route: route.fulfill(status=503), times=1)
    console.get_by_role("link", name="Runs", exact=True).click()
    node.complete(node.take())
    expect(console.locator(f"tr[data-run='{run_id}']")).to_contain_text("1 / 2")


def test_what_failed_is_retried_as_a_run_that_is_shown_then(
    chromium: Chromium, console: Page, node: Node
) -> None:
    run_id = node.begin(job("a"), job("b", "a"))
    open_run(console, node, run_id)
    node.complete(node.take())
    node.fail(node.take())
    console.get_by_role("button", name="Retry failed").click()
    dialog = console.get_by_role("dialog", name="Retry what failed")
    dialog.get_by_label("Reason").fill("the source is back")
    dialog.get_by_label("Ticket").fill("OPS-8")
    dialog.get_by_role("button", name="Retry failed").click()
    expect(console.locator(".run-facts")).to_contain_text("Runs again")
    assert run_id not in console.url
    console.get_by_role("tab", name="Nodes").click()
    expect(console.locator("tr[data-node=a]")).to_have_attribute("data-state", "completed")


def test_a_run_fits_on_a_phone_in_every_view(chromium: Chromium, console: Page, node: Node) -> None:
    run_id = node.begin(*(job(f"a-rather-long-key-of-a-node-{n}") for n in range(30)))
    console.set_viewport_size(PHONE)
    for view in ("graph", "chart", "nodes"):
        open_run(console, node, run_id, f"?view={view}&node=a-rather-long-key-of-a-node-3")
        expect(console.get_by_role("complementary")).to_be_visible()
        assert console.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_a_run_that_is_not_there_is_said_to_be_missing(
    chromium: Chromium, console: Page, node: Node
) -> None:
    console.goto(f"{node.url}/console/runs/00000000-0000-7000-8000-000000000000")
    expect(console.get_by_role("alert")).to_contain_text("no run")
