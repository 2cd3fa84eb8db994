"""The demo's upstream: serves advisory shards over HTTP on loopback, and pushes back for a while.

`GET /<source>/shards/<k>` answers the shard. From the first request to the throttled source on, for
`throttle_s` seconds, that source answers 429 with `Retry-After` (seconds); the other sources do
not.

Invariants:
    I1  The server listens on 127.0.0.1 only, and ends with the `with` block that started it.
    I2  `served` + `refused` is the number of answers given for known shards, by source.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs


@attrs.define(eq=False)
class Upstream:
    """What the server knows. `clock` is in monotonic seconds."""

    shards: Mapping[str, Sequence[bytes]]
    throttled_source: str
    throttle_s: float
    retry_after_s: int
    clock: Callable[[], float] = time.monotonic
    url: str = ""
    served: Counter[str] = attrs.field(factory=Counter, init=False)
    refused: Counter[str] = attrs.field(factory=Counter, init=False)
    _throttled_until: float | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def find(self, path: str) -> tuple[str, bytes] | None:
        """The source and the shard that a path names."""
        match path.strip("/").split("/"):
            case [source, "shards", number] if source in self.shards and number.isdecimal():
                held = self.shards[source]
                return (source, held[int(number)]) if int(number) < len(held) else None
            case _:
                return None

    def admit(self, source: str) -> bool:
        """Whether this request is served; counts it either way (I2)."""
        with self._lock:
            if source == self.throttled_source:
                now = self.clock()
                if self._throttled_until is None:
                    self._throttled_until = now + self.throttle_s
                if now < self._throttled_until:
                    self.refused[source] += 1
                    return False
            self.served[source] += 1
            return True


@contextmanager
def serve(upstream: Upstream) -> Iterator[Upstream]:
    """Serve on a free port until the block ends; sets `upstream.url`. Requests in flight finish."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _request_handler(upstream))
    server.daemon_threads = True
    upstream.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(
        target=server.serve_forever, args=(0.05,), name="stub upstream", daemon=True
    )
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _request_handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            found = upstream.find(self.path)
            if found is None:
                self._answer(HTTPStatus.NOT_FOUND, b'{"error": "no such shard"}')
            elif upstream.admit(found[0]):
                self._answer(HTTPStatus.OK, found[1])
            else:
                self._answer(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    b'{"error": "slow down"}',
                    {"Retry-After": str(upstream.retry_after_s)},
                )

        def _answer(
            self, answer: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None
        ) -> None:
            self.send_response_only(answer)  # counted, so not logged
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
