"""The overview, and what is around every page."""

import hashlib
import re
from importlib.resources import files

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import PHONE, Chromium
from tests.console.node import Node

LIVE = '#feed[data-feed="live"]'
READ = """async () => {
    const { read } = await import(new URL("api.js", document.querySelector("script[src]").src));
    await read("/jobs").catch(() => {});
}"""


def test_the_overview_moves_with_the_jobs(chromium: Chromium, console: Page, node: Node) -> None:
    ticker = console.get_by_label("Latest events, newest first")
    job_id = node.submit("scan")
    node.submit("scan", hold=True)
    expect(ticker.locator("li")).to_have_count(3)
    expect(console.locator('[data-tile="scheduled"] dd').first).to_have_text("1")
    expect(console.locator('[data-tile="pending"] dd').first).to_have_text("1")
    expect(console.locator('[data-tile="oldest"] dd').first).to_have_text(re.compile(r"\d+ s"))
    expect(console.locator('[data-tile="workers"]')).to_contain_text("0 of 10 places busy")
    expect(console.locator('[data-tile="load"]')).to_contain_text("normal")
    node.complete(node.take())
    expect(ticker.locator("li").first).to_contain_text("job.completed")
    expect(console.locator('[data-tile="scheduled"] dd').first).to_have_text("0")
    expect(console.locator('.chart [data-series="completed"] b')).not_to_have_text("0.0/s")
    ticker.get_by_role("link", name=re.compile(job_id[-8:])).first.click()
    expect(console.get_by_label("Summary")).to_contain_text(job_id)


def test_the_ticker_can_be_narrowed_and_held(chromium: Chromium, console: Page, node: Node) -> None:
    lines = console.get_by_label("Latest events, newest first").locator("li")
    node.submit("scan", maxRetries=0)
    node.fail(node.take())
    expect(lines.filter(has_text="job.failed")).to_have_count(1)
    console.get_by_label("Which events").select_option("Failures")
    expect(lines.filter(has_text="job.created")).to_have_count(0)
    expect(lines.filter(has_text="job.failed")).to_have_count(1)
    console.get_by_label("Which events").select_option("All events")
    console.get_by_role("button", name="Pause").click()
    before = lines.count()
    node.submit("diff")
    console.wait_for_function(
        "seq => Number(document.getElementById('feed').dataset.lastSeq) >= seq",
        arg=node.ledger_seqs()[-1],
    )
    assert lines.count() == before
    console.get_by_role("button", name="Pause").click()
    expect(lines.first).to_contain_text("diff")


def test_after_a_restart_the_feed_goes_on_without_missing_an_event(
    chromium: Chromium, console: Page, node: Node
) -> None:
    node.submit("scan")
    expect(console.locator("li[data-seq]")).to_have_count(2)
    node.stop()
    expect(console.locator("#feed")).to_have_text("reconnecting…")
    node.start()
    for _ in range(5):
        node.submit("scan")
        node.complete(node.take())
    newest = node.ledger_seqs()[-1]
    expect(console.locator("#feed")).to_have_attribute("data-last-seq", str(newest))
    expect(console.locator("#feed")).to_have_text("live")
    console.locator(f'li[data-seq="{newest}"]').wait_for()
    shown = console.locator("li[data-seq]").evaluate_all(
        "all => all.map((one) => +one.dataset.seq)"
    )
    assert shown[::-1] == node.ledger_seqs()
    assert console.locator("#feed").get_attribute("data-taken") == str(len(shown))


def test_a_page_that_is_far_behind_goes_on_from_now_and_says_what_it_left_out(
    chromium: Chromium, console: Page, node: Node
) -> None:
    node.submit("scan")
    expect(console.locator("#feed")).to_have_attribute("data-last-seq", "2")
    console.route("**/stream/events", lambda route: route.abort())
    node.stop()
    node.start()
    expect(console.locator("#feed")).to_have_text("reconnecting…")
    node.request("POST", "/jobs:bulk", json=[{"jobType": "scan"}] * 2_600)
    console.unroute("**/stream/events")
    left_out = console.locator('li[data-kind="skipped"]')
    expect(left_out).to_have_text(
        "5,200 events (3–5202) were skipped, to show what happens now", timeout=15_000
    )
    node.submit("diff")
    expect(console.locator("li[data-seq]").first).to_contain_text("diff")
    expect(console.locator("#feed")).to_have_attribute("data-taken", "4")


def test_what_is_past_retention_is_said(chromium: Chromium, page: Page, node: Node) -> None:
    gap = 'event: gap\ndata: {"from": 1, "to": 5}\n\n'
    page.route(
        "**/stream/events",
        lambda route: route.fulfill(content_type="text/event-stream", body=gap),
        times=1,
    )
    page.goto(node.entrance())
    expect(page.locator('li[data-kind="gap"]')).to_have_text("5 events (1–5) are past retention")
    expect(page.locator(LIVE)).to_be_visible()


def test_a_token_that_ends_is_asked_for_again_and_the_page_stays(
    chromium: Chromium, page: Page, node: Node
) -> None:
    job_id = node.submit("scan")
    bearers = []
    page.on("request", lambda request: bearers.append(request.headers.get("authorization")))
    page.goto(node.entrance(f"/jobs/{job_id}", ttl_s=6))
    expect(page.get_by_label("Summary")).to_contain_text("scheduled")
    ask = page.get_by_role("dialog", name="Sign in again")
    expect(ask).to_be_visible(timeout=15_000)
    page.evaluate(READ)
    expect(ask.get_by_role("alert")).to_contain_text(re.compile("token .*expired"))
    assert "Bearer" not in bearers
    expect(page.get_by_label("Summary")).to_contain_text(job_id)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(ask).to_be_visible()
    ask.get_by_label("Token").fill(node.token())
    ask.get_by_role("button", name="Connect").click()
    expect(ask).to_have_count(0)
    assert page.url.endswith(f"/console/jobs/{job_id}")
    node.complete(node.take())
    expect(page.get_by_label("Summary")).to_contain_text("completed")


