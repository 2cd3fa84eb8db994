"""Trigger rules: when the dependencies of a node let it start, as one table.

What a rule decides depends only on whether any dependency has succeeded, failed, was cancelled, or
is left to end. So a node keeps a mask of the ends it has seen and a count of what is left, and each
verdict is one look-up in ``VERDICTS``.

I1  A node without dependencies fires under every rule.
I2  With nothing left to end no rule says ``WAIT``; so nothing waits for ever.
I3  ``FIRE`` and ``NEVER`` stay as they are, whatever else ends.

A cancelled dependency is neither a success nor a failure: ``none_failed`` passes it, ``any_failed``
does not fire for it.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final

from jobengine.domain.job import State

__all__ = ["LEFT", "SEEN", "VERDICTS", "TriggerRule", "Verdict", "judge"]


class TriggerRule(StrEnum):
    ALL_SUCCEEDED = "all_succeeded"
    ALL_DONE = "all_done"
    ANY_SUCCEEDED = "any_succeeded"
    ANY_FAILED = "any_failed"
    NONE_FAILED = "none_failed"


class Verdict(IntEnum):
    WAIT = 0
    FIRE = 1
    NEVER = 2


SUCCEEDED: Final = 1
FAILED: Final = 2
CANCELLED: Final = 4
LEFT: Final = 8
"""Bits of a mask; the first three say that such an end has been seen."""

SEEN: Final[Mapping[State, int]] = {
    State.COMPLETED: SUCCEEDED,
    State.FAILED: FAILED,
    State.CANCELLED: CANCELLED,
}
"""What an end of a dependency adds to the mask."""

# Of each rule: what it needs to have seen, what forbids it for good, and whether it starts only
# once nothing is left.
_RULES: Final[Mapping[TriggerRule, tuple[int, int, bool]]] = {
    TriggerRule.ALL_SUCCEEDED: (0, FAILED | CANCELLED, True),
    TriggerRule.ALL_DONE: (0, 0, True),
    TriggerRule.ANY_SUCCEEDED: (SUCCEEDED, 0, False),
    TriggerRule.ANY_FAILED: (FAILED, 0, False),
    TriggerRule.NONE_FAILED: (0, FAILED, True),
}


def _verdict(rule: TriggerRule, mask: int) -> Verdict:
    needed, forbidden, at_the_end = _RULES[rule]
    left = bool(mask & LEFT)
    if not mask:
        return Verdict.FIRE
    if mask & forbidden:
        return Verdict.NEVER
    if mask & needed == needed and not (at_the_end and left):
        return Verdict.FIRE
    return Verdict.WAIT if left else Verdict.NEVER


VERDICTS: Final[Mapping[TriggerRule, tuple[Verdict, ...]]] = {
    rule: tuple(_verdict(rule, mask) for mask in range(2 * LEFT)) for rule in TriggerRule
}
"""By rule, then by mask: ``SUCCEEDED | FAILED | CANCELLED | LEFT``, each if there is any."""


def judge(
    rule: TriggerRule, *, succeeded: int = 0, failed: int = 0, cancelled: int = 0, left: int = 0
) -> Verdict:
    """What the rule says of so many dependencies of each kind."""
    mask = SUCCEEDED * bool(succeeded) | FAILED * bool(failed)
    return VERDICTS[rule][mask | CANCELLED * bool(cancelled) | LEFT * bool(left)]
