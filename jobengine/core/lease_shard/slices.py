"""Slices: a large change of one tenant, decided over several wake-ups in one open draft.

What decides it is a generator that yields where others may go on, and returns what ends it: a call
that sends the draft on its way.

I1  The change leaves as a whole, or nothing of it does.
I2  It is decided, and recorded, as of the instant at which it was begun.
I3  Whatever else is decided for its tenant meanwhile leaves behind it (``ShardState.commit``).

Not here: whose turn it is, and which messages wait meanwhile (``tenant_turns``).
"""

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from jobengine.core.lease_shard.state import ShardState
from jobengine.domain.instant import Moment

__all__ = ["Slices", "Steps"]

Steps: TypeAlias = Generator[None, None, Callable[[], list[Any]]]
"""Its result sends the change on its way, and returns what may be handled again then."""


class Slices:
    """At most one change of a tenant is open at a time."""

    def __init__(self, state: ShardState) -> None:
        self._state = state
        self._open: dict[str, tuple[Steps, int]] = {}

    def begin(self, tenant_id: str, at: int, steps: Steps) -> list[Any]:
        """Decide a change that is recorded under ``at``, or the first slice of it; what may be
        handled again now."""
        try:
            next(steps)
        except StopIteration as end:
            finish: Callable[[], list[Any]] = end.value
            return finish()
        self._open[tenant_id] = (steps, at)
        self._state.deciding[tenant_id] = []
        return []

    def go_on(self, tenant_id: str) -> list[Any]:
        """Decide the next slice of a tenant's open change; what may be handled again now."""
        state = self._state
        steps, at = self._open[tenant_id]
        now, again = state.now, []
        state.now = Moment(now.mono, at)
        try:
            next(steps)
        except StopIteration as end:
            del self._open[tenant_id]
            beside = state.deciding.pop(tenant_id)
            finish: Callable[[], list[Any]] = end.value
            again = finish()
            for draft, pending in beside:
                state.commit(draft, pending)
        state.now = now
        return again
