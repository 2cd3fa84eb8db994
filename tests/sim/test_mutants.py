"""Planted bugs are caught; all of them in `make sim-mutants`, here those that show at once."""

import pytest

from jobengine.core.lease_shard.leases import LeaseTable
from tests.sim.mutants.hunt import hunt, hunt_by_hashes
from tests.sim.mutants.mutation import Mutation, StaleMutationError
from tests.sim.mutants.planted import MUTANTS, Mutant

_NAMED = {mutant.name: mutant for mutant in MUTANTS}
_FIND = Mutation(
    module="jobengine.core.lease_shard.leases",
    function="LeaseTable.find",
    old="found.attempt == token",
    new="found.attempt > token",
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_no_planted_bug_is_stale(mutant: Mutant) -> None:
    mutant.mutation.check()


def test_each_planted_bug_has_a_name_of_its_own() -> None:
    assert len(_NAMED) == len(MUTANTS)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("token_leak", "R19"),
        ("stale_cursor", "R20"),
        ("unredacted_logs", "R21"),
    ],
)
def test_a_planted_bug_is_caught_by_the_rule_it_breaks(name: str, rule: str) -> None:
    caught = hunt(_NAMED[name])
    assert caught.seed is not None
    assert caught.violation.startswith(f"ViolationError: {rule}:")


def test_an_order_that_follows_from_hashes_is_caught_between_processes() -> None:
    assert hunt_by_hashes(_NAMED["unordered_release"]).seed is not None


def test_a_mutation_that_changes_nothing_is_not_caught() -> None:
    harmless = Mutation(
        module=_FIND.module,
        function=_FIND.function,
        old=_FIND.old,
        new="not found.attempt != token",
    )
    mutant = Mutant(name="harmless", bug="none", mutation=harmless, scenario="calm", seeds=1)
    assert hunt(mutant).seed is None


def test_a_mutation_whose_text_is_gone_or_ambiguous_is_stale() -> None:
    for old in ("found.attempt is token", "found"):
        mutation = Mutation(module=_FIND.module, function=_FIND.function, old=old, new="x")
        with pytest.raises(StaleMutationError, match=r"LeaseTable\.find has"):
            mutation.check()
    elsewhere = Mutation(module=_FIND.module, function="LeaseTable.seek", old="x", new="y")
    with pytest.raises(StaleMutationError, match=r"no function LeaseTable\.seek"):
        elsewhere.check()


def test_the_engine_is_whole_again_when_a_run_raised() -> None:
    whole = LeaseTable.find.__code__
    codes = []

    def fail() -> None:
        with _FIND.planted():
            codes.append(LeaseTable.find.__code__)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert codes != [whole]
    assert LeaseTable.find.__code__ is whole
