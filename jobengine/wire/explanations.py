"""Shapes of explanations: why a job, or those of a queue, do not start.

I1  An answer may grow fields, so a reader ignores those it does not know.
"""

from jobengine.wire.controls import Shown
from jobengine.wire.fields import Instant

__all__ = ["ClosedGates", "GateView", "JobExplanation", "QueueExplanation"]


class GateView(Shown, kw_only=True):
    """A gate that is closed: what was seen against which limit, and when (`opensAt`) or by what
    (`opensOn`) it opens."""

    gate: str
    key: str
    observed: str
    limit: str
    opens_at: Instant | None = None
    opens_on: str | None = None
    message: str


class JobExplanation(Shown, kw_only=True):
    """Why a job does not start: every closed gate, none when the next step takes it. `position` is
    its place among the jobs of its queue, job type and source; 1 goes first."""

    job_id: str
    state: str
    gates: list[GateView]
    position: int | None = None
    estimated_start_at: Instant | None = None


class ClosedGates(Shown, kw_only=True, omit_defaults=False):
    gate: str
    key: str
    jobs: int


class QueueExplanation(Shown, kw_only=True, omit_defaults=False):
    """The first waiting jobs of a queue in their order, and how many of them each gate keeps."""

    queue: str
    items: list[JobExplanation]
    closed: list[ClosedGates]
