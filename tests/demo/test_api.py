"""The demo's REST client against a small HTTP server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from jobengine.demo.api import BASE, Api
from jobengine.demo.plan import MATCH


def letter(number: int) -> dict[str, object]:
    return {"jobId": f"j{number}", "tenantId": "demo", "jobType": MATCH, "state": "open"}


LETTERS = {
    "": {"items": [letter(3), letter(2)], "nextPageToken": "p2"},
    "p2": {"items": [letter(1)], "nextPageToken": None},
}
DAG = {
    "runId": "r",
    "state": "running",
    "nodes": [
        {
            "key": "match[0]",
            "jobId": "j1",
            "kind": "job",
            "type": MATCH,
            "state": "running",
            "attempt": 2,
            "level": 3,
            "onCriticalPath": True,
            "startedAt": "2026-11-01T00:00:01.500Z",
        }
    ],
    "edges": [["match", "match[0]"]],
    "levels": 4,
}


class Engine(BaseHTTPRequestHandler):
    """Answers two pages of dead letters and a graph to whoever has the token, 401 to others."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = parse_qs(asked.query)
        allowed = (
            self.headers["Authorization"] == "Bearer secret"
            and self.headers["X-Stella-Tenant"] == "demo"
        )
        if asked.path == f"{BASE}/runs/r/dag":
            answer: object = DAG
        else:
            allowed &= asked.path == f"{BASE}/deadletter" and query["pageSize"] == ["500"]
            answer = LETTERS[query.get("pageToken", [""])[0]]
        body = json.dumps(answer).encode()
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


def test_a_list_is_gathered_from_all_its_pages(url: str) -> None:
    api = Api(url, token="secret", tenant="demo")
    letters = api.dead_letters()
    api.close()
    assert [found.job_id for found in letters] == ["j3", "j2", "j1"]


def test_a_graph_is_read_with_what_the_demo_needs_of_it(url: str) -> None:
    api = Api(url, token="secret", tenant="demo")
    dag = api.dag("r")
    api.close()
    [node] = dag.nodes
    assert (node.key, node.job_type, node.attempt, node.finished_at) == ("match[0]", MATCH, 2, None)
    assert dag.edges == (("match", "match[0]"),)


def test_a_refusal_is_raised(url: str) -> None:
    api = Api(url, token="wrong", tenant="demo")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        api.dag("r")
    api.close()
