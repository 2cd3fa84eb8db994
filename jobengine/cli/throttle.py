"""`jobengine throttle`: rates that jobs share, and the shares of job types."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from jobengine.cli.connection import Engine, engine_options, reasoned
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.paging import every
from jobengine.cli.rates import rate_options, rate_text, rate_wanted

if TYPE_CHECKING:
    from jobengine.wire.rates import ThrottleScope, ThrottleView

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
    with engine.client() as client:
        found = list(islice(every(client.throttles_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("OF", "KEY", "RATE", "CHANGED"),
        [(one.scope, one.key, rate_text(one.rate), one.changed_at) for one in found],
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
    part = _scope(job_type, source)
    with engine.client() as client:
        _print_throttle(client.set_throttle(*part, rate, reason=reason, ticket=ticket), output)


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
    part = _scope(job_type, source)
    with engine.client() as client:
        _print_throttle(client.set_throttle(*part, None, reason=reason, ticket=ticket), output)


@click.group()
def weight() -> None:
    """Look at the shares of job types against others of their source, and set them."""


@weight.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_weights(engine: Engine, output: Form, limit: int) -> None:
    """List the shares that differ from 1."""
    with engine.client() as client:
        found = list(islice(every(client.weights_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("TYPE", "WEIGHT", "CHANGED"),
        [(one.job_type, one.weight, one.changed_at) for one in found],
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
    weight = None if share == 1 else share
    with engine.client() as client:
        done = client.set_weight(job_type, weight, reason=reason, ticket=ticket)
    if output == "json":
        print_json(done)
    else:
        print_fields([("type", done.job_type), ("weight", done.weight)])


def _scope(job_type: str | None, source: str | None) -> tuple["ThrottleScope", str | None]:
    if job_type is not None and source is not None:
        raise click.UsageError("give --type or --source, and one of them only")
    if job_type is not None:
        return "job_type", job_type
    return ("tenant", None) if source is None else ("source", source)


def _print_throttle(found: "ThrottleView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    part = " ".join(filter(None, (found.scope, found.key)))
    print_fields([("of", part), ("rate", rate_text(found.rate) or "none")])
