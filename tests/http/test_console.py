"""The console's page is served whole, and lets nothing from elsewhere in."""

import re

import pytest

from jobengine.http.routes.console import RELEASE
from tests.http.conftest import Rest


async def test_the_page_and_all_it_refers_to_are_served_from_here(rest: Rest) -> None:
    root = f"http://127.0.0.1:{rest.port}"
    page = await rest.client.get(f"{root}/console")
    assert page.headers["content-type"].startswith("text/html")
    references = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert references
    for path in references:
        assert path.startswith("/console/")
        assert (await rest.client.get(root + path)).status_code == 200


async def test_the_page_may_speak_to_its_own_origin_only(rest: Rest) -> None:
    page = await rest.client.get(f"http://127.0.0.1:{rest.port}/console")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


async def test_every_address_of_the_console_is_the_page(rest: Rest) -> None:
    root = f"http://127.0.0.1:{rest.port}"
    page = await rest.client.get(f"{root}/console")
    for place in ("jobs", "jobs/019f-unknown", "runs", "runs/a%2Fb"):
        answer = await rest.client.get(f"{root}/console/{place}")
        assert (answer.status_code, answer.content) == (200, page.content)
        assert answer.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": page.headers["etag"]}
    again = await rest.client.get(f"{root}/console/jobs", headers=known)
    assert (again.status_code, again.content) == (304, b"")


async def test_files_lie_below_a_digest_and_are_kept_for_good(rest: Rest) -> None:
    root = f"http://127.0.0.1:{rest.port}"
    for name, media_type in (
        ("app.js", "text/javascript; charset=utf-8"),
        ("vendor/htm-preact.mjs", "text/javascript; charset=utf-8"),
        ("console.css", "text/css; charset=utf-8"),
    ):
        answer = await rest.client.get(f"{root}/console/files/{RELEASE}/{name}")
        assert answer.headers["content-type"] == media_type
        assert "immutable" in answer.headers["cache-control"]
        assert (await rest.client.get(f"{root}/console/files/older/{name}")).status_code == 404


@pytest.mark.parametrize(
    "place",
    [
        f"files/{RELEASE}/__init__.py",
        f"files/{RELEASE}/../index.html",
        f"files/{RELEASE}/..%2F..%2Fapp.py",
        f"files/{RELEASE}/%2e%2e/%2e%2e/app.py",
        f"files/{RELEASE}//etc/passwd",
        f"files/{RELEASE}/",
        "files",
        "nowhere",
        "../console/jobs/..%2f..",
        "",
    ],
)
async def test_nothing_but_the_console_is_served(rest: Rest, place: str) -> None:
    request = f"GET /console/{place} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = await rest.raw(request.encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"import" not in answer
