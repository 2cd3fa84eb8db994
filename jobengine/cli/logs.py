"""Logs of a process: structlog's and the standard library's alike, to stderr, one event a line.

JSON for programs; for a person at a terminal, the same in colour. Secrets are taken out of every
event last of all, tracebacks included; these show no local variables.
"""

import logging
import sys
from typing import Final

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from jobengine.cli.output import printable_lines
from jobengine.domain.redaction import Redactor

__all__ = ["log_to_stderr"]

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)

_PLAIN: Final = (str, int, float, dict, list, tuple, type(None))


def log_to_stderr(level: str, redactor: Redactor | None = None) -> None:
    """Send everything of at least `level` (one of `LOG_LEVELS`) to stderr; once a process."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redaction(redactor or Redactor()),
                *_renderers(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Requests of our own clients are not news of this process.
    for quiet in ("httpx", "httpcore"):
        logging.getLogger(quiet).setLevel(logging.WARNING)


def _redaction(redactor: Redactor) -> Processor:
    def redacted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        shown = {
            name: value if isinstance(value, _PLAIN) else repr(value)
            for name, value in event.items()
        }
        return dict(redactor.value(shown))

    return redacted


def _renderers() -> list[Processor]:
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback
        return [_drawable, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    return [structlog.processors.JSONRenderer()]


def _drawable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Texts on top are written as they are, and may quote a tenant; others by their `repr`."""
    return {
        name: printable_lines(value) if isinstance(value, str) else value
        for name, value in event.items()
    }
