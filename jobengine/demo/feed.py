"""Following a run by its event stream, so that who watches looks when something has happened.

Invariant:
    I1  The thread started here has ended when the `with` block is left, provided that the engine
        has ended by then, or ends the stream.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Self

import httpx

RETRY_S = 0.2

OpenStream = Callable[[str | None], AbstractContextManager[httpx.Response]]
"""Opens the stream after the event of that id; None: from now on."""


class Feed(AbstractContextManager["Feed"]):
    """Says when there are new events; `seen` counts them. A stream that breaks is resumed after the
    last one."""

    def __init__(self) -> None:
        self._news = threading.Event()
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        self.seen = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def follow(self, open_stream: OpenStream) -> None:
        """Begin; once."""
        assert self._thread is None, "a feed follows one stream"
        self._thread = threading.Thread(
            target=self._follow, args=(open_stream,), name="run events", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there was an event since the last call; False where there was none."""
        happened = self._news.wait(timeout_s)
        self._news.clear()
        return happened

    def _follow(self, open_stream: OpenStream) -> None:
        last: str | None = None
        while not self._left.is_set():
            with suppress(httpx.HTTPError), open_stream(last) as response:
                seq = None
                for line in response.raise_for_status().iter_lines():
                    if line.startswith("id:"):
                        seq = line.removeprefix("id:").strip()
                    elif not line and seq is not None:
                        last, seq = seq, None
                        self.seen += 1
                        self._news.set()
            self._left.wait(RETRY_S)