def test_a_token_is_taken_out_of_the_address_and_kept_in_this_tab_only(
    chromium: Chromium, console: Page, node: Node
) -> None:
    assert "#" not in console.url
    stored = "[...Array(localStorage.length).keys()].map((at) => localStorage.key(at))"
    assert set(console.evaluate(stored)) <= {"jobengine.theme"}
    assert console.context.cookies() == []
    console.reload()
    expect(console.locator(LIVE)).to_be_visible()
    console.get_by_role("button", name="Sign out").click()
    expect(console.get_by_label("Token")).to_be_visible()
    assert console.evaluate("sessionStorage.length") == 0


def test_a_form_lets_in_whoever_has_a_token(chromium: Chromium, page: Page, node: Node) -> None:
    page.goto(f"{node.url}/console/jobs")
    page.get_by_label("Tenant").fill(node.tenant)
    page.get_by_label("Token").fill("nonsense")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("alert").first).to_contain_text("token")
    page.get_by_label("Token").fill(node.token())
    page.get_by_role("button", name="Connect").click()
    expect(page.locator(LIVE)).to_be_visible()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def test_a_missing_scope_is_said_in_words(chromium: Chromium, page: Page, node: Node) -> None:
    page.goto(node.entrance(scopes=("orch:submit",)))
    expect(page.get_by_role("alert").first).to_contain_text("this needs the scope orch:read")
    expect(page.locator("#feed")).to_have_text("no events")


def test_an_address_that_is_none_says_so(chromium: Chromium, console: Page, node: Node) -> None:
    walk(console, "/nowhere")
    expect(console.get_by_role("heading", name="There is no page here")).to_be_visible()


def walk(page: Page, path: str) -> None:
    """As a link of the console would, without loading the document again."""
    page.evaluate(
        "path => { history.pushState(null, '', `/console${path}`);"
        " dispatchEvent(new Event('popstate')) }",
        path,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(
    chromium: Chromium, console: Page, node: Node, theme: str
) -> None:
    ended = [_ended(node, fail=fail) for fail in (True, False)]
    waiting = node.submit("scan")
    console.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    for path in ("", "/jobs", f"/jobs/{waiting}", *(f"/jobs/{job_id}" for job_id in ended)):
        walk(console, path)
        expect(console.locator("main .card").first).to_be_visible()
        assert console.evaluate(CONTRAST) == []


def _ended(node: Node, *, fail: bool) -> str:
    job_id = node.submit("scan", maxRetries=0)
    grant = node.take()
    if fail:
        node.fail(grant)
    else:
        node.complete(grant)
    return job_id


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("button:disabled")) continue;
    const style = getComputedStyle(element);
    const text = luminance(parse(element.closest("svg") ? style.fill : style.color));
    const behind = luminance(ground(element));
    const contrast = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    if (contrast < 4.5) found.push(`${element.className} ${walker.currentNode.data} ${contrast}`);
  }
  return found;
}"""


def test_nothing_runs_off_a_phone(chromium: Chromium, console: Page, node: Node) -> None:
    job_id = node.submit("a-rather-long-type." * 6, queue="q" * 120, payload={"x": "y" * 300})
    grant = node.take()
    node.log(grant, "z" * 300)
    node.fail(grant, "w" * 300)
    console.set_viewport_size(PHONE)
    for path in ("", "/jobs", f"/jobs/{job_id}"):
        console.goto(f"{node.url}/console{path}")
        console.locator(LIVE).wait_for()
        if path:
            console.get_by_text("a-rather-long-type").first.wait_for()
        assert console.evaluate("document.documentElement.scrollWidth") == PHONE["width"], path


def test_the_keyboard_alone_gets_around(chromium: Chromium, console: Page, node: Node) -> None:
    node.submit("scan")
    console.keyboard.press("Tab")
    expect(console.get_by_role("link", name="Skip to content")).to_be_focused()
    console.keyboard.press("Enter")
    expect(console.locator("#main")).to_be_focused()
    jobs = console.get_by_role("link", name="Jobs", exact=True)
    jobs.focus()
    assert console.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    console.keyboard.press("Enter")
    expect(console.get_by_role("heading", name="Jobs")).to_be_focused()
    expect(jobs).to_have_attribute("aria-current", "page")


def test_the_theme_is_remembered(chromium: Chromium, console: Page, node: Node) -> None:
    console.get_by_role("button", name="Theme").click()
    console.get_by_role("button", name="Theme").click()
    assert console.evaluate("document.documentElement.dataset.theme") == "dark"
    console.reload()
    expect(console.get_by_role("button", name="Theme")).to_contain_text("dark")
    assert console.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
    console.get_by_role("button", name="Theme").click()
    assert console.evaluate("document.documentElement.dataset.theme") is None


def test_vendored_files_are_those_that_were_published() -> None:
    vendor = files("jobengine.http.console") / "vendor"
    table = (vendor / "README.md").read_text()
    said = dict(re.findall(r"^\| `([^`]+)` .*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE))
    found = {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in vendor.iterdir()
        if entry.name != "README.md"
    }
    assert said == found
