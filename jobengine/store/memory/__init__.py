"""The store as a model: plain dictionaries, for simulations and for tests of users' own.

``MemoryStore`` answers as the PostgreSQL store does, checks what it checks, and keeps nothing
beyond the process.
"""

from jobengine.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
