"""Groups: what the alike jobs of a draft have in common, and who runs them.

Not here: the steps that a group takes, and what is written of them (``alike``).
"""

from typing import Any, NamedTuple, Protocol

from jobengine.domain.job import Likeness

__all__ = ["By", "Group", "Runs"]


class Runs(Protocol):
    """Who runs attempts: a session, or the lease that it was granted."""

    @property
    def worker_id(self) -> str: ...
    @property
    def task_runner_id(self) -> str: ...


class By(NamedTuple):
    """Who ran, or runs, the attempts of a group."""

    worker_id: str
    task_runner_id: str


class Group(NamedTuple):
    """What alike jobs of a draft have in common; ``attempt`` as it was before the ``steps``, which
    are those of ``alike``."""

    steps: Any
    like: Likeness
    by: By | None
    attempt: int
