"""The benchmark of the planner, at the size of a toy."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_plans_advances_and_agrees_with_networkx() -> None:
    command = [sys.executable, "-m", "bench", "dag", "--rounds", "1", "--nodes", "200"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = json.loads(said.splitlines()[-1])
    assert list(told["cases"]) == ["plan 200", "networkx 200", "start 200", "advance 200"]
    ours, theirs, _, advanced = told["runs"]
    for figure in ("edges", "critical_us"):
        assert ours[figure] == theirs[figure]
    assert theirs["ratio"] > 0
    assert advanced["completions_per_s"] > 0
