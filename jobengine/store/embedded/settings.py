"""Every knob of the embedded server: unit, default, bounds, reason.

What a remedy tells people to change is a setting of the engine too, as `embedded_` and its name.
"""

from __future__ import annotations

from pathlib import Path

import attrs
from attrs import validators


@attrs.frozen(kw_only=True)
class EmbeddedSettings:
    """Defaults suit a machine of two cores and 2 GiB; all times are seconds."""

    bin_dir: Path | None = None
    """Directory of `postgres` and `initdb`; `None` tries the wheel, then `/usr/lib/postgresql`."""

    server_user: str | None = None
    """Account of a new cluster's server when the engine is root; `None` picks one."""

    runtime_dir: Path | None = None
    """Parent of the private socket directory; `None` takes the system's temporary directory."""

    tcp_port: int | None = attrs.field(
        default=None,
        validator=validators.optional(validators.and_(validators.ge(1), validators.le(65535))),
    )
    """Also listen on 127.0.0.1, for roles that were given a password; `None` is socket only."""

    connections_max: int = attrs.field(
        default=40, validator=validators.and_(validators.ge(8), validators.le(1000))
    )
    """Three of them are PostgreSQL's reserve; an open one costs 2-5 MiB."""

    shared_buffers_mib: int = attrs.field(
        default=64, validator=validators.and_(validators.ge(8), validators.le(65536))
    )
    """The hot tables are small by design, so the page cache of the system does the rest."""

    durable: bool = True
    """`False` turns fsync off. For tests that throw the data away, and nothing else."""

    start_s_max: float = attrs.field(default=120.0, validator=validators.gt(0))
    """How long a start may take, waiting for leftovers included, and how long crash recovery, which
    may take hours, may then go on without a word of progress."""

    initialise_s_max: float = attrs.field(default=120.0, validator=validators.gt(0))
    """For `initdb`: below 1 s on a disk of today, much more on a network volume."""

    stop_fast_s: float = attrs.field(default=30.0, validator=validators.gt(0))
    """A fast shutdown writes a checkpoint; past this an immediate one follows."""

    stop_immediate_s: float = attrs.field(default=5.0, validator=validators.gt(0))
    """An immediate shutdown (recovery at the next start); past this SIGKILL follows."""

    restarts_max: int = attrs.field(default=5, validator=validators.ge(0))
    """Restarts tolerated within `restart_window_s` before the server is given up."""

    restart_window_s: float = attrs.field(default=60.0, validator=validators.gt(0))

    log_bytes_max: int = attrs.field(default=8 << 20, validator=validators.ge(64 << 10))
    """Size at which `server.log` becomes `server.log.1`; at most twice this is kept."""
