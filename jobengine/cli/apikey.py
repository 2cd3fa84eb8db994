"""`jobengine apikey`: bearers for machines, made, listed and revoked in a running engine."""

from typing import Any

import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table

__all__ = ["apikey"]


@click.group()
def apikey() -> None:
    """Make, list and revoke API keys of a tenant; needs orch:admin."""


@apikey.command()
@click.option("--label", required=True, help="What it is for, such as `nightly import`.")
@click.option("--scope", "scopes", multiple=True, help="Such as orch:submit; may be repeated.")
@click.option("--role", "roles", multiple=True, help="Orch.Viewer, Orch.Operator or Orch.Admin.")
@click.option("--expires-at", metavar="TIME", help="Such as 2027-01-31T00:00:00Z; else never.")
@audited
@engine_options
def create(
    engine: Engine,
    output: Form,
    label: str,
    scopes: tuple[str, ...],
    roles: tuple[str, ...],
    expires_at: str | None,
    reason: str,
    ticket: str,
) -> None:
    """Make a key and print it. It is shown this once; the engine keeps only its digest."""
    if not scopes and not roles:
        raise click.UsageError("name at least one --scope or --role")
    body: dict[str, Any] = {"label": label, "scopes": [*scopes, *roles]}
    if expires_at is not None:
        body["expiresAt"] = expires_at
    made = ask(engine, "POST", "/apikeys", body, reason=reason, ticket=ticket)
    if output == "json":
        print_json(made)
    else:
        print(made["key"])


@apikey.command("list")
@engine_options
def list_keys(engine: Engine, output: Form) -> None:
    """List the tenant's keys, newest first. Their secrets are nowhere to be seen."""
    items: list[dict[str, Any]] = []
    query = {"pageSize": "500"}
    while True:
        page = ask(engine, "GET", "/apikeys", query=query)
        items += page["items"]
        if page["nextPageToken"] is None:
            break
        query["pageToken"] = page["nextPageToken"]
    if output == "json":
        print_json(items)
        return
    print_table(
        ("API KEY", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "REVOKED"),
        [
            (
                item["apiKeyId"],
                item["label"],
                ",".join(item["scopes"]),
                item["createdAt"],
                item.get("expiresAt"),
                item.get("lastUsedDay"),
                item.get("revokedAt"),
            )
            for item in items
        ],
    )


@apikey.command()
@click.argument("api_key_id", metavar="API_KEY")
@audited
@engine_options
def revoke(engine: Engine, output: Form, api_key_id: str, reason: str, ticket: str) -> None:
    """Revoke a key, by its id (the middle part of jek_<id>_…), at once and for good."""
    if "_" in api_key_id or "/" in api_key_id:
        raise click.UsageError("name the key by its id, never by the key itself")
    changed = ask(engine, "POST", f"/apikeys/{api_key_id}:revoke", {}, reason=reason, ticket=ticket)
    if output == "json":
        print_json(changed)
        return
    print_fields(
        [
            ("api key", changed["apiKeyId"]),
            ("label", changed["label"]),
            ("revoked at", changed["revokedAt"]),
        ]
    )
