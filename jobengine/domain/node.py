"""A node of a run as it is asked for and stored, and what kinds there are.

Not here: edges between nodes and what is refused (``graph``).
"""

from enum import StrEnum

import msgspec

from jobengine.domain.trigger_rule import TriggerRule

__all__ = ["Node", "NodeKind", "instance_of", "join_key"]


class NodeKind(StrEnum):
    """Only ``job`` has a worker. ``join`` is never asked for: each ``map`` node brings its own."""

    JOB = "job"
    APPROVAL = "approval"
    CALLBACK = "callback"
    SUB_RUN = "sub_run"
    MAP = "map"
    JOIN = "join"


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """One node as it is asked for and stored; fields in sorted order of their stored names.

    ``digest`` is of everything else that the node is to do, such as its job's definition.
    ``join`` is the rule by which a ``map`` node's join ends; ``of`` names the ``map`` node that an
    instance belongs to, and is set by nobody but the planner.
    """

    depends_on: tuple[str, ...] = ()
    digest: str | None = None
    join: TriggerRule = TriggerRule.ALL_SUCCEEDED
    key: str
    kind: NodeKind = NodeKind.JOB
    of: str | None = None
    trigger: TriggerRule = TriggerRule.ALL_SUCCEEDED


def join_key(key: str) -> str:
    """The key of the join of a ``map`` node."""
    return f"{key}[]"


def instance_of(key: str, place: int) -> Node:
    """What a ``map`` node expands into for one place of its list."""
    return Node(key=f"{key}[{place}]", of=key)
