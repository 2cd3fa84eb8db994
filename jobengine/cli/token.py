"""`jobengine token`: keys and tokens of the engine's own making, without an identity provider."""

import re
import time
from pathlib import Path
from typing import Final

import click

from jobengine.cli.failure import CommandFailed
from jobengine.cli.node_options import config_option, configured, data_option
from jobengine.cli.output import Form, output_option, print_json

__all__ = ["token"]

_DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Duration(click.ParamType[int]):
    """Seconds, or a number with s, m, h or d behind it."""

    name = "duration"

    def convert(
        self, value: str | int, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(value)
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is no duration; write 3600, 90m, 12h or 30d", param, context)
        return int(match[1]) * _UNITS_S[match[2]]


@click.group()
def token() -> None:
    """Make the keys and tokens that open the engine's doors."""


@token.command()
@click.option("--tenant", required=True, help="The tenant that the token is for.")
@click.option("--scope", "scopes", multiple=True, help="Such as orch:read; may be repeated.")
@click.option("--role", "roles", multiple=True, help="Orch.Viewer, Orch.Operator or Orch.Admin.")
@click.option(
    "--ttl", type=_Duration(), default="12h", show_default=True, help="How long it holds."
)
@click.option("--subject", default="operator", show_default=True, help="Whom the audit will name.")
@data_option
@click.option("--key-file", metavar="FILE", help="The key; default: key.pem in --data.")
@config_option
@output_option
def issue(
    tenant: str,
    scopes: tuple[str, ...],
    roles: tuple[str, ...],
    ttl: int,
    subject: str,
    data: str | None,
    key_file: str | None,
    config: Path | None,
    output: Form,
) -> None:
    """Print a token for a tenant. Whoever has it may do what its scopes allow, until it expires.

    Scopes: orch:read, orch:submit, orch:work, orch:operate, orch:quota, orch:backfill, orch:audit.
    """
    from jobengine.auth.tokens import Tokens
    from jobengine.cli.node import load_key

    if not scopes and not roles:
        raise click.UsageError("name at least one --scope or --role; the help lists them")
    configuration = configured(config, data=data, key_file=key_file)
    key = load_key(configuration, create=False)
    now_at = time.time_ns() // 1000
    try:
        made = Tokens(key).issue(tenant, [*scopes, *roles], subject, ttl, now_at)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if output == "json":
        print_json({"token": made, "tenant": tenant, "expiresInSeconds": ttl})
    else:
        print(made)


@token.command("new-key")
@click.option("--key-file", metavar="FILE", required=True, help="Where to put it.")
def new_key(key_file: str) -> None:
    """Make the Ed25519 key that signs the tokens of an installation.

    All its nodes use the same file. Nobody else may read it: who has the key can make any token.
    """
    from jobengine.cli.node import load_key

    configuration = configured(key_file=key_file)
    if configuration.key_file.exists():
        raise CommandFailed(f"{configuration.key_file} exists already; it is left as it is")
    load_key(configuration, create=True)
    print(configuration.key_file)
