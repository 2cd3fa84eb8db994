"""`jobengine blackout`: windows in which nothing new starts."""

from itertools import islice
from typing import Any
from urllib.parse import quote

import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every_asked

__all__ = ["blackout"]


@click.group()
def blackout() -> None:
    """Look at blackouts and their next windows, and set them up."""


@blackout.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_blackouts(engine: Engine, output: Form, limit: int) -> None:
    """List the blackouts, by id."""
    pages = every_asked(lambda query: ask(engine, "GET", "/blackouts", query=query))
    found = list(islice(pages, limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("BLACKOUT", "OF", "WINDOWS", "DRAINS", "REASON"),
        [
            (
                one["blackoutId"],
                _part(one),
                "; ".join(map(_rule_text, one["calendar"])),
                "yes" if one.get("drain") else "no",
                one["reason"],
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
    if job_type is not None and source is not None:
        raise click.UsageError("give --type or --source, and one of them only")
    if bool(crons) != (seconds is not None):
        raise click.UsageError("--cron and --seconds go together")
    if not windows and not crons:
        raise click.UsageError("give --window or --cron")
    calendar: list[dict[str, Any]] = [
        {"kind": "one_off", "startAt": start, "endAt": end} for start, end in windows
    ]
    calendar += [
        {"kind": "recurring", "cron": cron, "durationSeconds": seconds, "zone": zone}
        for cron in crons
    ]
    scope = "job_type" if job_type is not None else "source" if source is not None else "tenant"
    body = {"blackoutId": blackout_id, "scope": scope, "calendar": calendar, "drain": drain}
    if scope != "tenant":
        body["key"] = job_type or source
    made = ask(engine, "POST", "/blackouts", body, reason=reason, ticket=ticket)
    _print_blackout(made, output)


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@engine_options
def show(engine: Engine, output: Form, blackout_id: str) -> None:
    """Show one blackout."""
    _print_blackout(ask(engine, "GET", _path(blackout_id)), output)


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@click.option(
    "--count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many."
)
@engine_options
def preview(engine: Engine, output: Form, blackout_id: str, count: int) -> None:
    """Show the next windows of BLACKOUT."""
    found = ask(engine, "GET", f"{_path(blackout_id)}/preview", query={"count": str(count)})
    if output == "json":
        print_json(found)
        return
    print_table(("FROM", "UNTIL"), [(one["startAt"], one["endAt"]) for one in found["windows"]])


@blackout.command()
@click.argument("blackout_id", metavar="BLACKOUT")
@click.option("--force", is_flag=True, help="Also when jobs wait at it.")
@audited
@engine_options
def delete(
    engine: Engine, output: Form, blackout_id: str, force: bool, reason: str, ticket: str
) -> None:
    """Take BLACKOUT away."""
    query = {"force": "true"} if force else None
    gone = ask(engine, "DELETE", _path(blackout_id), query=query, reason=reason, ticket=ticket)
    if output == "json":
        print_json(gone)
    else:
        print_fields([("blackout", gone["name"]), ("removed", gone["removedAt"])])


def _path(blackout_id: str) -> str:
    return f"/blackouts/{quote(blackout_id, safe='')}"


def _part(found: dict[str, Any]) -> str:
    return " ".join(filter(None, (found["scope"], found.get("key"))))


def _rule_text(rule: dict[str, Any]) -> str:
    if rule["kind"] == "one_off":
        return f"{rule['startAt']} to {rule['endAt']}"
    return f"{rule['cron']} ({rule['zone']}) for {rule['durationSeconds']} s"


def _print_blackout(found: dict[str, Any], output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("blackout", found["blackoutId"]),
            ("of", _part(found)),
            *(("window", _rule_text(rule)) for rule in found["calendar"]),
            ("drains", "yes" if found.get("drain") else "no"),
            ("reason", found["reason"]),
            ("revision", found["revision"]),
            ("changed", found["changedAt"]),
        ]
    )
