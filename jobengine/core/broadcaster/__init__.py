"""The broadcaster's core; see ``machine``."""

from jobengine.core.broadcaster.limits import BroadcasterLimits
from jobengine.core.broadcaster.machine import BroadcasterCore, Census

__all__ = ["BroadcasterCore", "BroadcasterLimits", "Census"]
