"""The command line in this process: exit code, stdout and stderr of one command."""

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from jobengine.cli import main


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
