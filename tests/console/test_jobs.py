"""Jobs in the console: the list with its filters, one job with its history, logs and acts."""

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from tests.console.conftest import Chromium, hurry, until_heard
from tests.console.node import Node


def row(page: Page, job_id: str) -> Locator:
    return page.locator(f'tr[data-job="{job_id}"]')


def open_page(page: Page, node: Node, path: str) -> None:
    """As from a link somebody kept: the document is loaded anew."""
    page.goto(f"{node.url}/console{path}")
    page.locator('#feed[data-feed="live"]').wait_for()


def test_a_row_follows_its_job_without_a_reload(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    console.get_by_role("link", name="Jobs", exact=True).click()
    state = row(console, job_id).locator(".state")
    expect(state).to_have_text("scheduled")
    lists = [url for url in _asked(console) if "/jobs?" in url]
    grant = node.take()
    expect(state).to_have_text("running")
    node.complete(grant)
    expect(state).to_have_text("completed")
    assert [url for url in _asked(console) if "/jobs?" in url] == lists
    assert console.evaluate("performance.getEntriesByType('navigation').length") == 1


def _asked(page: Page) -> list[str]:
    names: list[str] = page.evaluate(
        "performance.getEntriesByType('resource').map((one) => one.name)"
    )
    return names


def test_new_jobs_wait_behind_a_button_so_that_rows_stay_where_they_are(
    chromium: Chromium, console: Page, node: Node
) -> None:
    first = node.submit("scan")
    open_page(console, node, "/jobs?jobType=scan")
    expect(row(console, first)).to_be_visible()
    second = node.submit("scan")
    node.submit("diff")
    show = console.get_by_role("button", name="Show 1 new")
    expect(show).to_be_visible()
    expect(row(console, second)).to_have_count(0)
    show.click()
    expect(row(console, second)).to_be_visible()


def test_an_event_that_overtakes_the_list_that_is_being_read_is_shown(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan")

    def answer(route: Route) -> None:
        told = route.fetch()
        node.take()
        until_heard(console, node)
        route.fulfill(response=told)

    console.route("**/api/v1/jobengine/jobs?*", answer, times=1)
    console.get_by_role("link", name="Jobs", exact=True).click()
    expect(row(console, job_id).locator(".state")).to_have_text("running")


def test_filters_are_the_address_and_an_address_is_filters(
    chromium: Chromium, console: Page, node: Node
) -> None:
    blue = node.submit("scan", queue="fast", labels={"team": "blue"})
    held = node.submit("scan", hold=True, labels={"team": "blue"})
    red = node.submit("diff", labels={"team": "red"})
    open_page(console, node, "/jobs?label=team%3Ablue")
    expect(row(console, blue)).to_be_visible()
    expect(row(console, held)).to_be_visible()
    expect(row(console, red)).to_have_count(0)
    expect(console.get_by_label("Label")).to_have_value("team:blue")
    console.get_by_label("pending").check()
    expect(row(console, blue)).to_have_count(0)
    expect(row(console, held)).to_be_visible()
    assert "state=pending" in console.url
    console.go_back()
    expect(row(console, blue)).to_be_visible()
    console.get_by_role("button", name="Clear filters").click()
    expect(row(console, red)).to_be_visible()
    console.get_by_label("Queue").fill("fast")
    console.get_by_label("Queue").press("Enter")
    expect(row(console, red)).to_have_count(0)
    expect(row(console, blue)).to_be_visible()


def test_a_filter_that_the_engine_refuses_is_explained_in_its_words(
    chromium: Chromium, console: Page, node: Node
) -> None:
    open_page(console, node, "/jobs?label=nonsense")
    expect(console.get_by_role("alert")).to_contain_text("must be name:value")


def test_long_lists_are_read_page_by_page(chromium: Chromium, console: Page, node: Node) -> None:
    jobs = [{"jobType": "scan"} for _ in range(60)]
    node.request("POST", "/jobs:bulk", json=jobs)
    open_page(console, node, "/jobs")
    expect(console.locator("tbody tr")).to_have_count(50)
    console.get_by_role("button", name="Load more").click()
    expect(console.locator("tbody tr")).to_have_count(60)
    expect(console.get_by_role("button", name="Load more")).to_have_count(0)


def test_a_job_shows_how_it_goes_while_it_goes(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan", payload={"image": "a:1"}, maxRetries=0, labels={"team": "blue"})
    open_page(console, node, f"/jobs/{job_id}")
    summary = console.get_by_label("Summary")
    expect(summary).to_contain_text("scheduled")
    expect(console.get_by_text("Why it does not start")).to_be_visible()
    expect(console.locator("pre[aria-label=Payload]")).to_contain_text('"image": "a:1"')
    grant = node.take()
    expect(summary).to_contain_text("running")
    expect(console.get_by_text("Why it does not start")).to_have_count(0)
    node.progress(grant, 40, "layer 6 of 14")
    bar = summary.get_by_role("progressbar")
    expect(bar).to_have_attribute("value", "40")
    expect(summary).to_contain_text("layer 6 of 14")
    node.log(grant, "pulled 14 layers")
    expect(console.get_by_label("Log lines")).to_contain_text("pulled 14 layers")
    node.log(grant, "done with layer 1", "done with layer 2")
    expect(console.get_by_label("Log lines").locator("li")).to_have_count(3)
    node.do(node.worker.name_artifact, grant, "sbom.json")
    node.fail(grant, "no healthy upstream")
    expect(summary).to_contain_text("failed")
    expect(console.get_by_label("Error")).to_contain_text("no healthy upstream")
    expect(console.get_by_label("Artifacts")).to_contain_text("sbom.json")
    history = console.get_by_label("History").locator("li .state")
    expect(history).to_have_text(["pending", "scheduled", "running", re.compile("failed")])
    expect(console.get_by_label("Attempts").locator("tbody tr")).to_have_count(1)


def test_the_log_of_a_job_that_has_ended_is_asked_for_once_and_again_after_a_retry(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan", maxRetries=0)
    grant = node.take()
    node.log(grant, "first try")
    node.fail(grant)
    hurry(console)
    asked: list[str] = []
    console.on("request", lambda request: asked.append(request.url))
    open_page(console, node, f"/jobs/{job_id}")
    lines = console.get_by_label("Log lines").locator("li")
    expect(lines).to_have_count(1)
    console.wait_for_function(
        "performance.getEntriesByType('resource').some((one) => one.name.includes('/stream/logs/'))"
    )
    node.submit("scan", hold=True)
    until_heard(console, node)
    assert len([url for url in asked if "/stream/logs/" in url]) == 1
    node.request("POST", f"/jobs/{job_id}:retry")
    grant = node.take()
    node.log(grant, "second try")
    expect(lines).to_have_count(2)
    expect(lines.last).to_contain_text("second try")


def test_an_act_asks_why_and_the_ledger_keeps_it(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    open_page(console, node, f"/jobs/{job_id}")
    cancel = console.get_by_role("button", name="Cancel", exact=True)
    cancel.click()
    dialog = console.get_by_role("dialog", name="Cancel this job?")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    console.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(cancel).to_be_focused()
    cancel.press("Enter")
    dialog.get_by_label("Reason").fill("wrong image")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Ticket").fill("OPS-7")
    with console.expect_request("**/*:cancel") as asked:
        dialog.get_by_role("button", name="Cancel").click()
    headers = asked.value.all_headers()
    assert headers["x-stella-operator-reason"] == "wrong image"
    assert headers["x-stella-operator-ticket"] == "OPS-7"
    expect(console.get_by_label("Summary")).to_contain_text("cancelled")
    expect(cancel).to_be_disabled()
    console.get_by_role("button", name="Replay").click()
    replay = console.get_by_role("dialog", name="Replay this job?")
    expect(replay.get_by_label("Ticket")).to_have_value("OPS-7")
    replay.get_by_role("button", name="Replay").click()
    expect(console.get_by_label("Summary")).to_contain_text("Replay of")
    assert job_id not in console.url


def test_what_an_act_is_refused_for_is_said_in_words(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    open_page(console, node, f"/jobs/{job_id}")
    console.get_by_role("button", name="Cancel", exact=True).click()
    dialog = console.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("late")
    dialog.get_by_label("Ticket").fill("OPS-8")
    node.complete(node.take())
    expect(console.locator(".summary")).to_contain_text("completed")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog.get_by_role("alert")).to_contain_text("completed")


def test_acts_are_off_without_the_scope_and_say_which(
    chromium: Chromium, page: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    page.goto(node.entrance(f"/jobs/{job_id}", scopes=("orch:read",)))
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    expect(cancel).to_be_disabled()
    expect(cancel).to_have_attribute("title", re.compile("orch:operate"))


def test_a_job_that_is_not_there_is_said_so(chromium: Chromium, console: Page, node: Node) -> None:
    open_page(console, node, "/jobs/019f0000-0000-7000-8000-000000000000")
    expect(console.get_by_role("alert")).to_contain_text("no job 019f")


def test_what_the_engine_keeps_of_an_artifact_can_be_downloaded(
    chromium: Chromium, console: Page, node: Node
) -> None:
    stored = node.request("POST", "/artifacts", content=b'{"found": 3}')
    job_id = node.submit("scan")
    grant = node.take()
    node.keep_artifact(grant, "out/report.json", stored["digest"], stored["uri"])
    node.complete(grant)
    open_page(console, node, f"/jobs/{job_id}")
    with console.expect_download() as fetched:
        console.get_by_role("button", name="Download").click()
    assert fetched.value.suggested_filename == "report.json"
    assert json.loads(fetched.value.path().read_text()) == {"found": 3}


def test_what_others_wrote_is_drawn_as_text(chromium: Chromium, console: Page, node: Node) -> None:
    evil = "<img src=x onerror=alert(1)>"
    console.on("dialog", _fail_on)
    job_id = node.submit("scan", payload={evil: evil}, labels={"x": evil}, maxRetries=0)
    open_page(console, node, f"/jobs/{job_id}")
    grant = node.take()
    node.log(grant, evil)
    expect(console.get_by_label("Log lines")).to_contain_text(evil)
    node.fail(grant, evil)
    expect(console.get_by_label("Error")).to_contain_text(evil)
    expect(console.locator("pre[aria-label=Payload]")).to_contain_text(evil)
    assert console.locator("main img").count() == 0


def test_even_names_that_no_engine_would_take_are_drawn_as_text(
    chromium: Chromium, console: Page, node: Node
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    console.on("dialog", _fail_on)
    node.submit("scan")

    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, body=told.text().replace('"scan"', json.dumps(evil)))

    console.route("**/api/v1/jobengine/jobs?*", answer)
    open_page(console, node, "/jobs")
    expect(console.locator("tr[data-job]")).to_contain_text(evil)
    assert console.locator("main img").count() == 0


def test_what_is_being_typed_outlives_what_happens(
    chromium: Chromium, console: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    open_page(console, node, "/jobs")
    console.get_by_label("Type").press_sequentially("sc")
    node.complete(node.take())
    expect(row(console, job_id)).to_contain_text("completed")
    expect(console.get_by_label("Type")).to_have_value("sc")
    expect(console.get_by_label("Type")).to_be_focused()
    running = console.get_by_label("running")
    running.check()
    expect(row(console, job_id)).to_have_count(0)
    expect(running).to_be_focused()


def _fail_on(dialog: Any) -> None:
    raise AssertionError(dialog.message)
