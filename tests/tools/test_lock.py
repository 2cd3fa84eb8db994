"""When the lock files count as made from pyproject.toml."""

import re
from pathlib import Path

import pytest

from tools.lock import ALL_LOCK, ROOT, RUN_LOCK, first_line, inputs_digest, main

PYPROJECT = """
[project]
name = "sample"
description = "first"
requires-python = ">=3.11"
dependencies = ["attrs>=25"]
optional-dependencies = {dev = ["ruff"]}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    head = first_line(inputs_digest(tmp_path / "pyproject.toml"))
    for name in (ALL_LOCK, RUN_LOCK):
        (tmp_path / name).write_text(f"{head}attrs==25.4.0\n")
    return tmp_path


def edit(tree: Path, old: str, new: str) -> None:
    path = tree / "pyproject.toml"
    path.write_text(path.read_text().replace(old, new))


def test_locks_made_from_these_inputs_pass_the_check(tree: Path) -> None:
    assert main(["--check"], root=tree) == 0


def test_what_the_solver_does_not_read_may_change(tree: Path) -> None:
    edit(tree, "first", "second")
    assert main(["--check"], root=tree) == 0


@pytest.mark.parametrize(
    ("old", "new"), [("attrs>=25", "attrs>=26"), ('"ruff"', '"ruff", "mypy"'), ("3.11", "3.12")]
)
def test_a_changed_requirement_makes_both_locks_stale(
    tree: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(tree, old, new)
    assert main(["--check"], root=tree) == 1
    message = capsys.readouterr().err
    assert ALL_LOCK in message
    assert RUN_LOCK in message


def test_an_absent_lock_is_stale(tree: Path) -> None:
    (tree / RUN_LOCK).unlink()
    assert main(["--check"], root=tree) == 1


def test_what_runs_is_locked_at_the_versions_that_are_tested() -> None:
    assert pins(ROOT / RUN_LOCK) <= pins(ROOT / ALL_LOCK)


def pins(lock: Path) -> set[str]:
    """The `name==version` of each line, without markers."""
    return set(re.findall(r"^[a-z0-9][^ ]*==[^ ]+", lock.read_text(), re.MULTILINE))
