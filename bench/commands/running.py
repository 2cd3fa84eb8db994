"""What all commands have in common: options, the run itself, and how it ends.

I1  Ctrl-C or SIGTERM stops what was started, in order, and ends with 130.
"""

import signal
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, TypeVar

import attrs
import click
import trio

from bench.harness.errors import BenchmarkError, leaves
from bench.harness.options import Options, target_options
from bench.harness.report import Report

__all__ = ["benchmark", "finish", "payload_option", "split_options"]

T = TypeVar("T")
Measure = Callable[..., Awaitable[Report]]

_INTERRUPTED: Final = 130
_OPTIONS: Final = frozenset(field.name for field in attrs.fields(Options))

payload_option: Final = click.option(
    "--payload-bytes", default=100, help="Of a job's payload, no two alike."
)
_rounds_option: Final = click.option("--rounds", default=3, help="How often each case is run.")


def benchmark(name: str, *, on_engine: bool = True) -> Callable[[Measure], click.Command]:
    """Make a command of what measures: it is given `Options` and its own options by their names,
    and its report is shown. Where it is not `on_engine`, `Options` are but the rounds."""

    def as_command(measure: Measure) -> click.Command:
        @wraps(measure)
        def run(**given: Any) -> None:
            options, own = split_options(given)
            finish(lambda: measure(options, **own)).show()

        common = target_options if on_engine else _rounds_option
        return click.command(name=name)(common(run))

    return as_command


def split_options(given: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """What every benchmark can be told, and what is this one's."""
    options = {name: value for name, value in given.items() if name in _OPTIONS}
    return Options(**options), {n: value for n, value in given.items() if n not in _OPTIONS}


def finish(action: Callable[[], Awaitable[T]]) -> T:
    """What comes of it; ends the process with one line where it fails, and when interrupted."""
    try:
        result = trio.run(_until_signal, action)
    except Exception as error:
        for leaf in leaves(error):
            if isinstance(leaf, click.ClickException):
                raise leaf from None
            if isinstance(leaf, BenchmarkError):
                raise click.ClickException(str(leaf)) from None
        raise
    if result is None:
        sys.exit(_INTERRUPTED)
    return result


async def _until_signal(action: Callable[[], Awaitable[T]]) -> T | None:
    """The result, or None when a signal came first; then everything that was started is stopped."""
    result: T | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_at_signal, nursery.cancel_scope)
        result = await action()
        nursery.cancel_scope.cancel()
    return result


async def _cancel_at_signal(
    everything: trio.CancelScope, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            everything.cancel()
