"""The rate bucket's core, by concern; ``machine.py`` is the way in."""

from jobengine.core.rate_bucket.learning import refill_in_force
from jobengine.core.rate_bucket.machine import RateBucket

__all__ = ["RateBucket", "refill_in_force"]
