"""The flags that the commands which run or prepare a node share, and the configuration of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from jobengine.cli.configuration import LOG_LEVELS, Configuration, configure
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.setting import ConfigurationError

__all__ = ["config_option", "configured", "data_option", "database_option", "node_options"]

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS: Final = {
    "audience": "audience",
    "data": "data_dir",
    "cors_origin": "cors_origins",
    "database_url": "database_url",
    "http": "http",
    "issuer": "issuer",
    "jwks": "jwks",
    "key_file": "key_file",
    "leeway": "leeway_s",
    "log_level": "log_level",
    "tls_cert": "tls_cert",
    "tls_client_ca": "tls_client_ca",
    "tls_key": "tls_key",
    "wait_database": "wait_database_s",
    "worker": "worker",
}
"""Which setting each parameter of a command is."""


def config_option(command: F) -> F:
    return click.option(
        "--config", type=click.Path(path_type=Path), help="A TOML file with settings."
    )(command)


def data_option(command: F) -> F:
    return click.option(
        "--data",
        metavar="DIR",
        help="Home of the embedded database and the key. Default: /var/lib/jobengine for root, "
        "else $XDG_DATA_HOME/jobengine or ~/.local/share/jobengine.",
    )(command)


def database_option(command: F) -> F:
    return click.option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL to use (15 or newer). With a password in it, prefer the environment: "
        "JOBENGINE_DATABASE_URL.",
    )(command)


def node_options(command: F) -> F:
    """Gives a command the flags of a running node."""
    for option in (
        click.option(
            "--log-level",
            type=click.Choice(LOG_LEVELS),
            help="What is logged to stderr; default: info.",
        ),
        config_option,
        click.option(
            "--cors-origin",
            metavar="ORIGIN,…",
            help="Origins whose pages may read answers, such as https://console.example.com.",
        ),
        click.option(
            "--leeway",
            metavar="SECONDS",
            help="How far that issuer's clock may be from ours; default 30.",
        ),
        click.option("--audience", metavar="NAME", help="What they must name in `aud`."),
        click.option(
            "--issuer", metavar="NAME", help="What the tokens of that issuer name as `iss`."
        ),
        click.option(
            "--jwks",
            metavar="FILE|URL",
            help="The keys of an external issuer; needs --issuer and --audience beside it.",
        ),
        click.option(
            "--tls-client-ca",
            metavar="FILE",
            help="Workers show a certificate that one of these has signed.",
        ),
        click.option("--tls-key", metavar="FILE", help="The key of --tls-cert."),
        click.option("--tls-cert", metavar="FILE", help="Speak TLS on both listeners."),
        database_option,
        click.option("--worker", metavar="HOST:PORT", help="Workers; default 127.0.0.1:7071."),
        click.option("--http", metavar="HOST:PORT", help="REST, streams; default 127.0.0.1:7070."),
        data_option,
    ):
        command = option(command)
    return command


def configured(config: Path | None = None, **flags: Any) -> Configuration:
    """The configuration that these parameters of a command make; names as in `_FLAGS`."""
    given = {_FLAGS[name]: (f"--{name.replace('_', '-')}", value) for name, value in flags.items()}
    try:
        return configure(given, file=config)
    except ConfigurationError as error:
        raise CommandFailedError(str(error), ExitCode.USAGE) from None
