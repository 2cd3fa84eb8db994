"""The command line in this process, and an engine of its own to command."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from jobengine.cli import main
from tests.end_to_end.processes import RunningEngine, Stage, open_stage


class Done(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an environment without settings, but for those given by name."""
    for name in [name for name in os.environ if name.startswith("JOBENGINE_")]:
        monkeypatch.delenv(name)

    def run_one(*arguments: object, **environ: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            exit_code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Done(exit_code, said.out, said.err)

    return run_one


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def engine(stage: Stage) -> RunningEngine:
    """One for all tests of a module."""
    return stage.engine()


@pytest.fixture
def cli(run: Run, engine: RunningEngine) -> Run:
    """Runs a command against the engine."""
    return partial(run, **engine.environ)
