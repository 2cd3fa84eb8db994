"""The earlier paths answer as their successors do, and say that they will go."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.http.conftest import BASE, Rest

LEGACY = "/api/v1/orchestrator"


@pytest.mark.parametrize("path", ["/jobs?pageSize=1", "/jobs/summary", "/jobs/{jobId}"])
async def test_an_earlier_path_answers_the_same_and_names_its_successor(
    rest: Rest, path: str
) -> None:
    job = await rest.submit(hold=True)
    path = path.replace("{jobId}", job["jobId"])
    root = f"http://127.0.0.1:{rest.port}"
    old = await rest.client.get(f"{root}{LEGACY}{path}")
    assert old.status_code == 200, old.text
    told, now = old.json(), (await rest.client.get(path)).json()
    # A page token is good for its own list only.
    assert (told.pop("nextPageToken", None) is None) == (now.pop("nextPageToken", None) is None)
    assert told == now
    assert int(old.headers["Deprecation"].removeprefix("@")) > 0
    assert parsedate_to_datetime(old.headers["Sunset"]) > datetime(2027, 1, 1, tzinfo=UTC)
    link, _, relation = old.headers["Link"].partition("; ")
    assert relation == 'rel="successor-version"'
    successor = await rest.client.get(root + link.strip("<>"))
    assert successor.status_code == 200
    assert link == f"<{BASE}{path.partition('?')[0]}>"


async def test_an_earlier_path_asks_for_the_same_token_tenant_and_scope(rest: Rest) -> None:
    url = f"http://127.0.0.1:{rest.port}{LEGACY}/jobs/summary"
    worker = rest.headers(scopes=["orch:work"])
    assert (await rest.client.get(url, headers=worker)).status_code == 403
    assert (await rest.client.get(url, headers={"Authorization": ""})).status_code == 401
    elsewhere = await rest.client.get(url, headers={"X-Stella-Tenant": "other"})
    assert elsewhere.json()["error"]["code"] == "TENANT_FORBIDDEN"


async def test_a_page_of_an_earlier_path_goes_on_there(rest: Rest) -> None:
    jobs = [(await rest.submit(hold=True))["jobId"] for _ in range(3)]
    url = f"http://127.0.0.1:{rest.port}{LEGACY}/jobs"
    first = (await rest.client.get(url, params={"pageSize": 2})).json()
    params = {"pageSize": 2, "pageToken": first["nextPageToken"]}
    second = (await rest.client.get(url, params=params)).json()
    seen = [job["jobId"] for job in [*first["items"], *second["items"]]]
    assert seen == jobs[::-1]
