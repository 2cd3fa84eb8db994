"""What becomes of a job, written in its payload: so a worker knows what to do with an attempt, and
an auditor what the job may come to, and neither asks the engine.

`steps` says what an attempt does by the failures that the job has behind it: with none the first,
and so on; the last one for all that follow. *Refused* is a failure that speaks of the source: its
upstream pushed back.

Not here: chance (`workload` draws fates), the doing (`worker`), the judging (`auditor`).
"""

from typing import Final, Literal

import msgspec

__all__ = ["STEPS", "Fate", "Step"]

Step = Literal["complete", "fail", "fail_for_good", "refused", "release"]
STEPS: Final[tuple[Step, ...]] = ("complete", "fail", "fail_for_good", "refused", "release")


class Fate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`work_ms` is how long an attempt takes; `logs` how many lines it says; `secret` is a text
    that must never be seen again outside of the payload; `items`: the result is a list of so many,
    for a map to go over."""

    number: int
    steps: tuple[Step, ...]
    work_ms: int = 0
    logs: int = 0
    progress: bool = False
    follow_ups: int = 0
    secret: str = ""
    items: int = 0

    def step(self, failures: int) -> Step:
        return self.steps[min(failures, len(self.steps) - 1)]
