"""What every benchmark can be told, and the command line's form of it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

__all__ = ["Options", "target_options"]

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(given: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text}: write NAME=VALUE")
        pairs[name] = value
    return pairs


@attrs.frozen(kw_only=True)
class Options:
    """Which engine to measure (none named: a private one) and how often."""

    rounds: int = 3
    url: str | None = None
    worker_url: str | None = None
    token: str | None = None
    tenant: str | None = None
    database_url: str | None = None
    directory: Path | None = None
    settings: Mapping[str, str] = attrs.field(default=(), converter=_pairs)
    allow_jobs: bool = False

    def __attrs_post_init__(self) -> None:
        if self.rounds < 1:
            raise click.UsageError("--rounds: at least 1")
        named = (self.url, self.worker_url, self.token)
        if any(named) and not all(named):
            raise click.UsageError("--url, --worker-url and --token go together")
        if self.url and self.settings:
            raise click.UsageError("--set is for a private engine; that one is set up already")

    @property
    def own_engine(self) -> bool:
        return self.url is None


def target_options(command: F) -> F:
    """Gives a command the options of `Options`, as one parameter each."""
    for option in (
        click.option("--allow-jobs", is_flag=True, help="Measure on a database that holds jobs."),
        click.option(
            "--set",
            "settings",
            metavar="NAME=VALUE",
            multiple=True,
            help="A setting of the private engine, such as shards=4.",
        ),
        click.option(
            "--dir",
            "directory",
            type=click.Path(file_okay=False, path_type=Path),
            help="Where the private engine keeps its data; default: a temporary directory.",
        ),
        click.option(
            "--database-url",
            help="The database that the private engine uses, or that the given one does: "
            "durability and what was stored are read from it.",
        ),
        click.option("--tenant", help="The tenant of --token; default: what the token says."),
        click.option("--token", help="Token of the given engine (orch:submit, orch:work)."),
        click.option("--worker-url", help="Workers' door of the given engine."),
        click.option("--url", help="Measure this engine instead of a private one."),
        click.option("--rounds", default=3, show_default=True, help="How often each case is run."),
    ):
        command = option(command)
    return command
