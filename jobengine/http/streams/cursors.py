"""Where a stream goes on: the cursor of a request, which may come from anybody.

A client that reconnects repeats the URL it began with, so its `Last-Event-ID` counts before
`after`.

Not here: what comes after a cursor (`core/broadcaster`).
"""

import re
from typing import Final, NamedTuple

from jobengine.http.errors import invalid
from jobengine.wire.fields import INT64_MAX

__all__ = ["LineId", "event_cursor", "line_cursor"]

_SEQ: Final = re.compile(r"[0-9]{1,18}")
_LINE: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})")
_URN: Final = "urn:orch:event:"
_ID_HEADER: Final = "Last-Event-ID"


class LineId(NamedTuple):
    """The ``line``-th line, from 0, of the stored row at ``position``."""

    position: int
    line: int

    def __str__(self) -> str:
        return f"{self.position}.{self.line}"


def event_cursor(
    tenant_id: str, newest: int, last_event_id: str | None, after: str | None
) -> int | None:
    """The seq to go on after, given as such or as an eventId; None when none is given.

    `newest` is the last that there is. Raises `RefusedError`.
    """
    name, text = _given(last_event_id, after)
    if text is None:
        return None
    digits = text
    if text.startswith(_URN):
        owner, _, digits = text.removeprefix(_URN).rpartition(":")
        if owner != tenant_id:
            message = "is the id of another tenant's event; give one of this tenant's"
            raise invalid(name, message)
    if _SEQ.fullmatch(digits) is None:
        raise invalid(name, f"must be the id of an event: its seq, or {_URN}TENANT:SEQ")
    seq = int(digits)
    if seq > newest:
        message = f"lies beyond the tenant's newest event, {newest}; give that or an earlier one"
        raise invalid(name, message)
    return seq


def line_cursor(last_event_id: str | None, after: str | None) -> tuple[str, LineId | None]:
    """The line to go on after, and what it was given as. Raises `RefusedError`."""
    name, text = _given(last_event_id, after)
    if text is None:
        return name, None
    match = _LINE.fullmatch(text)
    if match is None or int(match[1]) > INT64_MAX:
        raise invalid(name, "must be the id of a log line, POSITION.LINE")
    return name, LineId(int(match[1]), int(match[2]))


def _given(last_event_id: str | None, after: str | None) -> tuple[str, str | None]:
    """A browser sends an empty `Last-Event-ID` where it has seen none."""
    return (_ID_HEADER, last_event_id) if last_event_id else ("after", after)
