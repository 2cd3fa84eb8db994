"""The databases of the conformance suite."""

from tests.store.conformance.conftest import migrated_database, servers

__all__ = ["migrated_database", "servers"]
