"""The alphabet of governance: what the governor and the lease shards say to each other.

The governor also sends ``Allot`` (``messages/admission``). Every shard hears and answers in order,
so what it says after an answer is newer than the answer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobengine.domain.governance import Governance

__all__ = [
    "Allotted",
    "Demand",
    "Demands",
    "Govern",
    "GovernanceAnswer",
    "Governed",
    "Holding",
    "PolicyChanged",
    "ReadGovernance",
    "ShardBegun",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Demand(NamedTuple):
    """``running`` counts starts that are being decided; ``waiting``: jobs that only the allotment
    keeps from free slots of workers."""

    tenant_id: str
    running: int
    waiting: int


# ---- to a shard


class Govern(_Message, frozen=True, kw_only=True):
    """From now on no tenant of this shard starts more than it is allotted, and nothing is allotted
    yet; answered by ``Governed``. Without ``governed``: allotments hold no longer."""

    shard: int
    stamp: int
    governed: bool


# ---- from a shard


class ShardBegun(_Message, frozen=True, kw_only=True):
    """A governed shard has been rebuilt, and none of its tenants is allotted anything."""

    shard: int


class Governed(_Message, frozen=True, kw_only=True):
    """Every tenant of the shard that has demand; the others have none."""

    shard: int
    stamp: int
    demands: Sequence[Demand]


class Allotted(_Message, frozen=True, kw_only=True):
    """An allotment holds: no more than that will run, or no more than ``running`` until they
    end."""

    tenant_id: str
    stamp: int
    running: int


class Demands(_Message, frozen=True, kw_only=True):
    """Tenants whose demand has changed."""

    shard: int
    demands: Sequence[Demand]


class PolicyChanged(_Message, frozen=True, kw_only=True):
    """After its commit; of the revisions that are told, the highest counts."""

    policy: Governance
    revision: int
    changed_at: int


# ---- from doors


class ReadGovernance(_Message, frozen=True, kw_only=True):
    """Answered by ``GovernanceAnswer``."""

    ask_id: int


class Holding(NamedTuple):
    """What a tenant has now. ``held``: slots that no other tenant can have yet, which is more than
    its allotment while it drains."""

    tenant_id: str
    allotment: int
    held: int
    running: int
    waiting: int


class GovernanceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``holdings`` of every tenant with demand or an allotment, by tenant; none while nothing is
    governed. ``changed_at`` is None while no policy was ever set."""

    policy: Governance
    revision: int
    changed_at: int | None
    holdings: Sequence[Holding]
