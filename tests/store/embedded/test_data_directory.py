"""Directories that are refused, and damage that is named, each with its remedy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
import pytest

from jobengine.store.embedded import (
    Binaries,
    EmbeddedServer,
    EmbeddedServerError,
    EmbeddedSettings,
)
from jobengine.store.embedded.account import server_account
from jobengine.store.embedded.data_directory import locked_data_directory
from jobengine.store.embedded.errors import diagnose
from jobengine.store.embedded.leftovers import server_processes
from tests.store.embedded.conftest import alive, ask, files_of


async def refusal(data_dir: Path, settings: EmbeddedSettings) -> EmbeddedServerError:
    with pytest.raises(EmbeddedServerError) as caught:
        await EmbeddedServer(data_dir, settings).__aenter__()
    assert "\n" not in str(caught.value)
    assert ": " in str(caught.value)
    return caught.value


def install_postgres(bin_dir: Path, newest: Binaries, script: str) -> Path:
    """A bin directory whose `postgres` tells its version and else runs the script."""
    bin_dir.mkdir()
    (bin_dir / "initdb").symlink_to(newest.initdb)
    version = f'case "$*" in --version) echo "postgres (PostgreSQL) {newest.version}"; exit;; esac'
    (bin_dir / "postgres").write_text(f"#!/bin/sh\n{version}\n{script}\n")
    (bin_dir / "postgres").chmod(0o755)
    return bin_dir


async def test_a_cluster_of_another_major_is_refused_naming_both(
    data_dir: Path, settings: EmbeddedSettings, newest: Binaries
) -> None:
    write(data_dir / "cluster" / "PG_VERSION", b"16\n")
    said = str(await refusal(data_dir, settings))
    assert "PostgreSQL 16" in said
    assert f"is {newest.major}:" in said
    assert "pg_upgrade" in said


async def test_a_directory_with_other_files_is_refused_and_left_as_it_is(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    write(open_dir / "thesis.tex", b"")
    assert "it holds thesis.tex" in str(await refusal(open_dir, settings))
    assert files_of(open_dir) == {"thesis.tex"}


async def test_a_cluster_directory_that_is_no_cluster_is_refused(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    account = server_account(open_dir, open_dir / "cluster", None)
    make_directory(open_dir / "cluster", account.uid)
    assert "is no PostgreSQL cluster" in str(await refusal(open_dir, settings))


async def test_what_a_cut_short_start_left_is_removed(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    make_directory(open_dir / "cluster.new-cut", 0)
    write(open_dir / "cluster.new-cut" / "PG_VERSION", b"16\n")
    async with EmbeddedServer(open_dir, settings) as server:
        assert ask(server.conninfo, "SELECT true") is True
    assert not [name for name in files_of(open_dir) if name.startswith("cluster.new")]


async def test_a_damaged_control_file_is_named_with_the_log_attached(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    write(data_dir / "cluster" / "global" / "pg_control", b"\x07" * 8192)
    error = await refusal(data_dir, settings)
    assert "control file" in str(error)
    assert "restore the directory from a backup" in str(error)
    assert "FATAL" in error.__notes__[0] or "PANIC" in error.__notes__[0]


async def test_a_full_disk_at_start_is_named_with_the_log_attached(
    open_dir: Path, data_dir: Path, settings: EmbeddedSettings, newest: Binaries
) -> None:
    line = 'PANIC:  could not write to file "pg_wal/xlogtemp.41": No space left on device'
    bin_dir = install_postgres(open_dir / "bin", newest, f"echo '{line}' >&2; exit 1")
    error = await refusal(data_dir, attrs.evolve(settings, bin_dir=bin_dir))
    assert f"the disk of {data_dir} is full: free space there" in str(error)
    assert line in error.__notes__[0]


async def test_a_server_that_never_accepts_connections_is_given_up(
    open_dir: Path, data_dir: Path, settings: EmbeddedSettings, newest: Binaries
) -> None:
    bin_dir = install_postgres(open_dir / "bin", newest, "exec sleep 60")
    settings = attrs.evolve(settings, bin_dir=bin_dir, start_s_max=0.3)
    assert "accepted no connection within 0.3 s" in str(await refusal(data_dir, settings))


async def test_a_data_directory_that_cannot_be_made_is_named(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    write(open_dir / "file", b"")
    said = str(await refusal(open_dir / "file" / "data", settings))
    assert f"{open_dir / 'file' / 'data'} cannot be used (Not a directory" in said


async def test_a_directory_closed_to_the_servers_user_is_named(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    closed = open_dir / "closed"
    make_directory(closed, os.geteuid())
    closed.chmod(0o700 if os.geteuid() == 0 else 0o000)
    said = str(await refusal(closed / "data", settings))
    closed.chmod(0o700)
    if os.geteuid() == 0:
        assert f"cannot enter {closed}: chmod o+x that directory" in said
    else:
        assert "Permission denied" in said


async def test_a_socket_directory_too_deep_for_the_kernel_is_refused(
    open_dir: Path, data_dir: Path, settings: EmbeddedSettings
) -> None:
    deep = open_dir / ("d" * 80)
    make_directory(deep, os.geteuid())
    said = str(await refusal(data_dir, attrs.evolve(settings, runtime_dir=deep)))
    assert "set runtime_dir to a shorter path" in said


async def test_a_socket_directory_with_a_comma_is_refused(
    fast_dir: Path, data_dir: Path, settings: EmbeddedSettings
) -> None:
    make_directory(fast_dir / "a,b", os.geteuid())
    settings = attrs.evolve(settings, runtime_dir=fast_dir / "a,b")
    assert "has a comma in its name" in str(await refusal(data_dir, settings))


async def test_an_interpreter_that_cannot_be_run_is_named_and_nothing_is_left_locked(
    data_dir: Path, settings: EmbeddedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nonexistent/python")
        said = str(await refusal(data_dir, settings))
    assert "'/nonexistent/python' (No such file or directory)" in said
    async with EmbeddedServer(data_dir, settings) as server:
        assert ask(server.conninfo, "SELECT true") is True


async def test_a_process_that_is_no_server_of_the_cluster_is_never_ended(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    account = server_account(data_dir, data_dir / "cluster", None)
    with bystander(data_dir / "cluster", account.uid) as stranger:
        write(data_dir / "cluster" / "postmaster.pid", f"{stranger.pid}\n/\n0\n".encode())
        assert not server_processes(data_dir / "cluster")
        async with EmbeddedServer(data_dir, settings) as server:
            assert ask(server.conninfo, "SELECT true") is True
        assert alive(stranger.pid)
        stranger.kill()


def test_the_log_is_bounded_and_its_older_half_kept(
    data_dir: Path, settings: EmbeddedSettings
) -> None:
    with locked_data_directory(data_dir, settings) as directory:
        assert directory.open_log(100) == 0
        directory.log_path.write_bytes(b"x" * 101)
        assert directory.open_log(100) == 0
        assert directory.log_path.stat().st_size == 0
        assert (data_dir / "server.log.1").stat().st_size == 100
        directory.log_path.write_bytes(b"old\nnew\n")
        assert directory.open_log(100) == 8
        assert directory.log_since(4) == ["new"]


def test_an_unknown_failure_tells_the_last_severe_line(tmp_path: Path) -> None:
    log = ["LOG:  starting", "FATAL:  the moon is full", "LOG:  database system is shut down"]
    assert "did not start (FATAL:  the moon is full)" in diagnose(log, tmp_path).message


def test_memory_still_held_by_an_earlier_server_is_worth_another_try(tmp_path: Path) -> None:
    log = ["FATAL:  pre-existing shared memory block (key 42, ID 1) is still in use"]
    assert diagnose(log, tmp_path).transient


def write(path: Path, content: bytes) -> None:
    owner = path.parent.stat()
    path.write_bytes(content)
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def make_directory(path: Path, uid: int) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, uid or os.geteuid(), -1)


def bystander(cwd: Path, uid: int) -> subprocess.Popen[bytes]:
    """A process of the server's user, in the cluster, that calls itself a backend."""
    switch = uid if os.geteuid() == 0 else None
    return subprocess.Popen(
        ["postgres: backend", "60"], executable="/bin/sleep", cwd=cwd, user=switch
    )
