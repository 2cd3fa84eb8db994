"""The benchmark of the doors, at the size of a toy."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_needs_no_engine_and_reports_every_step() -> None:
    command = [sys.executable, "-m", "bench", "doors", "--rounds", "1", "--requests", "20"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = json.loads(said.splitlines()[-1])
    assert told["name"] == "doors"
    assert told["settings"]["budget_us"] == 300
    assert list(told["cases"])[:2] == ["admitted", "admitted, new token"]
    assert all(case["median"] > 0 for case in told["cases"].values())
