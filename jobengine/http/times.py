"""Instants and spans as the wire has them."""

from jobengine.domain.instant import MILLISECOND, to_rfc3339

__all__ = ["instant", "span_ms"]


def instant(at: int | None) -> str | None:
    return None if at is None else to_rfc3339(at)


def span_ms(from_at: int | None, to_at: int | None) -> int | None:
    """Whole milliseconds from one instant to another, never less than 0."""
    return None if from_at is None or to_at is None else max(0, to_at - from_at) // MILLISECOND
