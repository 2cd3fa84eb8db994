"""Following a run's events over a stream that breaks."""

import queue
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from jobengine.demo.api import Api
from jobengine.demo.feed import Feed

WITHIN_S = 10.0


class Streams:
    """A server whose streams each send one piece of `pieces` and break; `asked` are the ids after
    which they were opened. Without a piece left it refuses."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes] = queue.Queue()
        self.asked: list[str | None] = []
        streams = self

        class Engine(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                assert query["runId"] == ["r"]
                try:
                    piece = streams.pieces.get_nowait()
                except queue.Empty:
                    self.send_response_only(503)
                    self.end_headers()
                    return
                streams.asked.append(query.get("after", [None])[0])
                self.send_response_only(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(piece)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)


@pytest.fixture
def streams() -> Iterator[Streams]:
    served = Streams()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


def test_a_stream_that_breaks_is_resumed_after_the_last_whole_event(streams: Streams) -> None:
    streams.pieces.put(b": following\n\nid: 7\ndata: {}\n\nid: 8\nda")
    streams.pieces.put(b"id: 8\ndata: {}\n\nid: 9\ndata: {}\n\n")
    api = Api(f"http://127.0.0.1:{streams.server.server_port}", token="t", tenant="demo")
    with Feed() as feed:
        feed.follow(partial(api.events, "r"))
        while feed.seen < 3:
            assert feed.wait(WITHIN_S)
        assert streams.asked == [None, "7"]
        streams.pieces.put(b": still here\n\n")
    api.close()
    assert "run events" not in {thread.name for thread in threading.enumerate()}


def test_without_an_event_a_wait_ends_by_itself() -> None:
    with Feed() as feed:
        assert not feed.wait(0.0)
