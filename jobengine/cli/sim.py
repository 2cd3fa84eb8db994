"""`jobengine sim`: the whole engine under a seed, in virtual time.

Exit codes: 0 where every rule held, 1 where one was broken or the batch was interrupted.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from jobengine.cli.failure import CommandFailedError, ExitCode, leaves
from jobengine.cli.output import Form, output_option, printable

if TYPE_CHECKING:
    from jobengine.cli.sim_printing import BatchTold
    from jobengine.testing.sim.messages import Request
    from jobengine.testing.sim.scenario import Scenario

__all__ = ["sim"]

T = TypeVar("T")

_scenario_option = click.option(
    "--scenario",
    "named",
    default="everything",
    show_default=True,
    metavar="NAME|FILE",
    help="What kind of run: everything, bulks, calm, crashes, letters, limits, network, quiet, "
    "runs, storage, streams, or a file.",
)
_jobs_option = click.option(
    "--jobs", type=click.IntRange(1), help="How many jobs users submit, instead of the scenario's."
)
_processes_option = click.option(
    "--processes", type=click.IntRange(1), help="How many runs at a time; default: one a core."
)
_seed_option = click.option("--seed", type=click.IntRange(0), help="The run's seed.")
_regression_option = click.option(
    "--regression",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that `sim shrink --save` wrote, instead of a seed and a scenario.",
)


@click.group()
def sim() -> None:
    """Run the whole engine under a seed: virtual time, faults, an auditor that shares no code.

    A seed does the same in every process of the same code, so what fails once can be replayed.
    """


@sim.command()
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first.")
@_scenario_option
@_jobs_option
@_processes_option
@output_option
def run(
    seeds: int, first: int, named: str, jobs: int | None, processes: int | None, output: Form
) -> int:
    """Make a run of each seed, twice: in two processes in which strings hash differently.

    Tells violations as they come, and in the end which faults met which states. Interrupted, it
    says with which seed to go on; memory does not grow with the number of seeds.
    """
    from jobengine.cli.sim_printing import BatchTold
    from jobengine.testing.sim.messages import Request

    scenario = _scenario(named, jobs)
    requests = (Request(seed=seed, scenario=scenario) for seed in range(first, first + seeds))
    told = BatchTold(scenario.sites, named, output)
    told.begin_at(first)
    return _batch(requests, seeds, told, processes=processes, twice=True)


@sim.command()
@_seed_option
@_scenario_option
@_jobs_option
@_regression_option
@click.option("--code", help="The code that the seed was found with; said if it is another now.")
@click.option("--grep", metavar="REGEX", help="Only the lines that match.")
@click.option("--ledger", is_flag=True, help="Entries of the ledgers too, when they were durable.")
@output_option
def replay(
    seed: int | None,
    named: str,
    jobs: int | None,
    regression: Path | None,
    code: str | None,
    grep: str | None,
    ledger: bool,
    output: Form,
) -> int:
    """Make one run and print its trace: virtual seconds, who, what; in the end the verdict."""
    from jobengine.cli.sim_printing import print_trace
    from jobengine.testing.sim.run import simulate

    request, caught_by = _request(seed, named, jobs, regression)
    pattern = _pattern(grep)
    verdict = simulate(request.seed, request.scenario, keep_trace=True)
    print_trace(verdict, caught_by or code, pattern, output, ledger=ledger)
    return ExitCode.ERROR if verdict.violation else ExitCode.OK


@sim.command()
@_seed_option
@_scenario_option
@_jobs_option
@_regression_option
@click.option("--tries", type=click.IntRange(1), default=200, show_default=True, help="At most.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.")
@click.option("--caught", default="", help="What it caught, a sentence for the file.")
def shrink(
    seed: int | None,
    named: str,
    jobs: int | None,
    regression: Path | None,
    tries: int,
    save: Path | None,
    caught: str,
) -> int:
    """Make a failing run smaller while it fails in the same way; prints the file to keep.

    Fewer fault sites, jobs, workers, tenants, readers, operators; a shorter time of faults.
    """
    from jobengine.testing.sim.batch import open_lane
    from jobengine.testing.sim.regression import Regression
    from jobengine.testing.sim.shrink import Shrunk
    from jobengine.testing.sim.shrink import shrink as shrink_run
    from jobengine.testing.sim.sources import code_stamp

    request, _ = _request(seed, named, jobs, regression)

    async def in_lane() -> Shrunk | None:
        async with open_lane() as judged:
            return await shrink_run(request, judged, tries_max=tries, told=tell)

    def tell(found: "Request", tried: int) -> None:
        sites = len(found.scenario.sites)
        click.echo(f"{tried:4} runs: {found.scenario.jobs} jobs, {sites} fault sites", err=True)

    shrunk = _to_end(in_lane)
    if shrunk is _INTERRUPTED:
        raise click.Abort
    if shrunk is None:
        click.echo(f"seed {request.seed} keeps every rule: there is nothing to shrink")
        return ExitCode.OK
    violation = printable(shrunk.outcome.violation or "")
    text = Regression(
        seed=shrunk.request.seed,
        caught=caught or violation,
        code=code_stamp(),
        scenario=shrunk.request.scenario,
    ).text()
    click.echo(f"{shrunk.tries} runs; it fails with: {violation}", err=True)
    if save is None:
        click.echo(text, nl=False)
    else:
        save.write_text(text)
        click.echo(f"written: {save}", err=True)
    return ExitCode.ERROR


@sim.command()
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The run's seed."
)
@click.option(
    "--each", type=click.IntRange(1), default=8, show_default=True, help="Calls of each verb."
)
@click.option(
    "--runs", type=click.IntRange(1), default=400, show_default=True, help="How many at most."
)
@_processes_option
@output_option
def nth(seed: int, each: int, runs: int, processes: int | None, output: Form) -> int:
    """Fail the first, second, … call of each verb of the store, before and after its effect.

    Each in a run of its own, in which nothing else goes wrong.
    """
    from jobengine.cli.sim_printing import BatchTold
    from jobengine.testing.sim.nth_calls import NTH_SITE, SMALL, nth_requests
    from jobengine.testing.sim.run import simulate

    told = BatchTold([NTH_SITE], SMALL.name, output)
    plain = simulate(seed, SMALL)
    if plain.violation:
        raise CommandFailedError(f"seed {seed} fails without a fault: {plain.violation}")
    requests = list(nth_requests(seed, plain.calls, each_max=each, runs_max=runs))
    return _batch(iter(requests), len(requests), told, processes=processes, twice=False)


def _batch(
    requests: "Iterator[Request]",
    count: int,
    told: "BatchTold",
    *,
    processes: int | None,
    twice: bool,
) -> int:
    from jobengine.testing.sim.batch import run_all

    with told.progress(count):
        done = _to_end(lambda: run_all(requests, told.take, processes=processes, twice=twice))
    told.finish(interrupted=done is _INTERRUPTED)
    return ExitCode.ERROR if told.failed or done is _INTERRUPTED else ExitCode.OK


_INTERRUPTED: Any = object()


def _to_end(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main`; a signal ends it, and what it answers then is `_INTERRUPTED`."""
    import signal

    import trio

    async def until_signal() -> T:
        answer: T = _INTERRUPTED
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:

                async def cancel() -> None:
                    async for _ in received:
                        nursery.cancel_scope.cancel()

                nursery.start_soon(cancel)
                answer = await main()
                nursery.cancel_scope.cancel()
        return answer

    from jobengine.testing.sim.children import CodeChangedError

    try:
        return trio.run(until_signal)
    except* CodeChangedError as group:
        raise CommandFailedError(f"{next(leaves(group))}: begin it again") from None
    except* KeyboardInterrupt:
        pass  # a second signal, while the first was obeyed
    return cast("T", _INTERRUPTED)


