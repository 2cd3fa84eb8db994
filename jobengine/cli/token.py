"""`jobengine token`: keys and tokens of the engine's own making, without an identity provider."""

import re
import time
from pathlib import Path
from typing import Final

import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, audited, engine_options, read_secret
from jobengine.cli.failure import CommandFailedError
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

    Scopes: orch:read, orch:submit, orch:work, orch:operate, orch:quota, orch:backfill, orch:audit,
    orch:admin.
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
        raise CommandFailedError(f"{configuration.key_file} exists already; it is left as it is")
    load_key(configuration, create=True)
    print(configuration.key_file)


@token.command("rotate-key")
@data_option
@click.option("--key-file", metavar="FILE", help="The key; default: key.pem in --data.")
@click.option(
    "--overlap",
    type=_Duration(),
    default="30d",
    show_default=True,
    help="How long tokens of the old key go on being accepted.",
)
@click.option("--now", "at_once", is_flag=True, help="Not at all: refuse them from now on.")
@config_option
def rotate(
    data: str | None, key_file: str | None, overlap: int, at_once: bool, config: Path | None
) -> None:
    """Put a new signing key in the place of the old one.

    Running nodes take it within a second. Only the public half of the old key is kept, in
    KEY_FILE.retired.jwks; nodes on other machines need both files.
    """
    from jobengine.auth.keys import KeyFileError, key_id_of, rotate_key
    from jobengine.cli.node import load_key

    configuration = configured(config, data=data, key_file=key_file)
    load_key(configuration, create=False)
    now_at = time.time_ns() // 1000
    try:
        ring = rotate_key(
            configuration.key_file, now_at + (0 if at_once else overlap * 1_000_000), now_at
        )
    except KeyFileError as error:
        raise CommandFailedError(str(error)) from None
    print(key_id_of(ring.signer.public_key()))


@token.command()
@click.argument("token_id", metavar="[TOKEN_ID]", required=False)
@click.option(
    "--bearer-file",
    metavar="FILE",
    help="The token to revoke, in a file; - reads it from stdin. It is not sent, only its id is.",
)
@audited
@engine_options
def revoke(
    engine: Engine,
    output: Form,
    token_id: str | None,
    bearer_file: str | None,
    reason: str,
    ticket: str,
) -> None:
    """Let a token count no more for the tenant; running engines refuse it within a second.

    The engine keeps the token's id (its claim jti) until the token would have expired.
    """
    if (token_id is None) == (bearer_file is None):
        raise click.UsageError("name a TOKEN_ID, or give the token in --bearer-file")
    body = {"tokenId": token_id} if bearer_file is None else _id_of(read_secret(bearer_file))
    revoked = ask(engine, "POST", "/tokens:revoke", body, reason=reason, ticket=ticket)
    if output == "json":
        print_json(revoked)
    else:
        print(f"{revoked['tokenId']} is revoked")


def _id_of(bearer: str) -> dict[str, str]:
    """What revokes a token: its id, and when that may be forgotten. Nothing is verified."""
    from jobengine.auth.claims import TokenInvalidError
    from jobengine.auth.signatures import unverified_id
    from jobengine.domain.instant import to_rfc3339

    try:
        token_id, expires_at = unverified_id(bearer)
    except TokenInvalidError as error:
        raise CommandFailedError(f"--bearer-file: {error}") from None
    body = {"tokenId": token_id}
    if expires_at is not None:
        body["expiresAt"] = to_rfc3339(expires_at)
    return body
