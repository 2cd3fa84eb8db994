"""The fixtures of the conformance suite, for tests of PostgreSQL alone."""

from tests.store.conformance.conftest import migrated_database, servers

__all__ = ["migrated_database", "servers"]
