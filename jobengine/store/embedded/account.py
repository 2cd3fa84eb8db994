"""Decides which operating system account runs the server, and whether it can reach its files.

PostgreSQL refuses to run as root. An engine that is not root runs it as itself. An engine that
is root hands it to another account:

I1  an existing cluster is served by its owner; its files are never given to somebody else;
I2  a new cluster goes to the account named by the setting, else to the owner of the data
    directory, else to `postgres`, else to `nobody`;
I3  no directory is opened up: one that the account cannot enter is named, with the remedy.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import attrs

from jobengine.store.embedded.errors import EmbeddedServerError

_FALLBACKS = ("postgres", "nobody")
_FIRST_CLOSED = 'for d; do [ -x "$d" ] || { printf %s "$d"; exit 1; }; done'


class Credentials(TypedDict, total=False):
    """Keywords of `subprocess.Popen` that switch to the account; empty when there is no need."""

    user: int
    group: int
    extra_groups: list[int]


@attrs.frozen
class Account:
    """`switched`: the engine is root and the server must run as somebody else."""

    uid: int
    gid: int
    name: str
    switched: bool

    @property
    def credentials(self) -> Credentials:
        if not self.switched:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def require_access(self, paths: Iterable[Path], remedy: str) -> None:
        """Raise, naming the first directory on the way to `paths` the account cannot enter.

        Asked of the system as that account, so that access lists count. Blocks for about 2 ms.
        """
        if not self.switched:
            return
        steps = [str(step) for path in paths for step in (*reversed(path.parents), path)]
        try:
            answer = subprocess.run(
                ["/bin/sh", "-c", _FIRST_CLOSED, "sh", *dict.fromkeys(steps)],
                check=False,
                cwd="/",
                capture_output=True,
                text=True,
                **self.credentials,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self._no_switch(error) from error
        if answer.returncode != 0:
            raise EmbeddedServerError(
                f"user {self.name}, who runs PostgreSQL because root may not, cannot enter "
                f"{answer.stdout}: {remedy}"
            )

    def give(self, path: Path) -> None:
        """Make a new directory the account's. Raises when this root may not."""
        if not self.switched:
            return
        try:
            os.chown(path, self.uid, self.gid)
        except OSError as error:
            raise self._no_switch(error) from error

    def _no_switch(self, error: Exception) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and this root cannot hand it to user {self.name} "
            f"({error}): start the engine as another user, or let it change accounts (a /bin/sh, "
            "and the capabilities SETUID, SETGID and CHOWN)"
        )


def server_account(data_dir: Path, cluster: Path, server_user: str | None) -> Account:
    """Choose the account for the cluster, which may not exist yet. Raises when none will do."""
    engine_uid = os.geteuid()
    if engine_uid != 0:
        return Account(engine_uid, os.getegid(), _name(engine_uid), switched=False)
    if cluster.exists():
        return _owner(cluster)
    if server_user is not None:
        return _named(server_user)
    if data_dir.exists() and data_dir.stat().st_uid != 0:
        return _owner(data_dir)
    for name in _FALLBACKS:
        try:
            return _named(name)
        except EmbeddedServerError:
            continue
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root and there is neither a user postgres nor nobody: "
        "start the engine as another user or set embedded_server_user"
    )


def _named(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedServerError(
            f"there is no user {name} to run PostgreSQL: create it or change embedded_server_user"
        ) from None
    if entry.pw_uid == 0:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as {name}, who is root: name another embedded_server_user"
        )
    return Account(entry.pw_uid, entry.pw_gid, name, switched=True)


def _owner(path: Path) -> Account:
    found = path.stat()
    if found.st_uid == 0:
        raise EmbeddedServerError(
            f"{path} belongs to root, and PostgreSQL refuses to run as root: give it to an "
            f"unprivileged user with chown -R"
        )
    return Account(found.st_uid, found.st_gid, _name(found.st_uid), switched=True)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
