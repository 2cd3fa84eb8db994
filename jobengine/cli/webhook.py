"""`jobengine webhook`: where the tenant's events are posted."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options, read_secret
from jobengine.cli.failure import ExitCode
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.webhook_printing import (
    delivery_of,
    print_webhook,
    print_with_secret,
    progress_of,
)

__all__ = ["webhook"]

_revision = click.option("--revision", type=int, help="Only if it is still of this revision.")
_types = click.option(
    "--type",
    "types",
    multiple=True,
    metavar="NAME",
    help="Such as job.failed or run.*; may be repeated.",
)
_wrapping = click.option(
    "--wrapping",
    type=click.Choice(["none", "dsse"]),
    help="`dsse` puts each event into an envelope that the engine signs; default none.",
)
_description = click.option("--description", help="What it is for.")
_secret_file = click.option(
    "--secret-file", metavar="FILE", help="A file with the secret, - for stdin; made when absent."
)
_CREATE_HELP: Final = """Post the tenant's events to URL, and print the secret that signs them.

Without --type events of every type are posted; without --after, those that come from now on.
"""


def _cursor(word: str) -> Callable[[click.Context, click.Parameter, str | None], int | str | None]:
    """Takes a seq, or the word that stands for one."""

    def read(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
        if value is None or value == word:
            return value
        if not (value.isascii() and value.isdigit()):
            raise click.BadParameter(f"{value!r} is neither a seq nor {word!r}")
        return int(value)

    return read


@click.group()
def webhook() -> None:
    """Post events to receivers of yours, and see how that goes."""


@webhook.command(help=_CREATE_HELP)
@click.argument("target", metavar="URL")
@_types
@_secret_file
@_wrapping
@_description
@click.option(
    "--after",
    metavar="SEQ|begin",
    callback=_cursor("begin"),
    help="Begin behind this event, or with the oldest there is.",
)
@audited
@engine_options
def create(
    engine: Engine,
    output: Form,
    target: str,
    types: tuple[str, ...],
    secret_file: str | None,
    reason: str,
    ticket: str,
    **given: Any,
) -> None:
    fields = {name: value for name, value in given.items() if value is not None}
    if secret_file is not None:
        fields["secret"] = read_secret(secret_file)
    with engine.client() as client:
        made = client.create_webhook(target, types=types, reason=reason, ticket=ticket, **fields)
    print_with_secret(made, output)


@webhook.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_webhooks(engine: Engine, output: Form, limit: int) -> None:
    """List the webhooks, newest first, and how far each has come."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(islice(every(client.webhooks_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("WEBHOOK", "URL", "TYPES", "STATE", "DELIVERED", "LAG", "FAILURES", "NEXT TRY"),
        [
            (
                one.webhook_id,
                one.url,
                ",".join(one.types) or "all",
                one.reason or one.state,
                *progress_of(delivery_of(one)),
            )
            for one in found
        ],
    )


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@engine_options
def show(engine: Engine, output: Form, webhook_id: str) -> None:
    """Show one webhook, how far it has come, and its last attempts."""
    with engine.client() as client:
        print_webhook(client.webhook(webhook_id), output)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--to", "target", metavar="URL", help="Where to post from now on.")
@_types
@click.option("--all-types", is_flag=True, help="Post events of every type.")
@_wrapping
@_description
@_revision
@audited
@engine_options
def update(
    engine: Engine,
    output: Form,
    webhook_id: str,
    target: str | None,
    types: tuple[str, ...],
    all_types: bool,
    revision: int | None,
    reason: str,
    ticket: str,
    **given: Any,
) -> None:
    """Change what is named of WEBHOOK, and leave the rest."""
    fields = {name: value for name, value in given.items() if value is not None}
    if types and all_types:
        raise click.UsageError("--type and --all-types exclude each other")
    if types or all_types:
        fields["types"] = list(types)
    if target is not None:
        fields["url"] = target
    if not fields:
        raise click.UsageError("name what to change")
    with engine.client() as client:
        changed = client.update_webhook(
            webhook_id, reason=reason, ticket=ticket, revision=revision, **fields
        )
    print_webhook(changed, output)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@audited
@engine_options
def pause(engine: Engine, output: Form, webhook_id: str, reason: str, ticket: str) -> None:
    """Post nothing until it is resumed; nothing is missed then."""
    with engine.client() as client:
        print_webhook(client.pause_webhook(webhook_id, reason=reason, ticket=ticket), output)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option(
    "--after",
    metavar="SEQ|now",
    callback=_cursor("now"),
    help="Leave out for good what lies up to there.",
)
@audited
@engine_options
def resume(
    engine: Engine, output: Form, webhook_id: str, after: Any, reason: str, ticket: str
) -> None:
    """Go on where it was paused, or further on."""
    with engine.client() as client:
        resumed = client.resume_webhook(webhook_id, reason=reason, ticket=ticket, after=after)
    print_webhook(resumed, output)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@audited
@engine_options
def test(engine: Engine, output: Form, webhook_id: str, reason: str, ticket: str) -> int:
    """Post an event `webhook.test` now and show how that went; exits 0 if it was delivered."""
    with engine.client() as client:
        tried = client.test_webhook(webhook_id, reason=reason, ticket=ticket)
    if output == "json":
        print_json(tried)
    else:
        print_fields(
            [
                ("delivered", "yes" if tried.delivered else "no"),
                ("status", tried.http_status),
                ("took", f"{tried.took_ms:.0f} ms"),
                ("error", tried.error),
            ]
        )
    return ExitCode.OK if tried.delivered else ExitCode.ERROR


@webhook.command("rotate-secret")
@click.argument("webhook_id", metavar="WEBHOOK")
@_secret_file
@audited
@engine_options
def rotate_secret(
    engine: Engine,
    output: Form,
    webhook_id: str,
    secret_file: str | None,
    reason: str,
    ticket: str,
) -> None:
    """Sign with another secret from now on, and print it, once."""
    secret = None if secret_file is None else read_secret(secret_file)
    with engine.client() as client:
        rotated = client.rotate_webhook_secret(
            webhook_id, reason=reason, ticket=ticket, secret=secret
        )
    print_with_secret(rotated, output)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@_revision
@audited
@engine_options
def delete(
    engine: Engine,
    output: Form,
    webhook_id: str,
    revision: int | None,
    reason: str,
    ticket: str,
) -> None:
    """Take WEBHOOK away; what was not posted yet never is."""
    with engine.client() as client:
        gone = client.delete_webhook(webhook_id, reason=reason, ticket=ticket, revision=revision)
    if output == "json":
        print_json(gone)
    else:
        print_fields([("webhook", gone.name), ("removed at", gone.removed_at)])
