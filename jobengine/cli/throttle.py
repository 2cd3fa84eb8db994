"""`jobengine throttle`: rates that jobs share, and the shares of job types."""

from itertools import islice
from typing import Any

import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, engine_options, reasoned
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every_asked
from jobengine.cli.rates import rate_options, rate_text, rate_wanted

__all__ = ["throttle", "weight"]


def _part(command: Any) -> Any:
    for option in (
        click.option("--source", help="Of this source."),
        click.option("--type", "job_type", help="Of this job type."),
    ):
        command = option(command)
    return command


@click.group()
def throttle() -> None:
    """Look at the rates of the tenant, its job types and sources, and set them."""


@throttle.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_throttles(engine: Engine, output: Form, limit: int) -> None:
    """List the rates."""
    pages = every_asked(lambda query: ask(engine, "GET", "/throttles", query=query))
    found = list(islice(pages, limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("OF", "KEY", "RATE", "CHANGED"),
        [(one["scope"], one.get("key"), _rate(one), one["changedAt"]) for one in found],
    )


@throttle.command("set")
@_part
@rate_options
@reasoned
@engine_options
def put(
    engine: Engine,
    output: Form,
    job_type: str | None,
    source: str | None,
    reason: str,
    ticket: str | None,
    **given: Any,
) -> None:
    """Set the rate of the whole tenant, or of what is named."""
    rate = rate_wanted(**given)
    if rate is None:
        raise click.UsageError("give --rpm or --per-second; `throttle remove` takes a rate away")
    body = {**_scope(job_type, source), "rate": _told(rate)}
    done = ask(engine, "PUT", "/throttles", body, reason=reason, ticket=ticket)
    _print_throttle(done, output)


@throttle.command()
@_part
@reasoned
@engine_options
def remove(
    engine: Engine,
    output: Form,
    job_type: str | None,
    source: str | None,
    reason: str,
    ticket: str | None,
) -> None:
    """Take the rate of the whole tenant away, or of what is named."""
    body = {**_scope(job_type, source), "rate": None}
    done = ask(engine, "PUT", "/throttles", body, reason=reason, ticket=ticket)
    _print_throttle(done, output)


@click.group()
def weight() -> None:
    """Look at the shares of job types against others of their source, and set them."""


@weight.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_weights(engine: Engine, output: Form, limit: int) -> None:
    """List the shares that differ from 1."""
    pages = every_asked(lambda query: ask(engine, "GET", "/weights", query=query))
    found = list(islice(pages, limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("TYPE", "WEIGHT", "CHANGED"),
        [(one["jobType"], one["weight"], one["changedAt"]) for one in found],
    )


@weight.command("set")
@click.argument("job_type", metavar="TYPE")
@click.argument("share", metavar="WEIGHT", type=click.IntRange(1, 1000))
@reasoned
@engine_options
def set_weight(
    engine: Engine, output: Form, job_type: str, share: int, reason: str, ticket: str | None
) -> None:
    """Give jobs of TYPE the share WEIGHT; 1 is that of all others."""
    body = {"jobType": job_type, "weight": None if share == 1 else share}
    done = ask(engine, "PUT", "/weights", body, reason=reason, ticket=ticket)
    if output == "json":
        print_json(done)
    else:
        print_fields([("type", done["jobType"]), ("weight", done["weight"])])


def _scope(job_type: str | None, source: str | None) -> dict[str, str]:
    if job_type is not None and source is not None:
        raise click.UsageError("give --type or --source, and one of them only")
    if job_type is not None:
        return {"scope": "job_type", "key": job_type}
    return {"scope": "tenant"} if source is None else {"scope": "source", "key": source}


def _told(rate: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(rate)


def _rate(found: dict[str, Any]) -> str | None:
    import msgspec

    from jobengine.wire.admission import RateView

    return rate_text(msgspec.convert(found.get("rate"), RateView | None))


def _print_throttle(found: dict[str, Any], output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    part = " ".join(filter(None, (found["scope"], found.get("key"))))
    print_fields([("of", part), ("rate", _rate(found) or "none")])
