"""The text of the server's configuration: complete, ours, and written anew before each start.

The server is pointed at these files instead of those of the cluster, so that a start never
depends on what `initdb` guessed. `ALTER SYSTEM` still works and wins: the operator's door.

Access: whoever can enter the socket directory (0700: the server's account, and root) is let in
without a password, because both can read the data files anyway; a password would protect
nothing and be one more secret. Over TCP, which is off by default, only roles that an operator
has given a password get in.
"""

from __future__ import annotations

from pathlib import Path

from jobengine.store.embedded.settings import EmbeddedSettings

ROLE = "jobengine"
DATABASE = "postgres"
PORT = 5432


def access_rules(settings: EmbeddedSettings) -> str:
    """The content of `pg_hba.conf`."""
    rules = ["local all all trust"]
    if settings.tcp_port is not None:
        rules.append("host all all 127.0.0.1/32 scram-sha-256")
    return "\n".join(rules) + "\n"


def server_configuration(
    settings: EmbeddedSettings, *, hba_path: Path, ident_path: Path, socket_dir: Path
) -> str:
    """The content of `postgresql.conf`."""
    values = {
        "listen_addresses": "" if settings.tcp_port is None else "127.0.0.1",
        "port": settings.tcp_port or PORT,
        "unix_socket_directories": socket_dir_list(socket_dir),
        "unix_socket_permissions": "0700",
        "hba_file": hba_path,
        "ident_file": ident_path,
        "max_connections": settings.connections_max,
        "shared_buffers": f"{settings.shared_buffers_mib}MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "max_wal_size": "1GB",
        "jit": "off",
        "fsync": _switch(settings.durable),
        "synchronous_commit": _switch(settings.durable),
        "full_page_writes": _switch(settings.durable),
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "lc_monetary": "C",
        "lc_numeric": "C",
        "lc_time": "C",
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "on",
        "log_startup_progress_interval": f"{_progress_ms(settings)}ms",
    }
    head = "# Written by jobengine before each start; change it with ALTER SYSTEM.\n"
    return head + "".join(f"{name} = {_quoted(value)}\n" for name, value in values.items())


def socket_port(settings: EmbeddedSettings) -> int:
    """The port, which is also the end of the socket's name."""
    return settings.tcp_port or PORT


def socket_dir_list(socket_dir: Path) -> str:
    """A list of one directory in PostgreSQL's syntax, in which quotes keep commas and blanks."""
    return '"' + str(socket_dir).replace('"', '""') + '"'


def _progress_ms(settings: EmbeddedSettings) -> int:
    """How often recovery says that it goes on: several times before it is taken for stuck."""
    return max(1, int(min(10.0, settings.start_s_max / 4) * 1_000))


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _quoted(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
