"""`python -m tests.sim.mutants [NAME...]`: plant the bugs, two at a time, and tell how each was
caught. Exits 1 where one survives the seeds stated for it, 2 where nothing can be said of one.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from tests.sim.mutants.hunt import Catch, HuntError, digests, hunt, hunt_by_hashes
from tests.sim.mutants.mutation import StaleMutationError
from tests.sim.mutants.planted import MUTANTS, Mutant

_PROCESSES: Final = 2
_HUNT_S_MAX: Final = 1_800
_TOLD_MAX: Final = 78
_NAMED: Final = {mutant.name: mutant for mutant in MUTANTS}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sim-mutants", description="Plant bugs, and catch them.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all unless stated")
    parser.add_argument("--one", choices=_NAMED, help="hunt one here, and print it as JSON")
    parser.add_argument("--digests", choices=_NAMED, help="print what each seed comes to as JSON")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in _NAMED]:
        parser.error(f"no such bug: {', '.join(unknown)}")
    if options.digests is not None:
        for pair in digests(_NAMED[options.digests]):
            print(json.dumps(pair), flush=True)
        return 0
    if options.one is not None:
        return _hunt_here(_NAMED[options.one])
    return _hunt_all([_NAMED[name] for name in options.names] or MUTANTS)


def _hunt_here(mutant: Mutant) -> int:
    try:
        caught = hunt_by_hashes(mutant) if mutant.by_hashes else hunt(mutant)
    except (HuntError, StaleMutationError) as error:
        print(error, file=sys.stderr)
        return 2
    print(msgspec.json.encode(caught).decode())
    return 0


def _hunt_all(mutants: Sequence[Mutant]) -> int:
    worst = 0
    print(f"{'planted bug':<28} {'scenario':<11} {'seeds':>8} {'cpu s':>6}  caught by")
    with ThreadPoolExecutor(_PROCESSES) as pool:
        for mutant, found in zip(mutants, pool.map(_hunt_elsewhere, mutants), strict=True):
            line, code = _line(mutant, found)
            print(line, flush=True)
            worst = max(worst, code)
    return worst


def _line(mutant: Mutant, found: Catch | str) -> tuple[str, int]:
    """What to tell of a hunt, and how bad it is."""
    named = f"{mutant.name:<28} {mutant.scenario:<11}"
    if isinstance(found, str):
        return f"{named} {'-':>8} {'':>6}  UNKNOWN: {found}", 2
    if found.seed is None:
        return f"{named} {f'> {mutant.seeds}':>8} {found.cpu_s:6.1f}  SURVIVES: {mutant.bug}", 1
    told = found.violation.removeprefix("ViolationError: ")
    told = told if len(told) <= _TOLD_MAX else f"{told[:_TOLD_MAX]}…"
    return f"{named} {f'{found.seed}/{mutant.seeds}':>8} {found.cpu_s:6.1f}  {told}", 0


def _hunt_elsewhere(mutant: Mutant) -> Catch | str:
    """In a process of its own, so that what a bug leaves behind befalls no other hunt."""
    command = [sys.executable, "-m", "tests.sim.mutants", "--one", mutant.name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_HUNT_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        return f"no end within {_HUNT_S_MAX} s"
    if done.returncode:
        return done.stderr.decode().strip()
    return msgspec.json.decode(done.stdout, type=Catch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
