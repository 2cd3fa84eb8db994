"""Reads server-sent events: lines in, events out, and where to resume.

Source: WHATWG HTML, "Server-sent events", interpretation of an event stream.
"""

from typing import Any, Final, NamedTuple

import msgspec

RESUME_BASE_S: Final = 0.25
RESUME_MAX_S: Final = 10.0


class Event(NamedTuple):
    """One event; `id` is its ledger position and resumes the stream behind it.

    `type` `gap` says that what lay between `data["from"]` and `data["to"]` is past retention.
    """

    id: str | None
    type: str
    data: Any


class Feed:
    """One stream over any number of connections; `last_id` is where the next one goes on."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self._failures = 0
        self._type = ""
        self._data: list[str] = []
        self._id: str | None = None

    def resume_headers(self) -> dict[str, str]:
        """Headers for the next connection; forgets a half-read event."""
        self._type, self._data, self._id = "", [], None
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return headers

    def wait_s(self, jitter: float) -> float:
        """How long to wait before connecting again; `jitter` in [0, 1)."""
        self._failures += 1
        return jitter * min(RESUME_MAX_S, RESUME_BASE_S * 2.0 ** min(self._failures, 10))

    def line(self, text: str) -> Event | None:
        """Take one line without its end; an event when the line completes one."""
        self._failures = 0
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._type = value
            elif name == "id" and "\0" not in value:
                self._id = value
            return None
        kind, data, identity = self._type, self._data, self._id
        self._type, self._data, self._id = "", [], None
        if identity is not None:
            self.last_id = identity
        if not data:
            return None
        return Event(identity, kind or "message", msgspec.json.decode("\n".join(data)))
