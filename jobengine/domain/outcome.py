"""What an ended job says of the source that it asked: that it is well, that it fails, or nothing.

One judgement for all that watch a source, so that the breaker and the limit on running jobs never
disagree on what happened. Not here: what follows from it (``core/breaker``, ``core/concurrency``),
retries and dead letters (``failure``).
"""

import re
from enum import StrEnum
from typing import Final

from jobengine.domain.failure import Failure

__all__ = ["Outcome", "speaks_of_source"]


class Outcome(StrEnum):
    """What an ended job says of its source."""

    GOOD = "good"
    BAD = "bad"
    UNREACHABLE = "unreachable"


_UNREACHABLE_CLASS: Final = re.compile(
    r"connect|conn(?:refused|reset|aborted)|gaierror|resol(?:ve|ution)|dns|unreachable|broken_?pipe"
    r"|broken_?resource|network_?error|proxy_?error|(?:read|write)_?error|protocol_?error"
    r"|ssl|tls_?error|handshake",
    re.IGNORECASE,
)
_TIMEOUT_CLASS: Final = re.compile(r"timed?_?out|deadline|too_?slow", re.IGNORECASE)
_OWN_CLASS: Final = re.compile(r"pool_?timeout", re.IGNORECASE)
_ANSWERS_OF_SOURCE: Final = frozenset({408, 429})


def speaks_of_source(failure: Failure) -> Outcome | None:
    """What a failed attempt says of its source; None when the fault is the job's own.

    An HTTP answer decides alone: 5xx, 429 and 408 are bad, the rest is the job's own. Without one
    the last part of the error's class name does: connection-class names (``httpx.ConnectTimeout``,
    ``ConnectionResetError``) are unreachable, other timeouts bad. An attempt that ran out of its
    own time is a timeout, for that is how a source that hangs looks to a job without a shorter one;
    waiting for a place in the job's own connection pool is not.
    """
    status = failure.http_status
    if status is not None:
        return Outcome.BAD if 500 <= status <= 599 or status in _ANSWERS_OF_SOURCE else None
    name = failure.class_.rpartition(".")[2]
    if _OWN_CLASS.search(name):
        return None
    if _UNREACHABLE_CLASS.search(name):
        return Outcome.UNREACHABLE
    return Outcome.BAD if _TIMEOUT_CLASS.search(name) else None
