"""Batches of seeds in child processes, and what they say of runs that go wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from jobengine.actors.runtime.dice import SeededDice
from jobengine.core.lease_shard.machine import LeaseShard
from jobengine.domain.redaction import Redactor
from jobengine.testing.sim.batch import run_all, run_one
from jobengine.testing.sim.children import Child, ChildEndedError, CodeChangedError
from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.named import find_scenario
from jobengine.testing.sim.nth_calls import SMALL, nth_requests
from jobengine.testing.sim.producer import Producer
from jobengine.testing.sim.run import simulate
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.sources import code_stamp

SEEDS = int(os.environ.get("JOBENGINE_SIM_SEEDS", "4"))
QUICK = Scenario(name="quick", jobs=6, tenants=1, workers=1, readers=1, runs=0, faults_s=10.0)


@pytest.mark.timeout(300 + 60 * SEEDS)
async def test_every_rule_holds_under_faults_and_each_seed_does_the_same_in_two_processes() -> None:
    scenario = find_scenario("everything")
    outcomes = await made(Request(seed=seed, scenario=scenario) for seed in range(1, 1 + SEEDS))
    assert sorted(outcome.seed for outcome in outcomes) == list(range(1, 1 + SEEDS))
    assert [told(outcome) for outcome in outcomes if outcome.violation] == []
    assert sum(count for outcome in outcomes for _, _, count in outcome.strikes) > SEEDS
    assert all(outcome.jobs and outcome.entries for outcome in outcomes)


async def test_the_first_call_of_every_verb_may_fail_before_and_after_its_effect() -> None:
    calls = (await run_one(Request(seed=1, scenario=SMALL), twice=False)).calls
    requests = list(nth_requests(1, calls, each_max=1, runs_max=16))
    assert [request.nth and request.nth.when for request in requests[:2]] == ["before", "after"]
    outcomes = await made(requests, twice=False)
    assert len(outcomes) == len(requests) == 16
    assert [told(outcome) for outcome in outcomes if outcome.violation] == []
    assert all(("store.nth", 1) in named(outcome) for outcome in outcomes)


async def test_chance_from_outside_of_the_seed_is_found_with_the_line_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(
        tmp_path,
        monkeypatch,
        "from jobengine.actors.runtime.dice import SeededDice\n"
        "before = SeededDice.__init__\n"
        "SeededDice.__init__ = lambda self, seed: before(self, seed ^ hash('unordered'))\n",
    )
    assert SeededDice.__init__.__qualname__ == "SeededDice.__init__"
    found = await run_one(Request(seed=3, scenario=QUICK))
    assert found.violation is not None
    assert found.violation.startswith("not deterministic: line ")
    assert found.violation.count("where strings hash by") == 2


async def test_a_planted_bug_of_the_engine_is_told_with_the_seed_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(
        tmp_path,
        monkeypatch,
        "from jobengine.domain.redaction import Redactor\n"
        "Redactor.text = lambda self, text: text\n",
    )
    scenario = msgspec.structs.replace(QUICK, jobs=12, sites=())
    outcome = await run_one(Request(seed=2, scenario=scenario))
    assert outcome.seed == 2
    assert "R21" in (outcome.violation or "")


def test_who_only_repeats_a_run_does_not_judge_it_and_has_the_ledgers_in_its_digest_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = msgspec.structs.replace(QUICK, jobs=12, sites=())
    clean = simulate(2, scenario)
    assert clean.violation is None
    monkeypatch.setattr(Redactor, "text", lambda _, text: text)
    judged, repeated = simulate(2, scenario), simulate(2, scenario, judged=False)
    assert "R21" in (judged.violation or "")
    assert repeated.violation is None
    assert judged.digest == repeated.digest != clean.digest


async def test_a_child_that_dies_in_a_run_is_told_and_the_next_run_has_another() -> None:
    child = Child(1, code_stamp())
    try:
        first = await child.run(Request(seed=1, scenario=QUICK))
        assert child._process is not None
        child._process.kill()
        with pytest.raises(ChildEndedError, match="ended with -9"):
            await child.run(Request(seed=1, scenario=QUICK))
        assert await child.run(Request(seed=1, scenario=QUICK)) == first
    finally:
        await child.stop()


async def test_children_of_other_code_are_not_believed() -> None:
    child = Child(1, "0.0.1+000000000000")
    try:
        with pytest.raises(CodeChangedError):
            await child.run(Request(seed=1, scenario=QUICK))
    finally:
        await child.stop()


def test_an_error_in_the_harness_is_told_as_such_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(Producer, "_submit")
    verdict = simulate(1, QUICK)
    assert verdict.violation is not None
    assert verdict.violation.startswith("the harness failed: AttributeError")
    assert verdict.traceback is not None
    assert "producer.py" in verdict.traceback


def test_an_error_in_the_engine_is_told_as_such_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(LeaseShard, "_dispatch")
    verdict = simulate(1, QUICK)
    assert verdict.violation is not None
    assert verdict.violation.startswith("the engine failed: EngineFailedError")
    assert verdict.traceback is not None
    assert "machine.py" in verdict.traceback


def mutate(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let children run `code` as they start."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


async def made(requests: Iterator[Request] | list[Request], *, twice: bool = True) -> list[Outcome]:
    outcomes: list[Outcome] = []
    await run_all(requests, lambda _, outcome: outcomes.append(outcome), twice=twice)
    return outcomes


def told(outcome: Outcome) -> str:
    return f"seed {outcome.seed}: {outcome.violation}\n{outcome.traceback or ''}"


def named(outcome: Outcome) -> list[tuple[str, int]]:
    return [(site, count) for site, _, count in outcome.strikes]
