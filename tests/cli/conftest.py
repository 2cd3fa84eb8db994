"""The command line in this process, and an engine to command."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import attrs
import pytest

from jobengine.auth.keys import load_or_create_key
from jobengine.auth.scopes import Scope
from jobengine.auth.tokens import Tokens
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


@pytest.fixture(scope="session")
def home() -> Iterator[tuple[RunningEngine, Path]]:
    """An engine for all modules, and the key that its tokens are signed with."""
    with open_stage() as stage:
        yield stage.engine(), stage.data / "key.pem"


@pytest.fixture(scope="module")
def engine(home: tuple[RunningEngine, Path]) -> RunningEngine:
    """The one of the session, as a tenant that only this module has."""
    shared, key = home
    tenant = f"tenant-{secrets.token_hex(4)}"
    tokens = Tokens(load_or_create_key(key))
    token = tokens.issue(tenant, Scope, "developer", 3_600, time.time_ns() // 1000)
    return attrs.evolve(shared, tenant=tenant, token=token)


@pytest.fixture
def cli(run: Run, engine: RunningEngine) -> Run:
    """Runs a command against the engine."""
    return partial(run, **engine.environ)
