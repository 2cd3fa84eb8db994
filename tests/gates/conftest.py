"""A database of PostgreSQL with the schema in place."""

from collections.abc import Iterator

import pytest

from tests.postgres_server import fresh_database
from tests.store.conformance.conftest import Servers, servers

__all__ = ["migrated_database", "servers"]

MAJOR = 18


@pytest.fixture
def migrated_database(servers: Servers) -> Iterator[str]:
    """The conninfo of one that no other test uses."""
    server, template = servers.migrated(MAJOR)
    with fresh_database(server, template=template) as conninfo:
        yield conninfo
