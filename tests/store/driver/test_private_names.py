"""What the driver uses of psycopg without a promise: an upgrade that moves it fails here."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, generators, pq, waiting

DRIVER = Path(__file__).parents[3] / "jobengine/store/postgres"
MOVED = f"psycopg {psycopg.__version__} has no {{}}: adapt driver/waiting.py before upgrading"


@pytest.mark.parametrize("name", ["cancel", "connect", "execute", "fetch_many", "notifies", "send"])
def test_the_protocol_generators_are_where_they_were(name: str) -> None:
    assert callable(getattr(generators, name, None)), MOVED.format(f"generators.{name}")


def test_the_generators_speak_the_same_signals() -> None:
    for kind in ("Wait", "Ready"):
        signals = getattr(waiting, kind, None)
        assert signals is not None, MOVED.format(f"waiting.{kind}")
        assert {"R", "W", "RW"} <= set(signals.__members__), MOVED.format(f"waiting.{kind}.R/W/RW")


def test_connection_attempts_are_still_split_host_by_host() -> None:
    assert hasattr(conninfo, "conninfo_attempts"), MOVED.format("conninfo.conninfo_attempts")
    attempts = conninfo.conninfo_attempts({"host": "127.0.0.1,127.0.0.2", "port": "1,2"})
    assert [(attempt["host"], attempt["port"]) for attempt in attempts] == [
        ("127.0.0.1", "1"),
        ("127.0.0.2", "2"),
    ]


def test_libpq_can_cancel_without_blocking() -> None:
    assert pq.version() >= 170000, "PQcancelStart came with libpq 17"
    assert pq.__impl__ in ("binary", "c"), "the Python implementation of pq is many times slower"


def test_only_the_waiter_imports_them() -> None:
    unpromised = {"psycopg.generators", "psycopg.waiting"}
    users = set()
    for path in DRIVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (
                node.module in unpromised or "psycopg._" in (node.module or "")
            ):
                users.add(path.name)
    assert find_spec("psycopg.generators"), MOVED.format("generators")
    assert users == {"waiting.py"}
