"""jobengine beside other queues on PostgreSQL: the same server, the same run, in turns.

Each round measures every case of every system, one right after the other, each time another one
first; the peers in databases of their own on jobengine's server, each with the settings that its
documents give for the most jobs a second (heads of `bench.peers.drivers`). One worker process with
a handler that does nothing, payloads of 100 bytes. `ratio` is jobengine to the peer, of the same
round, above 1 where jobengine is ahead: of rates theirs below ours, of waits ours below theirs.

What the systems do is not the same: jobengine has a ledger of every transition, leases and
admission; `keeps` says what stays of a peer's finished job.
"""

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any, Final

import attrs
import click
import trio
from rich.console import Console
from rich.table import Table

from bench.harness.errors import BenchmarkError, leaves
from bench.harness.options import Options
from bench.harness.report import Report, report_on
from bench.harness.target import Target, open_target
from bench.peers.cases import CASES, PICK_UP, PeersCase, measure
from bench.peers.catalog import PEERS, Peer
from bench.peers.installation import REMEDY, Installation
from bench.peers.systems import JobengineSystem, PeerSystem, System
from bench.rounds import show_progress

__all__ = ["OURS", "PeersReport", "add_runs", "run"]

OURS: Final = "jobengine"
_TABLE_WIDTH: Final = 120
_FAILURES: Final = (BenchmarkError, trio.TooSlowError)
"""A peer that fails in a case is said to, and left out of it; the others go on."""


@attrs.define
class PeersReport(Report):
    """Runs hold `case` as "what: who"; `figure` is in jobs/s, or in ms where it is a pick-up."""

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """Of each case jobengine to each peer, the median of the rounds."""
        found: dict[str, dict[str, list[float]]] = {}
        for run in self.runs:
            if "ratio" in run:
                case, _, who = run["case"].partition(": ")
                found.setdefault(case, {}).setdefault(who, []).append(run["ratio"])
        return {
            case: {who: round(median(ratios), 2) for who, ratios in each.items()}
            for case, each in found.items()
        }

    def document(self) -> dict[str, Any]:
        return {**super().document(), "ratios": self.ratios}

    def summary(self) -> Table:
        ratios = self.ratios
        cases = list(dict.fromkeys(run["case"].partition(": ")[0] for run in self.runs))
        table = Table(
            title="peers: medians in jobs/s, pick-up in ms; in brackets how far jobengine is ahead",
            title_justify="left",
        )
        table.add_column("")
        for case in cases:
            table.add_column(case, justify="right")
        figures = self.cases()
        mark = "" if self.comparable else " *"
        for who in dict.fromkeys(name.partition(": ")[2] for name in figures):
            cells = []
            for case in cases:
                found = figures.get(f"{case}: {who}")
                cell = "–" if found is None else f"{found['median']:,}{mark}"
                ratio = ratios.get(case, {}).get(who)
                cells.append(cell if ratio is None else f"{cell} (× {ratio})")
            table.add_row(who, *cells)
        return table

    def show(self) -> None:
        console = Console(width=max(Console().width, _TABLE_WIDTH))
        console.print(self.summary())
        for name, remedy in self.settings["not_installed"].items():
            console.print(f"{name} is not installed: {remedy}", highlight=False)
        for name, why in self.settings["failed"].items():
            console.print(f"{name} failed: {why}", highlight=False)
        super().show()


async def run(
    options: Options,
    case: PeersCase,
    *,
    names: Sequence[str] = (),
    parts: Sequence[str] = (),
    installation: Installation | None = None,
) -> Report:
    """Of the peers named, or all that are installed; of the cases named, or all."""
    installation = installation or Installation()
    present, absent = _find(installation, names)
    async with open_target(options) as target, AsyncExitStack() as stack:
        target.require_database()
        systems: list[System] = [JobengineSystem(target)]
        report = _report(target, case, installation, present, absent)
        failed: dict[str, str] = report.settings["failed"]
        for peer in present:
            opened = PeerSystem.open(target, peer, installation)
            try:
                systems.append(await stack.enter_async_context(opened))
            except* _FAILURES as failure:
                failed[peer.name] = _in_words(failure)
        cases = [name for name in CASES if not parts or name in parts]
        done = 0
        total = options.rounds * len(cases) * len(systems)
        async with show_progress("peers", total, lambda: done):
            for number in range(options.rounds):
                for name in cases:
                    measured = {}
                    for system in _rotated(systems, number):
                        place = f"{name}: {system.name}"
                        try:
                            if place not in failed:
                                measured[system.name] = await measure(name, system, case)
                        except* _FAILURES as failure:
                            if system.name == OURS:
                                raise
                            failed[place] = _in_words(failure)
                        done += 1
                    add_runs(report, name, [system.name for system in systems], measured, number)
        return report


def _find(installation: Installation, names: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be measured, and the remedy for those that cannot."""
    if unknown := set(names) - {peer.name for peer in PEERS}:
        raise click.UsageError(f"no peer is named {', '.join(sorted(unknown))}")
    wanted = [peer for peer in PEERS if not names or peer.name in names]
    present = [peer for peer in wanted if installation.version_of(peer) is not None]
    return present, {peer.name: REMEDY for peer in wanted if peer not in present}


def _report(
    target: Target,
    case: PeersCase,
    installation: Installation,
    present: Iterable[Peer],
    absent: dict[str, str],
) -> PeersReport:
    keeps = {peer.name: peer.keeps for peer in present}
    plain = report_on(
        target,
        "peers",
        "figure",
        "jobs/s; pick-up: ms",
        **attrs.asdict(case),
        keeps=keeps,
        not_installed=absent,
        failed={},
    )
    versions = {peer.name: str(installation.version_of(peer)) for peer in present}
    fields = {field.name: getattr(plain, field.name) for field in attrs.fields(Report)}
    return PeersReport(**fields | {"versions": {**plain.versions, **versions}})


def _in_words(failure: BaseExceptionGroup[Exception]) -> str:
    return "; ".join(str(leaf) or type(leaf).__name__ for leaf in leaves(failure))


def _rotated(systems: Sequence[System], number: int) -> list[System]:
    start = number % len(systems)
    return [*systems[start:], *systems[:start]]


def add_runs(
    report: Report,
    case: str,
    names: Sequence[str],
    measured: dict[str, dict[str, Any]],
    number: int,
) -> None:
    ours = measured[OURS]["figure"]
    for name in (name for name in names if name in measured):
        figures = measured[name]
        more: dict[str, Any] = {"round": number + 1}
        if name != OURS and ours and figures["figure"]:
            ahead = ours / figures["figure"]
            more["ratio"] = 1 / ahead if case == PICK_UP else ahead
        report.add(f"{case}: {name}", **figures, **more)
