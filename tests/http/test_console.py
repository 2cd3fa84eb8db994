"""The console's page is served whole, and lets nothing from elsewhere in."""

import re

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
