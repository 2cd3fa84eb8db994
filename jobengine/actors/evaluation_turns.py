"""Evaluations, each in its turn: a short one on the event loop, a long one in a thread.

I1  The loop is held for ``_LOOKS_AT_ONCE`` looks and the parsing of ``_BYTES_AT_ONCE`` at most.
I2  One evaluation at a time is in the thread, and of the waiting ones one of each tenant, so a
    tenant's share does not grow with what it asks for.
I3  Whatever an evaluation raises is an ``EvaluationError``: it ends its node, and nothing else.

Not here: what is evaluated (``node_evaluation``), what a look is (``domain/expression_effort``).
"""

from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import attrs
import structlog
import trio

from jobengine.domain.expression_effort import LOOKS_MAX, Effort
from jobengine.domain.run_sheet import EvaluationError

__all__ = ["EvaluationTurns"]

_LOOKS_AT_ONCE: Final = 10_000
_BYTES_AT_ONCE: Final = 8 * 1024
_LOOKS_OF_PLACE: Final = 200
"""More for each place of a list that is mapped."""
_log = structlog.get_logger("jobengine.runs")

T = TypeVar("T")


@attrs.define(eq=False)
class EvaluationTurns:
    _thread: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1))
    _tenants: WeakValueDictionary[str, trio.Lock] = attrs.field(
        init=False, factory=WeakValueDictionary
    )

    async def take(
        self,
        tenant_id: str,
        evaluate: Callable[[Effort], T],
        *,
        bytes_read: int = 0,
        places: int = 0,
    ) -> T:
        """What ``evaluate``, which may be called twice, makes of its effort. ``bytes_read`` is the
        size of the texts that it parses, ``places`` counts those of a list that is mapped. Raises
        ``EvaluationError``; when cancelled, it waits for its thread."""
        if bytes_read <= _BYTES_AT_ONCE:
            effort = Effort(_LOOKS_AT_ONCE)
            try:
                return _guarded(evaluate, effort)
            except EvaluationError:
                if not effort.spent:
                    raise
        return await self.take_long(tenant_id, evaluate, places)

    async def take_long(self, tenant_id: str, evaluate: Callable[[Effort], T], places: int) -> T:
        """As ``take``, for what is known to be long."""
        effort = Effort(LOOKS_MAX + _LOOKS_OF_PLACE * places)
        lock = self._tenants.setdefault(tenant_id, trio.Lock())
        async with lock:
            return await trio.to_thread.run_sync(_guarded, evaluate, effort, limiter=self._thread)


def _guarded(evaluate: Callable[[Effort], T], effort: Effort) -> T:
    try:
        return evaluate(effort)
    except EvaluationError:
        raise
    except Exception as error:
        _log.exception("evaluation_failed")
        why = f"cannot be evaluated ({type(error).__name__})"
        raise EvaluationError(why) from error
