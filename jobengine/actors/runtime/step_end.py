"""The end of the step that is being performed: where what a step has gathered is sent at once.

An actor that tells many others in one step, or one of them several things, enters a `StepEnd` for
it (`run_shell`'s ``performing``); who is told something has itself called at the end. That saves a
task its wake-up, which costs as much as what it would do.

I1  What is deferred is called once, at the end of the step in which it was deferred, in order, also
    when the step fails.
I2  Steps do not wait, so there is one at a time; they do not nest.
"""

from collections.abc import Callable

__all__ = ["StepEnd"]


class StepEnd:
    """Shared by all whose steps tell the same listeners. What is called does not wait or raise."""

    __slots__ = ("_deferred", "_open")

    def __init__(self) -> None:
        self._open = False
        self._deferred: list[Callable[[], None]] = []

    def defer(self, call: Callable[[], None]) -> bool:
        """Have it called at the end of this step; False, and nothing is done, outside of one."""
        if self._open:
            self._deferred.append(call)
        return self._open

    def __enter__(self) -> None:
        self._open = True

    def __exit__(self, *_: object) -> None:
        self._open = False
        if self._deferred:
            deferred, self._deferred = self._deferred, []
            for call in deferred:
                call()
