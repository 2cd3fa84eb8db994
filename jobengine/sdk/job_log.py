"""The log of one attempt, as its handler writes it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, get_args

from jobengine.sdk.outcomes import clean
from jobengine.wire.worker_messages import Log, LogLevel, LogLine

if TYPE_CHECKING:
    from jobengine.sdk.context import JobContext

__all__ = ["JobLog"]

TEXT_MAX: Final = 16_384
_LEVELS: Final = get_args(LogLevel)


class JobLog:
    """Log lines of one attempt: `log("text")`, `log.warning("text")`; streamed and kept. A level
    that is none raises ValueError."""

    __slots__ = ("_job",)

    def __init__(self, job: "JobContext") -> None:
        self._job = job

    def __call__(self, text: str, level: LogLevel = "info") -> None:
        if level not in _LEVELS:
            raise ValueError(f"level is one of {', '.join(_LEVELS)}")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = LogLine(now.replace("+00:00", "Z"), level, clean(text, TEXT_MAX))
        lease = self._job.lease
        self._job.post(Log(lease_id=lease.lease_id, token=lease.token, lines=[line]))

    def debug(self, text: str) -> None:
        self(text, "debug")

    def info(self, text: str) -> None:
        self(text, "info")

    def warning(self, text: str) -> None:
        self(text, "warning")

    def error(self, text: str) -> None:
        self(text, "error")
