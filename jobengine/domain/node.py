"""A node of a run as it is asked for and stored, and what kinds there are.

Not here: edges between nodes and what is refused (``graph``).
"""

from enum import StrEnum
from typing import Final

import msgspec

from jobengine.domain.trigger_rule import TriggerRule

__all__ = ["WORKERLESS_PREFIX", "Node", "NodeKind", "instance_of", "join_key"]

WORKERLESS_PREFIX: Final = "orch."
"""What the job types of nodes without a worker begin with (``orch.<kind>``), and no others."""


class NodeKind(StrEnum):
    """Only ``job`` has a worker. ``join`` is never asked for: each ``map`` node brings its own."""

    JOB = "job"
    APPROVAL = "approval"
    CALLBACK = "callback"
    POLICY = "policy"
    SUB_RUN = "sub_run"
    MAP = "map"
    JOIN = "join"


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """One node as it is asked for and stored; fields in sorted order of their stored names.

    ``digest`` is of everything else that the node is to do, such as its job's definition.
    ``join`` is the rule by which a ``map`` node's join ends; ``of`` names the ``map`` node that an
    instance belongs to, and is set by nobody but the planner. ``reads`` is given where the payload
    is a template: the keys, all in ``depends_on``, whose results it reads. ``when`` is an
    expression that skips the node where it is false.
    """

    depends_on: tuple[str, ...] = ()
    digest: str | None = None
    join: TriggerRule = TriggerRule.ALL_SUCCEEDED
    key: str
    kind: NodeKind = NodeKind.JOB
    of: str | None = None
    reads: tuple[str, ...] | None = None
    trigger: TriggerRule = TriggerRule.ALL_SUCCEEDED
    when: str | None = None


def join_key(key: str) -> str:
    """The key of the join of a ``map`` node."""
    return f"{key}[]"


def instance_of(key: str, place: int) -> Node:
    """What a ``map`` node expands into for one place of its list."""
    return Node(key=f"{key}[{place}]", of=key)