def _request(
    seed: int | None, named: str, jobs: int | None, regression: Path | None
) -> "tuple[Request, str | None]":
    """The run that options ask for, and by which code it was caught, if known."""
    from jobengine.testing.sim.messages import Request
    from jobengine.testing.sim.regression import read_regression

    if (seed is None) == (regression is None):
        raise click.UsageError("say which run: --seed, or --regression")
    if regression is None:
        assert seed is not None
        return Request(seed=seed, scenario=_scenario(named, jobs)), None
    with _scenario_errors():
        found = read_regression(regression)
    return Request(seed=found.seed, scenario=found.scenario), found.code


def _scenario(named: str, jobs: int | None) -> "Scenario":
    import msgspec

    from jobengine.testing.sim.named import find_scenario

    with _scenario_errors():
        found = find_scenario(named)
    return found if jobs is None else msgspec.structs.replace(found, jobs=jobs)


@contextmanager
def _scenario_errors() -> Iterator[None]:
    from jobengine.testing.sim.scenario import ScenarioError

    try:
        yield
    except ScenarioError as error:
        raise CommandFailedError(str(error), ExitCode.USAGE) from None


def _pattern(text: str | None) -> Any:
    import re

    try:
        return re.compile(text or "")
    except re.error as error:
        raise click.UsageError(f"--grep {text!r}: {error}") from None
