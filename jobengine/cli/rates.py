"""Rates on the command line: the options that say one, and how one is shown."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobengine.cli.numbers import NumberRange

if TYPE_CHECKING:
    from jobengine.wire.rates import RatePolicy, RateView

__all__ = ["rate_options", "rate_text", "rate_wanted"]

F = TypeVar("F", bound=Callable[..., Any])


def rate_options(command: F) -> F:
    """Gives a command --rpm, --per-second, --burst and --cooldown, for `rate_wanted`."""
    for option in (
        click.option("--cooldown", type=int, help="Seconds without a start after a push-back."),
        click.option("--burst", type=int, help="How many may start at once."),
        click.option("--per-second", type=NumberRange(0), help="Starts a second."),
        click.option("--rpm", type=NumberRange(0), help="Starts a minute."),
    ):
        command = option(command)
    return command


def rate_wanted(
    rpm: float | None, per_second: float | None, burst: int | None, cooldown: int | None
) -> "RatePolicy | None":
    """The rate that the options say, None when they say nothing. Raises `click.UsageError`."""
    from jobengine.wire.rates import RatePolicy

    if rpm is None and per_second is None:
        if burst is not None or cooldown is not None:
            raise click.UsageError("--burst and --cooldown go with --rpm or --per-second")
        return None
    if rpm is not None and per_second is not None:
        raise click.UsageError("give --rpm or --per-second, and one of them only")
    return RatePolicy(rpm=rpm, per_second=per_second, burst=burst, cooldown_seconds=cooldown or 0)


def rate_text(rate: "RateView | None") -> str | None:
    """On one line; None for none."""
    if rate is None:
        return None
    cooldown = f", cooldown {rate.cooldown_seconds} s" if rate.cooldown_seconds else ""
    return f"{rate.rpm:g} a minute, burst {rate.burst}{cooldown}"
