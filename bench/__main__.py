"""The command line: one command a benchmark, and ``all``."""

from pathlib import Path
from typing import Any, Final

import click

from bench.all import run
from bench.commands import capacity, faults, parts, peers, rates, users
from bench.commands.running import finish
from bench.commands.sections import Section, SectionedGroup

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_BENCHMARKS: Final = tuple(
    module.SECTION for module in (rates, capacity, users, faults, parts, peers)
)


@click.command(name="all")
@click.option("--plot", type=_FILE, default=Path("docs/performance.svg"))
@click.option("--document", type=_FILE, default=Path("docs/performance.md"))
@click.option("--only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--quick", is_flag=True, help="One small round each.")
def run_all(**given: Any) -> None:
    """Each in turn, into the table and plot of a document."""
    known = [str(each.name) for section in _BENCHMARKS for each in section.commands]
    click.echo(f"{finish(lambda: run(known, **given))} measured")


bench: Final = SectionedGroup(
    name="bench",
    sections=(*_BENCHMARKS, Section("Everything", (run_all,))),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    help="Measure jobengine. Without --url each benchmark starts an engine and database of its "
    "own, which are gone afterwards. The last line printed is one JSON object.",
)


if __name__ == "__main__":
    bench()
