"""Looks for the seed that shows a planted bug.

A bug is *caught* by a seed whose run is clean without it and breaks a rule with it. A bug of order
is caught when two processes with different string hashing make different runs of one seed, which
they do not without it.

I1  A run that breaks a rule without any bug ends the hunt: then nothing is known of the bug.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Final

import attrs
import msgspec

from jobengine.testing.sim.named import find_scenario
from jobengine.testing.sim.run import Verdict, simulate
from tests.sim.mutants.planted import Mutant

__all__ = ["Catch", "HuntError", "digests", "hunt", "hunt_by_hashes"]

_HASHES: Final = ("1", "2")
_pairs: Final = msgspec.json.Decoder(tuple[str, str])


class HuntError(Exception):
    """The simulator fails without any bug, or not as one can be told of."""


@attrs.frozen(kw_only=True)
class Catch:
    """`seed` is the first that shows the bug, so as many were needed; None where none of those
    stated did. `cpu_s` is processor time, of children as well."""

    mutant: str
    seed: int | None
    violation: str
    cpu_s: float


def hunt(mutant: Mutant) -> Catch:
    """Try the seeds from 1 on. Raises `HuntError`, and `StaleMutationError`."""
    began = _cpu_s()
    for seed in range(1, mutant.seeds + 1):
        violation = _run(mutant, seed, mutant.mutation.planted()).violation
        if violation is not None:
            without = _run(mutant, seed, nullcontext()).violation
            if without is not None:
                raise HuntError(f"seed {seed} fails without {mutant.name}: {without}")
            return _caught(mutant, seed, violation, began)
    return _caught(mutant, None, "", began)


def hunt_by_hashes(mutant: Mutant) -> Catch:
    """The same for a bug of order, in two processes at a time. Raises `HuntError`."""
    began = _cpu_s()
    with ExitStack() as children:
        both = [children.enter_context(_digests_elsewhere(mutant.name, each)) for each in _HASHES]
        seed = _first_difference(mutant, zip(*both, strict=True))
    violation = "" if seed is None else "two processes make different runs of it"
    return _caught(mutant, seed, violation, began)


def _first_difference(
    mutant: Mutant, pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]]
) -> int | None:
    seed = 0
    for seed, ((one, whole), (other, whole_there)) in enumerate(pairs, 1):
        if whole != whole_there:
            raise HuntError(f"seed {seed} differs between processes without {mutant.name}")
        if one != other:
            return seed
    if seed != mutant.seeds:
        raise HuntError(f"a process ended behind seed {seed}")
    return None


def digests(mutant: Mutant) -> Iterator[tuple[str, str]]:
    """Of each seed stated for a bug, with it and without."""
    for seed in range(1, mutant.seeds + 1):
        mutated = _run(mutant, seed, mutant.mutation.planted())
        yield mutated.digest, _run(mutant, seed, nullcontext()).digest


def _run(mutant: Mutant, seed: int, planted: AbstractContextManager[None]) -> Verdict:
    with planted:
        return simulate(seed, find_scenario(mutant.scenario))


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _caught(mutant: Mutant, seed: int | None, violation: str, began: float) -> Catch:
    cpu_s = _cpu_s() - began
    return Catch(mutant=mutant.name, seed=seed, violation=violation, cpu_s=cpu_s)


@contextmanager
def _digests_elsewhere(name: str, hashes: str) -> Iterator[Iterator[tuple[str, str]]]:
    """The `digests` of a process in which strings hash so; it ends with the context."""
    command = [sys.executable, "-m", "tests.sim.mutants", "--digests", name]
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            yield map(_pairs.decode, child.stdout)
        finally:
            child.kill()
