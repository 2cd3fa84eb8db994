"""The core of a lease shard; see ``machine``."""

from jobengine.core.lease_shard.machine import LeaseShard
from jobengine.core.lease_shard.state import ShardLimits

__all__ = ["LeaseShard", "ShardLimits"]
