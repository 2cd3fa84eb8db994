"""The schema that is read, and the one that runs."""

from tests.store.conformance.conftest import Servers
from tests.store.postgres.schema import MAJOR, PAGE, dump


def test_the_page_shows_what_the_migrations_make(servers: Servers) -> None:
    server, _ = servers.migrated(MAJOR)
    assert PAGE.read_text() == dump(server), "run: python -m tests.store.postgres.schema"
