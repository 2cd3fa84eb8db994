"""Where the server of a data directory answers while an engine runs it.

PostgreSQL itself writes that beside its data, in `postmaster.pid`; only the server's account and
root may read it, who alone are let in. A file that a killed server has left is told from a live one
by its socket. Source: PostgreSQL, `src/include/utils/pidfile.h`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import quote

from jobengine.store.embedded.configuration import DATABASE, ROLE
from jobengine.store.embedded.errors import EmbeddedServerError

_PORT, _SOCKET_DIRECTORY, _STATE = 3, 4, 7
_CONNECT_S = 5.0


def running_url(data_dir: Path) -> str:
    """A libpq URL of the database, as its superuser; holds no secret and ends with the server.

    Raises `EmbeddedServerError` when no server runs there, or not for this user.
    """
    try:
        lines = (data_dir / "cluster" / "postmaster.pid").read_text().splitlines()
    except PermissionError:
        raise EmbeddedServerError(
            f"the database in {data_dir} is another user's: run this as the user who runs the "
            "engine, or as root"
        ) from None
    except (OSError, UnicodeDecodeError):
        lines = []
    if len(lines) <= _STATE or lines[_STATE].strip() != "ready":
        raise _not_running(data_dir)
    directory, port = lines[_SOCKET_DIRECTORY], lines[_PORT]
    if not _answers(f"{directory}/.s.PGSQL.{port}"):
        raise _not_running(data_dir)
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(directory)}&port={port}"


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def _not_running(data_dir: Path) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"no engine runs a database in {data_dir}: start `jobengine up` on it, or name the data "
        "directory of the one that runs with --data"
    )
