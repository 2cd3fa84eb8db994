"""Reads server-sent events: lines in, events out, and where to resume.

I1  A stream is resumed behind the last id that came, so nothing is missed and nothing comes twice,
    however often the connection is lost or the engine restarts.

Source: WHATWG HTML, "Server-sent events", interpretation of an event stream.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

__all__ = [
    "WITHOUT_LOGS",
    "Event",
    "Feed",
    "JobLogLine",
    "Lines",
    "check_log_choice",
    "events_query",
    "is_last_line",
    "log_line",
    "tells_state",
]

RESUME_BASE_S: Final = 0.25
RESUME_MAX_S: Final = 10.0
WITHOUT_LOGS: Final[Mapping[str, str]] = {"logs": "false"}
"""Asks the stream of a job or a run for its events alone: lines have no place to resume behind."""
_WHILE_RUNNING: Final = frozenset({"job.artifact_named", "job.progressed"})


class Event(NamedTuple):
    """One event; `id` is its ledger position and resumes the stream behind it.

    `type` `gap` says that what lay between `data["from"]` and `data["to"]` is past retention.
    """

    id: str | None
    type: str
    data: Any

    @property
    def gap(self) -> tuple[int, int] | None:
        """The first and the last seq that are past retention; None for an event that is there."""
        return (self.data["from"], self.data["to"]) if self.type == "gap" else None


class JobLogLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One line of a job's log. Its `id` is what to go on behind; it and what follows it here are
    there for lines that were followed."""

    job_id: str
    attempt: int
    at: str
    level: str
    text: str
    id: str | None = None
    run_id: str | None = None
    correlation_id: str | None = None
    tenant_id: str | None = None
    project_id: str | None = None


def log_line(event: Event) -> JobLogLine:
    """The line that an event of a log's stream carries."""
    return msgspec.convert({**event.data, "id": event.id}, JobLogLine)


def check_log_choice(follow: bool, after: str | None, level: str | None, tail: int | None) -> None:
    """Raises ValueError for what the chosen way of reading a log does not have."""
    if after is not None and not follow:
        raise ValueError("after goes with follow=True")
    if follow and (level is not None or tail is not None):
        raise ValueError("level and tail are for stored lines, without follow")


def is_last_line(event: Event) -> bool:
    """Whether a log's stream has told all. It also ends with its token, and says so by a code; then
    coming back is what shows whether the token counts."""
    return event.type == "end" and "code" not in event.data


def tells_state(event: Event | None) -> bool:
    """Whether a job may be in another state since: after all but what it told while it ran."""
    return event is None or event.type not in _WHILE_RUNNING


def events_query(
    types: str | Iterable[str], job_type: str | None, run_id: str | None, source_id: str | None
) -> dict[str, str]:
    names = types if isinstance(types, str) else ",".join(types)
    given = {"types": names, "jobType": job_type, "runId": run_id, "sourceId": source_id}
    return {name: value for name, value in given.items() if value}


class Lines:
    """Cuts what one connection brings into lines. Only LF ends one, after a CR or not: httpx would
    also cut at U+2028 and others that stand in the middle of somebody's text."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> list[str]:
        """The lines that are complete with these bytes, without their ends."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines]


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
