"""`jobengine up`: a complete installation on this machine, for trying and developing."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.node_options import configured, node_options
from jobengine.cli.output import Form, output_option, print_json

if TYPE_CHECKING:
    from jobengine.http.doors import Doors

__all__ = ["up"]

_TENANT: Final = "demo"
_TOKEN_S: Final = 30 * 86_400


@click.command()
@node_options
@output_option
def up(config: Path | None, output: Form, **flags: Any) -> int:
    """Start everything on this machine, until Ctrl-C.

    Runs the engine with a PostgreSQL of its own (or the one of --database-url) and prints where to
    reach it, with a development token: tenant `demo`, every scope, 30 days. Whoever has that token
    may do anything, so keep the addresses on loopback; for production there is `jobengine serve`.

    The first Ctrl-C lets workers finish or release their jobs, the second stops at once.

    With --output json, one line of JSON is printed once the engine serves:
    {"http", "worker", "console", "token", "tenant"}.
    """
    from jobengine.auth.scopes import Scope
    from jobengine.auth.tokens import Tokens
    from jobengine.cli.node import load_key, make_data_dir, run_node

    configuration = configured(config, **flags)
    make_data_dir(configuration)
    key = load_key(configuration, create=True)
    token = Tokens(key).issue(_TENANT, Scope, "developer", _TOKEN_S, time.time_ns() // 1000)

    def announce(doors: "Doors") -> None:
        if output == "json":
            print_json(_document(doors, token))
        else:
            _show(doors, token, str(configuration.data_dir))

    return run_node(configuration, key, announce, wait_database_s=0.0, any_login=True)


def _document(doors: "Doors", token: str) -> dict[str, str]:
    return {
        "http": doors.http_url,
        "worker": doors.worker_url,
        "console": f"{doors.http_url}/console",
        "token": token,
        "tenant": _TENANT,
    }


def _show(doors: "Doors", token: str, data_dir: str) -> None:
    sys.stdout.write(f"""\
jobengine is up.

  Console   {doors.http_url}/console#tenant={_TENANT}&token={token}
  REST      {doors.http_url}/api/v1/jobengine
  Workers   {doors.worker_url}
  Metrics   {doors.http_url}/metrics
  Tenant    {_TENANT}
  Data      {data_dir}

In another terminal, for workers and commands:

export JOBENGINE_URL={doors.http_url} JOBENGINE_WORKER_URL={doors.worker_url}
export JOBENGINE_TENANT={_TENANT}
export JOBENGINE_TOKEN={token}

Ctrl-C stops the engine; what it has stored stays.
""")
    sys.stdout.flush()
