"""What can go wrong with the embedded server, each as one line that ends in its remedy.

PostgreSQL reports a failed start only in its log, in English because the server runs with
`lc_messages = C`. `diagnose` reads the lines of that one start and names cause and remedy.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import attrs

LOG_TAIL_LINES = 20


class EmbeddedServerError(Exception):
    """One line: what failed and what to do. The tail of the server's log, if any, is a note."""


@attrs.frozen
class Diagnosis:
    """Why a start failed. `transient`: a leftover of an earlier server may still go away."""

    message: str
    transient: bool

    def error(self, log: Sequence[str]) -> EmbeddedServerError:
        error = EmbeddedServerError(self.message)
        if log:
            error.add_note("server log:\n" + "\n".join(log[-LOG_TAIL_LINES:]))
        return error


@attrs.frozen
class _Symptom:
    needle: str
    cause: str
    remedy: str
    transient: bool = False


_SYMPTOMS = (
    _Symptom(
        "no space left on device",
        "the disk of {data_dir} is full",
        "free space there, then start again; committed data is safe",
    ),
    _Symptom(
        "disk quota exceeded",
        "the disk quota for {data_dir} is used up",
        "free space or raise the quota, then start again",
    ),
    _Symptom(
        "pre-existing shared memory block",
        "processes of an earlier server still hold the shared memory of {data_dir}",
        "end the postgres processes of that directory, then start again",
        transient=True,
    ),
    _Symptom(
        'lock file "postmaster.pid" already exists',
        "another PostgreSQL server runs on {data_dir}",
        "stop it, then start again",
        transient=True,
    ),
    _Symptom(
        "incorrect checksum in control file",
        "the control file of {data_dir} is damaged",
        "restore the directory from a backup",
    ),
    _Symptom(
        "pg_control",
        "the control file of {data_dir} cannot be used",
        "restore the directory from a backup",
    ),
    _Symptom(
        "could not locate a valid checkpoint record",
        "the write-ahead log of {data_dir} is damaged",
        "restore the directory from a backup",
    ),
    _Symptom(
        "invalid permissions",
        "the cluster in {data_dir} is open to other users",
        "run chmod 0700 on its directory `cluster`",
    ),
    _Symptom(
        "wrong ownership",
        "the cluster in {data_dir} belongs to another user",
        "start the engine as that user or give it the directory with chown",
    ),
    _Symptom(
        "could not map anonymous shared memory",
        "not enough memory for the embedded server of {data_dir}",
        "free memory or lower embedded_shared_buffers_mib",
    ),
    _Symptom(
        "address already in use",
        "the TCP port of the embedded server is taken",
        "choose another embedded_tcp_port or leave it unset",
    ),
    _Symptom(
        "permission denied",
        "the embedded server may not use a file of {data_dir}",
        "give the directory back to the server's user with chown -R",
    ),
)

_PROGRESS = ("elapsed time: ", "redo starts at", "redo done at", "end-of-recovery")


def last_progress(log: Sequence[str]) -> str | None:
    """The last line by which a server in crash recovery tells that it goes on."""
    told = (line for line in reversed(log) if any(needle in line for needle in _PROGRESS))
    return next(told, None)


def recognise(log: Sequence[str], data_dir: Path) -> Diagnosis | None:
    """Name the cause in what a program said; the first symptom listed wins, `None` is unknown."""
    text = "\n".join(log).lower()
    for symptom in _SYMPTOMS:
        if symptom.needle in text:
            cause = symptom.cause.format(data_dir=data_dir)
            return Diagnosis(f"{cause}: {symptom.remedy}", symptom.transient)
    return None


def diagnose(log: Sequence[str], data_dir: Path) -> Diagnosis:
    """Explain one failed start by its log lines, where need be by the last severe one."""
    known = recognise(log, data_dir)
    if known is not None:
        return known
    severe = [line for line in log if "FATAL:" in line or "PANIC:" in line]
    last = (severe or list(log) or ["it wrote no log"])[-1].strip()
    return Diagnosis(
        f"the embedded server of {data_dir} did not start ({last}): remove that cause, see "
        f"{data_dir}/server.log, then start again",
        transient=False,
    )


def storage_error(error: OSError, path: Path) -> EmbeddedServerError:
    """Explain what the system refused in a data directory."""
    reason = error.strerror or str(error)
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return diagnose([reason], path).error([])
    return EmbeddedServerError(
        f"the data directory {path} cannot be used ({reason} at {where}): give the engine's user "
        "the right to read and write it, or choose another directory"
    )
