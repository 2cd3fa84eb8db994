"""A real engine in memory and a real Chromium.

The engine runs under Trio on a thread of its own, and the browser, whose synchronous API belongs to
one thread, on another; tests are plain functions that are run on the browser's.
"""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    ViewportSize,
    sync_playwright,
)

from tests.console.node import Host, Node

CHROMIUM: Final = Path("/usr/bin/chromium")
SWITCHES: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
PATIENCE_MS: Final = 30_000


class Chromium:
    """The browser of a test session, and the thread that may speak to it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def run(self, act: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return self._thread.submit(act, *args, **named).result()

    def open(self) -> None:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=SWITCHES
        )

    def context(self, **options: Any) -> BrowserContext:
        assert self._browser is not None
        context = self._browser.new_context(viewport=DESKTOP, **options)
        context.set_default_timeout(PATIENCE_MS)
        return context

    def close(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()

    def end(self) -> None:
        self.run(self.close)
        self._thread.shutdown()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that use the browser run on its thread."""
    chromium = pyfuncitem.funcargs.get("chromium")
    if not isinstance(chromium, Chromium):
        return None
    asked = pyfuncitem._fixtureinfo.argnames
    chromium.run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in asked})
    return True


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: install the package `chromium`", pytrace=False)
    chromium = Chromium()
    chromium.run(chromium.open)
    yield chromium
    chromium.end()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("console") / "key.pem")
    host.start()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def context(chromium: Chromium) -> BrowserContext:
    """One for all tests, so that the console's files are fetched once. Each test has a tab of its
    own, and with it a session."""
    context: BrowserContext = chromium.run(chromium.context)
    return context


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    """The engine as a tenant of this test has it."""
    node = Node(host, f"tenant-{secrets.token_hex(4)}")
    yield node
    node.close()


class Seen:
    """What a page asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._take)

    def _take(self, message: Any) -> None:
        # The browser itself logs each refused or failed request, whatever the page makes of it.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def page(chromium: Chromium, context: BrowserContext, node: Node) -> Iterator[Page]:
    """A page that has not loaded anything. Complaints of the browser, exceptions of the page and
    requests to anywhere but the engine fail the test when it is over."""
    page: Page = chromium.run(context.new_page)
    seen: Seen = chromium.run(Seen, page)
    yield page
    chromium.run(page.close)
    assert not seen.complaints
    elsewhere = [url for url in seen.requests if not url.startswith((node.url, "blob:"))]
    assert not elsewhere


def hurry(page: Page) -> None:
    """Has the page wait a hundredth of the time whenever it waits, once it is loaded anew."""
    page.add_init_script(
        "const wait = setTimeout; window.setTimeout = (act, ms) => wait(act, ms / 100)"
    )


def until_heard(page: Page, node: Node) -> None:
    """Returns when the page has taken every event that the ledger has now."""
    page.wait_for_function(
        "seq => Number(document.getElementById('feed').dataset.lastSeq) >= seq",
        arg=node.ledger_seqs()[-1],
    )


@pytest.fixture
def console(chromium: Chromium, page: Page, node: Node) -> Page:
    """The page at the overview, with a token of every scope, following live."""

    def enter() -> None:
        page.goto(node.entrance())
        page.locator('#feed[data-feed="live"]').wait_for()

    chromium.run(enter)
    return page
