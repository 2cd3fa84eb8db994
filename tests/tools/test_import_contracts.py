"""The import contracts of pyproject.toml, run on small trees that keep or break them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOWED: Mapping[str, str] = {
    "__init__": "",
    "__main__": "import jobengine.cli",
    "actors.lease_shard": "import trio, jobengine.core.lease_shard, jobengine.store.port",
    "auth": "import jobengine.domain.job",
    "bus.nats": "import jobengine.engine",
    "cli.up": "import jobengine.demo, jobengine.testing, jobengine.http.server, jobengine.auth",
    "core.lease_shard": "import jobengine.messages.lease_shard, jobengine.settings",
    "demo.sbom": "import jobengine.sdk.worker, jobengine.wire",
    "domain.job": "import attrs, enum",
    "engine": "import jobengine.store.memory, jobengine.store.postgres, jobengine.store.embedded",
    "evidence.bundle": "import jobengine.domain.job",
    "http.server": "import quart_trio, jobengine.wire, jobengine.engine",
    "messages.lease_shard": "import msgspec, jobengine.domain.job",
    "sdk.worker": "import trio_websocket, httpx, jobengine.wire, jobengine.evidence.bundle",
    "settings": "import jobengine.domain.job",
    "store.embedded.server": "import subprocess, psycopg",
    "store.memory": "import jobengine.messages.lease_shard",
    "store.port": "import jobengine.domain.job",
    "store.postgres.driver": "import psycopg, trio",
    "testing.memory_engine": "import jobengine.store.memory, jobengine.engine, jobengine.wire",
    "wire.jobs": "import msgspec, jobengine.domain.job",
}

BREACHES = [
    ("Imports point down", "domain.job", "jobengine.core.lease_shard"),
    ("Imports point down", "messages.lease_shard", "jobengine.core.lease_shard"),
    ("Imports point down", "core.lease_shard", "jobengine.store.port"),
    ("Imports point down", "core.lease_shard", "jobengine.actors.lease_shard"),
    ("Imports point down", "store.port", "jobengine.engine"),
    ("Imports point down", "actors.lease_shard", "jobengine.engine"),
    ("Imports point down", "engine", "jobengine.http.server"),
    ("Imports point down", "http.server", "jobengine.testing.memory_engine"),
    ("Imports point down", "testing.memory_engine", "jobengine.cli.up"),
    ("Imports point down", "demo.sbom", "jobengine.cli.up"),
    ("Imports point down", "wire.jobs", "jobengine.messages.lease_shard"),
    ("Imports point down", "auth", "jobengine.wire.jobs"),
    ("Imports point down", "unplaced", "jobengine.domain.job"),
    ("Decisions know no time, chance, I/O or driver", "core.lease_shard", "time"),
    ("Decisions know no time, chance, I/O or driver", "domain.job", "random"),
    ("Decisions know no time, chance, I/O or driver", "messages.lease_shard", "trio"),
    ("Decisions know no time, chance, I/O or driver", "core.lease_shard", "asyncio"),
    ("The wire types know nothing but the domain and no runtime", "wire.jobs", "trio"),
    ("The SDK is outside of the engine", "sdk.worker", "jobengine.engine"),
    ("The SDK is outside of the engine", "evidence.bundle", "jobengine.core.lease_shard"),
    ("The demo uses the engine from outside", "demo.sbom", "jobengine.engine"),
    ("Only the composition roots know a concrete store", "cli.up", "jobengine.store.postgres"),
    ("Only the composition roots know a concrete store", "http.server", "jobengine.store.memory"),
    ("The wire types stay at the doors", "engine", "jobengine.wire.jobs"),
    (
        "Tokens are checked at the doors and made by the composition root",
        "sdk.worker",
        "jobengine.auth",
    ),
    ("Nothing is served by the framework's own server", "http.server", "hypercorn"),
    ("One room knows the web framework", "cli.up", "quart"),
    ("Only the PostgreSQL stores know the database driver", "actors.lease_shard", "psycopg"),
]


def broken_contracts(tree: Path, modules: Mapping[str, str]) -> set[str]:
    """Write `modules` (dotted name below jobengine → source) and run the contracts on them."""
    package = tree / "jobengine"
    for name, source in modules.items():
        path = package.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source + "\n")
    for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (directory / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tree)
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [command, "--no-cache", "--no-logo"],
        cwd=tree,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    states = re.findall(r"^(.+) (KEPT|BROKEN)$", result.stdout, re.MULTILINE)
    assert states, result.stdout + result.stderr
    assert result.returncode == any(state == "BROKEN" for _, state in states)
    return {name for name, state in states if state == "BROKEN"}


def test_the_imports_of_the_architecture_keep_every_contract(tmp_path: Path) -> None:
    assert broken_contracts(tmp_path, ALLOWED) == set()


def test_a_tree_of_few_rooms_is_checked_too(tmp_path: Path) -> None:
    few = {"__init__": "", "domain.job": "import enum", "core.lease_shard": "import time"}
    assert broken_contracts(tmp_path, few) == {"Decisions know no time, chance, I/O or driver"}


@pytest.mark.parametrize(("contract", "importer", "imported"), BREACHES)
def test_an_import_that_breaks_a_contract_is_found(
    tmp_path: Path, contract: str, importer: str, imported: str
) -> None:
    source = f"{ALLOWED.get(importer, '')}\nimport {imported}"
    assert contract in broken_contracts(tmp_path, {**ALLOWED, importer: source})
