"""The demo's REST client against a small HTTP server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from jobengine.demo.api import BASE, Api


def job(number: int, run: str) -> dict[str, object]:
    return {
        "jobId": f"j{number}",
        "tenantId": "demo",
        "jobType": "report.write",
        "state": "running",
        "attempt": 1,
        "failures": 0,
        "labels": {"demoRun": run, "other": "x"},
        "createdAt": f"2026-11-01T00:00:0{number}.000Z",
        "error": {"class": "http_429", "message": "slow down", "httpStatus": 429},
    }


PAGES = {
    "": {"items": [job(3, "r1"), job(2, "r2")], "nextPageToken": "p2"},
    "p2": {"items": [job(1, "r1")], "nextPageToken": None},
}


class Engine(BaseHTTPRequestHandler):
    """Answers two pages of jobs to whoever has the token, 401 to others."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = parse_qs(asked.query)
        page = PAGES[query.get("pageToken", [""])[0]]
        allowed = (
            self.headers["Authorization"] == "Bearer secret"
            and self.headers["X-Stella-Tenant"] == "demo"
            and asked.path == f"{BASE}/jobs"
            and query["pageSize"] == ["500"]
        )
        body = json.dumps(page).encode()
        self.send_response_only(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_jobs_of_a_run_are_gathered_from_all_pages_in_the_order_of_creation(url: str) -> None:
    api = Api(url, token="secret", tenant="demo")
    jobs = api.jobs({"demoRun": "r1"})
    api.close()
    assert [found.job_id for found in jobs] == ["j1", "j3"]
    error = jobs[0].error
    assert error is not None
    assert (error.class_, error.http_status) == ("http_429", 429)


def test_a_refusal_is_raised(url: str) -> None:
    api = Api(url, token="wrong", tenant="demo")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        api.jobs({})
    api.close()
