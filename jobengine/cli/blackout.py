"""`jobengine blackout`: windows in which nothing new starts."""

from itertools import islice
from typing import TYPE_CHECKING

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every

if TYPE_CHECKING:
    from jobengine.wire.blackouts import BlackoutView, CronRule, OneOffRule

__all__ = ["blackout"]


@click.group()
def blackout() -> None:
    """Look at blackouts and their next windows, and set them up."""


@blackout.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_blackouts(engine: Engine, output: Form, limit: int) -> None:
    """List the blackouts, by id."""
    with engine.client() as client:
        found = list(islice(every(client.blackouts_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("BLACKOUT", "OF", "WINDOWS", "DRAINS", "REASON"),
        [
            (
                one.blackout_id,
                _part(one),
                "; ".join(map(_rule_text, one.calendar)),
                "yes" if one.drain else "no",
                one.reason,
            )
            for one in found
        ],
    )


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@click.option("--type", "job_type", help="Of this job type only.")
@click.option("--source", help="Of this source only.")
@click.option(
    "--window",
    "windows",
    nargs=2,
    multiple=True,
    metavar="FROM UNTIL",
    help="Once: two instants such as 2026-12-24T12:00:00+01:00. May be repeated.",
)
@click.option("--cron", "crons", multiple=True, help="Whenever these five fields fire. Repeatable.")
@click.option("--seconds", type=click.IntRange(1), help="How long a window of --cron lasts.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of --cron.")
@click.option("--drain", is_flag=True, help="Ask what runs to stop when a window begins.")
@audited
@engine_options
def create(
    engine: Engine,
    output: Form,
    blackout_id: str,
    job_type: str | None,
    source: str | None,
    windows: tuple[tuple[str, str], ...],
    crons: tuple[str, ...],
    seconds: int | None,
    zone: str,
    drain: bool,
    reason: str,
    ticket: str,
) -> None:
    """Set up BLACKOUT, of the whole tenant without --type or --source."""
    from jobengine.wire.blackouts import BlackoutScopeName, CronRule, OneOffRule

    if job_type is not None and source is not None:
        raise click.UsageError("give --type or --source, and one of them only")
    if bool(crons) != (seconds is not None):
        raise click.UsageError("--cron and --seconds go together")
    if not windows and not crons:
        raise click.UsageError("give --window or --cron")
    calendar: list[OneOffRule | CronRule] = [OneOffRule(start, end) for start, end in windows]
    calendar += [CronRule(cron, seconds or 0, zone) for cron in crons]
    scope: BlackoutScopeName = "tenant"
    if job_type is not None or source is not None:
        scope = "source" if job_type is None else "job_type"
    with engine.client() as client:
        made = client.create_blackout(
            scope,
            calendar,
            reason=reason,
            ticket=ticket,
            blackout_id=blackout_id,
            key=job_type or source,
            drain=drain,
        )
    _print_blackout(made, output)


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@engine_options
def show(engine: Engine, output: Form, blackout_id: str) -> None:
    """Show one blackout."""
    with engine.client() as client:
        _print_blackout(client.blackout(blackout_id), output)


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@click.option(
    "--count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many."
)
@engine_options
def preview(engine: Engine, output: Form, blackout_id: str, count: int) -> None:
    """Show the next windows of BLACKOUT."""
    with engine.client() as client:
        found = client.preview_blackout(blackout_id, count=count)
    if output == "json":
        print_json(found)
        return
    print_table(("FROM", "UNTIL"), [(one.start_at, one.end_at) for one in found.windows])


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@click.option("--force", is_flag=True, help="Also when jobs wait at it.")
@audited
@engine_options
def delete(
    engine: Engine, output: Form, blackout_id: str, force: bool, reason: str, ticket: str
) -> None:
    """Take BLACKOUT away."""
    with engine.client() as client:
        gone = client.delete_blackout(blackout_id, reason=reason, ticket=ticket, force=force)
    if output == "json":
        print_json(gone)
    else:
        print_fields([("blackout", gone.name), ("removed", gone.removed_at)])


def _part(found: "BlackoutView") -> str:
    return " ".join(filter(None, (found.scope, found.key)))


def _rule_text(rule: "OneOffRule | CronRule") -> str:
    from jobengine.wire.blackouts import OneOffRule

    if isinstance(rule, OneOffRule):
        return f"{rule.start_at} to {rule.end_at}"
    return f"{rule.cron} ({rule.zone}) for {rule.duration_seconds} s"


def _print_blackout(found: "BlackoutView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("blackout", found.blackout_id),
            ("of", _part(found)),
            *(("window", _rule_text(rule)) for rule in found.calendar),
            ("drains", "yes" if found.drain else "no"),
            ("reason", found.reason),
            ("revision", found.revision),
            ("changed", found.changed_at),
        ]
    )
