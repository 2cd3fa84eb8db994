"""`jobengine governance` against a real engine, and what its words do to a real worker's jobs."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Done, Run
from tests.end_to_end.processes import RunningEngine, Stage, wait_for

WHY = ("--reason", "a test", "--ticket", "OPS-17")
JSON = ("--output", "json")
START_S = 60.0


@pytest.fixture(scope="module")
def engine(stage: Stage) -> RunningEngine:
    """One of its own: what is set here is set for every tenant."""
    return stage.engine()


@pytest.fixture
def tenants(run: Run, engine: RunningEngine) -> Run:
    """Commands with the token of the tenant `demo`."""
    return partial(run, **engine.environ)


@pytest.fixture
def platform(run: Run, engine: RunningEngine, stage: Stage) -> Iterator[Run]:
    """Commands with a token of the platform; the strategy is taken back afterwards."""
    scopes = ("--scope", "orch:read", "--scope", "orch:quota", "--scope", "orch:audit")
    issued = run("token", "issue", "--tenant", "_system", *scopes, "--data", stage.data)
    assert issued.exit_code == 0, issued.stderr
    environ = {**engine.environ, "JOBENGINE_TOKEN": issued.stdout.strip()}
    cli: Run = partial(run, **environ)
    yield cli
    shown = said(cli("governance", "show", *JSON))
    drops = [word for one in shown["tenants"] for word in ("--drop", one["tenantId"])]
    assert cli("governance", "set", "unlimited", *drops, *WHY).exit_code == 0


def said(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def listed(policy: Any) -> dict[str, dict[str, int]]:
    """What is set of each tenant, without what was left at its default."""
    fields = ("weight", "priority", "reserved", "cap")
    defaults = {"weight": 1, "priority": 0, "reserved": 0, "cap": None}
    return {
        one["tenantId"]: {name: one[name] for name in fields if one[name] != defaults[name]}
        for one in policy["tenants"]
        if one["listed"]
    }


def test_nothing_is_shared_until_a_strategy_is_set(platform: Run) -> None:
    shown = platform("governance", "show")
    assert shown.exit_code == 0, shown.stderr
    assert "unlimited" in shown.stdout


def test_what_is_left_out_of_a_change_stays_as_it_is(platform: Run) -> None:
    share = ("--share", "acme:weight=3,reserved=2")
    first = said(platform("governance", "set", "reserved", "--capacity", 9, *share, *WHY, *JSON))
    assert (first["strategy"], first["capacity"]) == ("reserved", 9)
    assert listed(first) == {"acme": {"weight": 3, "reserved": 2}}
    more = ("--share", "cyan:cap=4", "--share", "acme:priority=2")
    second = said(platform("governance", "set", "max-limit", *more, *WHY, *JSON))
    assert (second["strategy"], second["capacity"]) == ("max-limit", 9)
    assert second["revision"] == first["revision"] + 1
    assert listed(second) == {
        "acme": {"weight": 3, "reserved": 2, "priority": 2},
        "cyan": {"cap": 4},
    }
    third = said(platform("governance", "set", "priority", "--drop", "acme", *WHY, *JSON))
    assert listed(third) == {"cyan": {"cap": 4}}
    table = platform("governance", "show").stdout
    assert "priority" in table
    [row] = [line.split() for line in table.splitlines() if line.startswith("cyan")]
    assert row[:5] == ["cyan", "1", "0", "0", "4"]


@pytest.mark.parametrize(
    "strategy", ["proportional", "priority", "reserved", "max-limit", "unlimited"]
)
def test_every_strategy_is_set_from_a_file_and_shown_again(
    platform: Run, tmp_path: Path, strategy: str
) -> None:
    share = {"tenantId": "acme", "weight": 2, "priority": 1, "reserved": 1, "cap": 3}
    policy = {"strategy": strategy, "capacity": 5, "tenants": [share]}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    applied = said(platform("governance", "apply", file, *WHY, *JSON))
    shown = said(platform("governance", "show", *JSON))
    assert (shown["strategy"], shown["capacity"]) == (strategy, 5)
    assert shown["revision"] == applied["revision"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "fairest", *WHY),
        ("set", "proportional", "--capacity", 0, *WHY),
        ("set", "proportional", "--capacity", 4),
        ("set", "proportional", "--capacity", 4, "--share", "acme", *WHY),
        ("set", "proportional", "--capacity", 4, "--share", "acme:size=1", *WHY),
        ("set", "proportional", "--capacity", 4, "--share", "acme:weight=x", *WHY),
        ("apply", __file__, *WHY),
        ("apply", "/nonexistent", *WHY),
    ],
)
def test_what_is_asked_wrongly_ends_with_64(platform: Run, arguments: tuple[str, ...]) -> None:
    assert platform("governance", *arguments).exit_code == 64


def test_a_policy_that_contradicts_itself_is_refused_by_name(platform: Run) -> None:
    shares = ("--share", "acme:reserved=3", "--share", "cyan:reserved=2")
    refused = platform("governance", "set", "reserved", "--capacity", 4, *shares, *WHY)
    assert refused.exit_code != 0
    assert "acme 3" in refused.stderr
    assert "capacity is 4" in refused.stderr
    assert said(platform("governance", "show", *JSON))["strategy"] == "unlimited"


def test_a_tenant_can_neither_see_nor_set_it(tenants: Run) -> None:
    for arguments in (("show",), ("set", "unlimited", *WHY)):
        refused = tenants("governance", *arguments)
        assert refused.exit_code == 2
        assert "TENANT_FORBIDDEN" in refused.stderr


def test_a_capacity_keeps_a_real_workers_second_job_until_it_is_raised(
    platform: Run, tenants: Run, stage: Stage, engine: RunningEngine
) -> None:
    go_on = stage.directory / "go-on"

    def submitted(**more: str) -> str:
        payload = json.dumps({"number": 2, **more})
        found = said(tenants("job", "submit", "square", "--payload", payload, *JSON))
        job_id: str = found["jobId"]
        return job_id

    def state(job_id: str) -> str:
        found: str = said(tenants("job", "show", job_id, *JSON))["state"]
        return found

    assert platform("governance", "set", "proportional", "--capacity", 1, *WHY).exit_code == 0
    stage.worker(engine, "tests.end_to_end.tasks:worker")
    first = submitted(until=str(go_on))
    wait_for(lambda: state(first) == "running", START_S, "the first job's start")
    second = submitted()

    def kept() -> bool:
        return "governance lets 1 jobs" in tenants("job", "explain", second).stdout

    wait_for(kept, START_S, "the gate")
    (row,) = said(platform("governance", "show", *JSON))["tenants"]
    assert (row["tenantId"], row["allotment"], row["running"]) == ("demo", 1, 1)
    assert state(second) == "scheduled"
    assert platform("governance", "set", "proportional", "--capacity", 2, *WHY).exit_code == 0
    wait_for(lambda: state(second) == "completed", START_S, "the second job's end")
    go_on.touch()
    wait_for(lambda: state(first) == "completed", START_S, "the first job's end")
