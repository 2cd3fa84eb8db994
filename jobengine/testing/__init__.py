"""What users and the project's own tests test with."""

from jobengine.testing.memory import memory_engine

__all__ = ["memory_engine"]
