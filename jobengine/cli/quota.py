"""`jobengine quota`: how much runs at once and starts in an hour, of what part of a tenant."""

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, engine_options, reasoned
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every

if TYPE_CHECKING:
    from jobengine.wire.quotas import QuotaUse, QuotaView

__all__ = ["quota"]

_CLEARABLE: Final = {"max-active": "max_active", "max-per-hour": "max_per_hour", "burst": "burst"}
_revision = click.option("--revision", type=int, help="Only if it is still of this revision.")


def _limited(command: Any) -> Any:
    for option in (
        click.option("--burst", type=int, help="Starts at once, of those of an hour."),
        click.option("--max-per-hour", type=int, help="Starts in any hour."),
        click.option("--max-active", type=int, help="Jobs that run at once."),
    ):
        command = option(command)
    return command


@click.group()
def quota() -> None:
    """Look at quotas and what they let through, set and pause them."""


@quota.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_quotas(engine: Engine, output: Form, limit: int) -> None:
    """List the quotas and how much of each is used."""
    with engine.client() as client:
        found = list(islice(every(client.quota_summary_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("QUOTA", "OF", "RUNNING", "AT ONCE", "THIS HOUR", "AN HOUR", "WAITING", "STATE"),
        [
            (
                one.quota_id,
                f"{one.scope} {one.key}" if one.key else one.scope,
                one.running,
                one.max_active,
                one.starts_this_hour,
                one.max_per_hour,
                one.waiting,
                _state(one),
            )
            for one in found
        ],
    )


@quota.command()
@click.argument("quota_id", metavar="QUOTA")
@engine_options
def show(engine: Engine, output: Form, quota_id: str) -> None:
    """Show one quota."""
    with engine.client() as client:
        _print_quota(client.quota(quota_id), output)


@quota.command()
@click.argument("quota_id", metavar="QUOTA")
@click.option("--type", "job_type", help="Of this job type only.")
@click.option("--project", help="Of this project only.")
@_limited
@click.option("--paused", is_flag=True, help="Let nothing start until it is resumed.")
@reasoned
@engine_options
def create(
    engine: Engine,
    output: Form,
    quota_id: str,
    job_type: str | None,
    project: str | None,
    paused: bool,
    reason: str,
    ticket: str | None,
    **limits: int | None,
) -> None:
    """Set up QUOTA, of the whole tenant without --type or --project."""
    if job_type is not None and project is not None:
        raise click.UsageError("give --type or --project, and one of them only")
    scope = "job_type" if job_type is not None else "project" if project is not None else "tenant"
    with engine.client() as client:
        made = client.create_quota(
            reason=reason,
            ticket=ticket,
            quota_id=quota_id,
            scope=scope,
            key=job_type or project,
            paused=paused,
            **limits,
        )
    _print_quota(made, output)


@quota.command("set")
@click.argument("quota_id", metavar="QUOTA")
@_limited
@click.option(
    "--clear", multiple=True, type=click.Choice(sorted(_CLEARABLE)), help="May be repeated."
)
@_revision
@reasoned
@engine_options
def change(
    engine: Engine,
    output: Form,
    quota_id: str,
    clear: tuple[str, ...],
    revision: int | None,
    reason: str,
    ticket: str | None,
    **limits: int | None,
) -> None:
    """Change the limits of QUOTA that are named; what runs above them goes on."""
    fields: dict[str, Any] = {name: most for name, most in limits.items() if most is not None}
    fields |= {_CLEARABLE[name]: None for name in clear}
    if not fields:
        raise click.UsageError("name a limit, or --clear it")
    with engine.client() as client:
        changed = client.update_quota(
            quota_id, reason=reason, ticket=ticket, revision=revision, **fields
        )
    _print_quota(changed, output)


@quota.command()
@click.argument("quota_id", metavar="QUOTA")
@click.option("--force", is_flag=True, help="Also when jobs wait at it.")
@_revision
@reasoned
@engine_options
def delete(
    engine: Engine,
    output: Form,
    quota_id: str,
    force: bool,
    revision: int | None,
    reason: str,
    ticket: str | None,
) -> None:
    """Take QUOTA away."""
    with engine.client() as client:
        gone = client.delete_quota(
            quota_id, reason=reason, ticket=ticket, revision=revision, force=force
        )
    if output == "json":
        print_json(gone)
    else:
        print_fields([("quota", gone.name), ("removed", gone.removed_at)])


def _switch(name: str, what: str) -> None:
    @quota.command(name, help=what)
    @click.argument("quota_id", metavar="QUOTA")
    @reasoned
    @engine_options
    def switch(
        engine: Engine, output: Form, quota_id: str, reason: str, ticket: str | None
    ) -> None:
        with engine.client() as client:
            operate = getattr(client, f"{name}_quota")
            _print_quota(operate(quota_id, reason=reason, ticket=ticket), output)


_switch("pause", "Let nothing start that QUOTA is about.")
_switch("resume", "Let what QUOTA is about start again.")


def _state(found: "QuotaView | QuotaUse") -> str:
    if found.paused:
        return "paused"
    limited = found.max_active is not None or found.max_per_hour is not None
    return "active" if limited else "no limits"


def _print_quota(found: "QuotaView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("quota", found.quota_id),
            ("of", f"{found.scope} {found.key}" if found.key else found.scope),
            ("at once", found.max_active),
            ("an hour", found.max_per_hour),
            ("burst", found.burst),
            ("state", _state(found)),
            ("revision", found.revision),
            ("changed", found.changed_at),
        ]
    )
