"""What ends a benchmark with one line instead of a traceback."""

from collections.abc import Iterator

__all__ = [
    "BenchmarkError",
    "ChildDiedError",
    "EngineStartFailedError",
    "MeasurementFailedError",
    "leaves",
]


class BenchmarkError(Exception):
    """The message says what happened, for whoever ran the benchmark."""


class ChildDiedError(BenchmarkError):
    """A process that was still needed has ended."""


class EngineStartFailedError(BenchmarkError):
    """The engine ended before it served; the message holds the end of its log."""


class MeasurementFailedError(BenchmarkError):
    """What was measured is not what should have happened, so its figures mean nothing."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, and of groups within it; or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
