"""`jobengine serve`: a node in production. Nothing is assumed that a person should decide."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.node_options import configured, node_options
from jobengine.cli.output import Form, output_option, print_json

if TYPE_CHECKING:
    from jobengine.http.doors import Doors

__all__ = ["serve"]


@click.command()
@node_options
@click.option("--key-file", metavar="FILE", help="The key that signs tokens; must exist.")
@click.option("--embedded", is_flag=True, help="Run PostgreSQL in the data directory.")
@click.option(
    "--wait-database",
    metavar="SECONDS",
    help="How long to wait for a database that does not answer yet; default 60.",
)
@output_option
def serve(config: Path | None, output: Form, embedded: bool, **flags: Any) -> int:
    """Run a node in production, until SIGTERM.

    Needs a database (--database-url or --embedded) and a key file that exists; tokens are made with
    `jobengine token issue`. Every flag can be set in the environment or in --config too, see
    `jobengine config show`.

    With --output json, one line of JSON is printed once the node serves: {"http", "worker"}.
    """
    from jobengine.cli.node import load_key, make_data_dir, run_node

    configuration = configured(config, **flags)
    if embedded == (configuration.options.database_url is not None):
        raise CommandFailedError(
            "name a database with --database-url or JOBENGINE_DATABASE_URL, or ask for one in the "
            "data directory with --embedded; not both",
            ExitCode.USAGE,
        )
    key = load_key(configuration, create=False)
    if embedded:
        make_data_dir(configuration)

    def announce(doors: "Doors") -> None:
        if output == "json":
            print_json({"http": doors.http_url, "worker": doors.worker_url})

    wait_s = configuration.options.wait_database_s
    return run_node(configuration, key, announce, wait_database_s=wait_s, any_login=False)
