"""What holds for every test, on whatever machine it runs.

Hypothesis measures no time: what an example takes says more of the machine than of the code, and
figures are what `make bench` is for. Bytecode is kept, whatever the environment says: engines,
workers and commands run in hundreds of processes, each of which would compile all of it anew.
Tests of such processes come first, because the longest ones are among them, and nothing but their
own waits, each with its bound, ends them early.
"""

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

_TESTS: Final = Path(__file__).parent
_OF_PROCESSES: Final = ("end_to_end", "chaos", "bench", "console", "cli")
_HANGS_AFTER_S: Final = 600

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _runs_processes(item) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_HANGS_AFTER_S))
    items.sort(key=lambda item: not _runs_processes(item))


def _runs_processes(item: pytest.Item) -> bool:
    return item.path.relative_to(_TESTS).parts[0] in _OF_PROCESSES
