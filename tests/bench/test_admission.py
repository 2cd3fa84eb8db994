"""The benchmark of admission, at the size of a toy."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOY = ["--rounds", "1", "--tenants", "3", "--sources", "2", "--jobs", "60", "--batch", "20"]


def test_it_needs_no_engine_and_holds_jobs_with_gates_against_jobs_without() -> None:
    command = [sys.executable, "-m", "bench", "admission", *TOY]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = json.loads(said.splitlines()[-1])
    assert told["name"] == "admission"
    assert told["settings"]["budget_us"] == 15
    assert list(told["cases"]) == ["admission", "a job with every gate", "a job without any"]
    assert all(told["cases"][name]["median"] > 0 for name in list(told["cases"])[1:])
