"""The directory of one embedded server: whose it is, who uses it now, what is in it.

    <data_dir>/             the engine's
        engine.lock         locked while an engine uses the directory; holds its process id
        postgresql.conf     written before each start, like pg_hba.conf and pg_ident.conf
        server.log          what PostgreSQL says; what it said before that is server.log.1
        cluster/            PostgreSQL's own data directory, 0700, the server account's
        cluster.new-*/      a cluster while `initdb` works on it

I1  One engine at a time: whoever holds the lock. It ends with the process that took it.
I2  `cluster` is complete from the moment it exists: it is initialised under another name and
    renamed. A start that was cut short leaves a `cluster.new-*`, which the next one removes.
I3  Nothing is initialised in a directory that holds somebody else's files.
I4  A cluster of another major version is never started, and never changed.
I5  When the engine is root it writes nothing inside `cluster`, where the server's account could
    have planted links; files beside it take the owner of the directory they are in.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from jobengine.store.embedded.account import Account, server_account
from jobengine.store.embedded.binaries import Binaries
from jobengine.store.embedded.configuration import ROLE, access_rules, server_configuration
from jobengine.store.embedded.errors import (
    Diagnosis,
    EmbeddedServerError,
    recognise,
    storage_error,
)
from jobengine.store.embedded.settings import EmbeddedSettings

_CREATE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_INITIALISING = "cluster.new-"
_WRITING = "postgresql.conf"
_OURS = (
    *("engine.lock", _WRITING, "pg_hba.conf", "pg_ident.conf", "server.log", _INITIALISING),
    "lost+found",
)
_BUILTIN_LOCALE_MAJOR = 17
SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@attrs.frozen
class DataDirectory:
    """A locked data directory. All methods block; none takes a lock of its own."""

    path: Path
    account: Account

    @property
    def cluster(self) -> Path:
        return self.path / "cluster"

    @property
    def log_path(self) -> Path:
        return self.path / "server.log"

    @property
    def configuration_path(self) -> Path:
        return self.path / "postgresql.conf"

    def prepare(self, binaries: Binaries, settings: EmbeddedSettings) -> None:
        """Make `cluster` ready for this server: initialise it, or check that it fits.

        Takes 0.5-0.8 s for a new cluster and below 1 ms else.
        """
        self.account.require_access(
            [binaries.bin_dir],
            f"chmod o+x that directory, install PostgreSQL outside it ({binaries.bin_dir} is "
            "inside), or start the engine as another user",
        )
        self.account.require_access(
            [self.path], "chmod o+x that directory, or choose a data directory outside it"
        )
        self._remove_unfinished()
        if self.cluster.exists():
            self._require_major(binaries)
        else:
            self._initialise(binaries, settings)

    def write_configuration(self, settings: EmbeddedSettings, socket_dir: Path) -> None:
        """Replace the configuration files; the server reads them when it starts."""
        hba_path, ident_path = self.path / "pg_hba.conf", self.path / "pg_ident.conf"
        text = server_configuration(
            settings, hba_path=hba_path, ident_path=ident_path, socket_dir=socket_dir
        )
        self._write(hba_path, access_rules(settings))
        self._write(ident_path, "")
        self._write(self.configuration_path, text)

    def open_log(self, bytes_max: int) -> int:
        """Create the log, move it aside when it is too long, and return its size in bytes.

        Of what is moved the newest `bytes_max` are kept, in whole lines where there are such.
        """
        try:
            descriptor = os.open(self.log_path, _CREATE | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "rb+") as log:
                _give_to_owner(self.path, log.fileno())
                size = os.fstat(log.fileno()).st_size
                if size <= bytes_max:
                    return size
                log.seek(size - bytes_max - 1)
                newest = log.read()
                self._write(self.path / "server.log.1", newest.partition(b"\n")[2] or newest[1:])
                log.truncate(0)
                return 0
        except OSError as error:
            raise storage_error(error, self.path) from error

    def log_size(self) -> int:
        """In bytes: an offset for `log_since`."""
        return self.log_path.stat().st_size

    def log_since(self, offset: int) -> list[str]:
        """The lines written to the log after `offset`, at most the last 64 KiB."""
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(min(offset, end), end - (64 << 10)))
            return log.read().decode(errors="replace").splitlines()

    def _require_major(self, binaries: Binaries) -> None:
        try:
            found = (self.cluster / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.cluster} is no PostgreSQL cluster ({error.strerror} at PG_VERSION): "
                "restore it from a backup, or choose another data directory"
            ) from error
        if found != str(binaries.major):
            raise EmbeddedServerError(
                f"{self.path} holds a cluster of PostgreSQL {found}, and the server in "
                f"{binaries.bin_dir} is {binaries.major}: set embedded_bin_dir to that of "
                f"PostgreSQL {found}, or convert the cluster with pg_upgrade of {binaries.major}"
            )

    def _remove_unfinished(self) -> None:
        for path in self.path.glob(_INITIALISING + "*"):
            shutil.rmtree(path, ignore_errors=True)

    def _initialise(self, binaries: Binaries, settings: EmbeddedSettings) -> None:
        try:
            unfinished = Path(tempfile.mkdtemp(prefix=_INITIALISING, dir=self.path))
            self.account.give(unfinished)
            self._run_initdb(binaries, settings, unfinished)
            unfinished.rename(self.cluster)
            _sync_directory(self.path)
        except OSError as error:
            raise storage_error(error, self.path) from error
        finally:
            self._remove_unfinished()

    def _run_initdb(self, binaries: Binaries, settings: EmbeddedSettings, target: Path) -> None:
        try:
            answer = subprocess.run(
                initdb_command(binaries, target, durable=settings.durable),
                check=False,
                cwd="/",
                env=SERVER_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=settings.initialise_s_max,
                start_new_session=True,
                **self.account.credentials,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedServerError(
                f"initdb took longer than {settings.initialise_s_max:g} s in {self.path}: use a "
                "faster disk or raise embedded_initialise_s_max"
            ) from error
        if answer.returncode != 0:
            raise _initdb_error(answer.stderr.splitlines(), self.path)

    def _write(self, path: Path, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        try:
            descriptor, name = tempfile.mkstemp(prefix=_WRITING, dir=self.path)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    os.fchmod(file.fileno(), 0o644)
                    _give_to_owner(self.path, file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink()
                raise
        except OSError as error:
            raise storage_error(error, self.path) from error


@contextmanager
def locked_data_directory(path: Path, settings: EmbeddedSettings) -> Iterator[DataDirectory]:
    """Create the directory where it is missing and hold its lock for the block.

    Raises `EmbeddedServerError` at once when another process has it, naming that process.
    """
    path = path.absolute()
    try:
        path = path.resolve()
        account = server_account(path, path / "cluster", settings.server_user)
        if not path.exists():
            path.mkdir(parents=True, mode=0o700)
            path.chmod(0o711 if account.switched else 0o700)
        directory = DataDirectory(path, account)
        _require_no_foreign_files(path)
        lock = _lock(path)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        yield directory
    finally:
        os.close(lock)


def initdb_command(binaries: Binaries, target: Path, *, durable: bool = True) -> list[str]:
    """`initdb` for a cluster that sorts by code point, the same on every system and major."""
    provider = ["--locale-provider=builtin", "--builtin-locale=C"]
    return [
        str(binaries.initdb),
        f"--pgdata={target}",
        f"--username={ROLE}",
        "--encoding=UTF8",
        "--locale=C",
        *(provider if binaries.major >= _BUILTIN_LOCALE_MAJOR else []),
        "--data-checksums",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        *([] if durable else ["--no-sync"]),
    ]


def _require_no_foreign_files(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()}
    foreign = sorted(name for name in names if not name.startswith(_OURS))
    if foreign and "cluster" not in names:
        raise EmbeddedServerError(
            f"{path} is not empty and no data directory of jobengine (it holds {foreign[0]}): "
            "choose an empty or a new directory"
        )


def _lock(path: Path) -> int:
    descriptor = os.open(path / "engine.lock", _CREATE, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise EmbeddedServerError(
            f"{path} is in use by another engine, process {holder}: stop that one or choose "
            "another data directory"
        ) from None
    try:
        _give_to_owner(path, descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _give_to_owner(directory: Path, descriptor: int) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _initdb_error(said: list[str], path: Path) -> EmbeddedServerError:
    diagnosis = recognise(said, path)
    if diagnosis is None:
        errors = [line for line in said if "error:" in line or "FATAL:" in line]
        reason = (errors or said or ["it said nothing"])[0].strip()
        diagnosis = Diagnosis(
            f"initdb failed for {path} ({reason}): remove that cause, then start again",
            transient=False,
        )
    return diagnosis.error(said)
