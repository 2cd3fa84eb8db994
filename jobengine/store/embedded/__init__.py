"""A private PostgreSQL: found, initialised, started, watched and stopped by the engine itself.

`EmbeddedServer` is the door; `EmbeddedServerError` is all it raises on purpose. Why it is built
this way: `docs/decisions/0003-embedded-postgresql.md`.
"""

from jobengine.store.embedded.backup import dump, restore
from jobengine.store.embedded.binaries import Binaries, find_binaries
from jobengine.store.embedded.errors import EmbeddedServerError
from jobengine.store.embedded.running import running_url
from jobengine.store.embedded.server import EmbeddedServer
from jobengine.store.embedded.settings import EmbeddedSettings

__all__ = [
    "Binaries",
    "EmbeddedServer",
    "EmbeddedServerError",
    "EmbeddedSettings",
    "dump",
    "find_binaries",
    "restore",
    "running_url",
]
