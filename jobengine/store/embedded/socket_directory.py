"""The private directory of the server's socket: short enough, and closed to everybody else.

The kernel takes socket names of about 100 bytes, which a data directory easily exceeds; so the
socket lives in a fresh directory of mode 0700 below the system's temporary directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobengine.store.embedded.account import Account
from jobengine.store.embedded.errors import EmbeddedServerError

SOCKET_PATH_BYTES_MAX = 103
_LONGEST_NAME = "jobengine-12345678/.s.PGSQL.65535"
_LAST_RESORT = Path("/tmp")  # noqa: S108 - a directory of mode 0700 is made in it


@contextmanager
def private_socket_directory(parent: Path | None, account: Account) -> Iterator[Path]:
    """Make the directory for the server's account, and remove it after the block.

    `parent` is an order; with `None` the temporary directory is tried, then `/tmp`.
    """
    usable = _usable_parent(parent, account)
    try:
        path = Path(tempfile.mkdtemp(prefix="jobengine-", dir=usable))
    except OSError as error:
        raise EmbeddedServerError(
            f"no directory for the server's socket can be made in {usable} ({error.strerror}): set "
            "embedded_runtime_dir to a directory this user may write"
        ) from error
    try:
        account.give(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _usable_parent(parent: Path | None, account: Account) -> Path:
    if parent is not None:
        _require_usable(parent, account)
        return parent
    try:
        default = Path(tempfile.gettempdir())
        _require_usable(default, account)
    except (OSError, EmbeddedServerError):
        return _LAST_RESORT
    return default


def _require_usable(parent: Path, account: Account) -> None:
    if len(os.fsencode(parent / _LONGEST_NAME)) > SOCKET_PATH_BYTES_MAX:
        raise EmbeddedServerError(
            f"a socket below {parent} would have a name of more than {SOCKET_PATH_BYTES_MAX} "
            "bytes: set embedded_runtime_dir to a shorter path"
        )
    if "," in str(parent):
        raise EmbeddedServerError(
            f"{parent} has a comma in its name, which divides hosts for PostgreSQL's clients: set "
            "embedded_runtime_dir to a path without one"
        )
    if not parent.is_dir():
        raise EmbeddedServerError(
            f"{parent} is no directory for the server's socket: create it or change "
            "embedded_runtime_dir"
        )
    account.require_access([parent], "set embedded_runtime_dir to a directory that user can enter")
