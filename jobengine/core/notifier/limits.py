"""Bounds of the notifier."""

import attrs

__all__ = ["NotifierLimits"]


@attrs.frozen(kw_only=True)
class NotifierLimits:
    """``deliveries_max`` POSTs of a node are under way at once, one of a webhook; beside them
    ``tests_max`` tests; one that takes more than ``slow_s`` is slow. A webhook is paused after
    ``failures_max`` failures in a row that span ``failing_s``. The wait after a failure doubles
    from ``backoff_s_min`` to ``backoff_s_max``; what an answer asks for counts up to
    ``retry_after_s_max``. Cursors are written ``cursors_pause_s`` after the first of them has
    moved, ``cursors_max`` at once. Of each webhook ``recent_max`` attempts are remembered, and of
    those that were dropped ``dropped_max`` names."""

    deliveries_max: int = 32
    failures_max: int = 20
    failing_s: float = 3_600.0
    backoff_s_min: float = 1.0
    backoff_s_max: float = 300.0
    retry_after_s_max: float = 3_600.0
    slow_s: float = 1.0
    tests_max: int = 8
    recent_max: int = 20
    cursors_max: int = 500
    cursors_pause_s: float = 1.0
    again_s: float = 1.0
    dropped_max: int = 1_000
