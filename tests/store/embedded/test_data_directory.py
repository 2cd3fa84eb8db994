"""Directories that are refused, and damage that is named, each with its remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import structlog.testing
import trio

from jobengine.settings import Settings
from jobengine.store.embedded import (
    Binaries,
    EmbeddedServer,
    EmbeddedServerError,
    EmbeddedSettings,
    socket_directory,
)
from jobengine.store.embedded.account import server_account
from jobengine.store.embedded.data_directory import locked_data_directory
from jobengine.store.embedded.errors import diagnose
from jobengine.store.embedded.leftovers import server_processes
from tests.store.embedded.conftest import (
    REPOSITORY,
    alive,
    ask,
    eventually,
    files_of,
    initialised_data_dir,
    python_path,
    socket_dir_of,
)


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
    assert "set embedded_runtime_dir to a shorter path" in said


async def test_a_socket_directory_with_a_comma_is_refused(
    fast_dir: Path, data_dir: Path, settings: EmbeddedSettings
) -> None:
    make_directory(fast_dir / "a,b", os.geteuid())
    settings = attrs.evolve(settings, runtime_dir=fast_dir / "a,b")
    assert "has a comma in its name" in str(await refusal(data_dir, settings))


async def test_recovery_is_waited_for_as_long_as_it_tells_of_progress(
    open_dir: Path, data_dir: Path, settings: EmbeddedSettings, newest: Binaries
) -> None:
    line = "LOG:  redo in progress, elapsed time: 10.00 s, current LSN: 0/1700000"
    recovers = f"until [ -e {open_dir}/recovered ]; do echo '{line}' >&2; sleep 0.01; done"
    serves = f'exec {newest.postgres} "$@"'
    bin_dir = install_postgres(open_dir / "bin", newest, f"{recovers}\n{serves}")
    settings = attrs.evolve(settings, bin_dir=bin_dir, start_s_max=1)
    with structlog.testing.capture_logs() as events:

        def waited_thrice() -> bool:
            return [event["event"] for event in events].count("embedded_server_recovers") >= 3

        async def recover() -> None:
            await eventually(waited_thrice)
            (open_dir / "recovered").touch()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(recover)
            async with EmbeddedServer(data_dir, settings) as server:
                assert ask(server.conninfo, "SELECT true") is True
    assert events[0]["progress"] == line


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


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"x" * 30 + b"\nPANIC: 1\n", b"PANIC: 1\n"),
        (b"older\n" + b"y" * 19 + b"\n", b"y" * 19 + b"\n"),
        (b"x" * 20 + b"z" * 20, b"z" * 20),
        (b"x" * 20 + b"z" * 19 + b"\n", b"z" * 19 + b"\n"),
    ],
)
def test_the_log_is_bounded_and_its_newest_lines_are_kept(
    data_dir: Path, settings: EmbeddedSettings, said: bytes, kept: bytes
) -> None:
    with locked_data_directory(data_dir, settings) as directory:
        assert directory.open_log(20) == 0
        directory.log_path.write_bytes(said)
        assert directory.open_log(20) == 0
        assert directory.log_path.stat().st_size == 0
        assert (data_dir / "server.log.1").read_bytes() == kept
        directory.log_path.write_bytes(b"old\nnew\n")
        assert directory.open_log(20) == directory.log_size() == 8
        assert directory.log_since(4) == ["new"]


async def test_the_number_of_another_clusters_server_in_the_pid_file_keeps_nobody_from_starting(
    fast_dir: Path, data_dir: Path, settings: EmbeddedSettings, newest: Binaries
) -> None:
    other_dir = initialised_data_dir(fast_dir / "other", newest)
    async with EmbeddedServer(other_dir, settings) as other:
        write(data_dir / "cluster" / "postmaster.pid", f"{other.pid}\n/\n0\n".encode())
        patient = attrs.evolve(settings, start_s_max=10)
        async with EmbeddedServer(data_dir, patient) as server:
            assert ask(server.conninfo, "SELECT true") is True
        assert ask(other.conninfo, "SELECT true") is True


async def test_a_first_start_succeeds_where_new_files_are_closed_to_others(
    open_dir: Path, settings: EmbeddedSettings
) -> None:
    before = os.umask(0o077)
    try:
        async with EmbeddedServer(open_dir / "data", settings) as server:
            assert ask(server.conninfo, "SELECT true") is True
    finally:
        os.umask(before)


def test_a_root_that_may_not_change_accounts_is_told_so(open_dir: Path, newest: Binaries) -> None:
    unprivileged = ["unshare", "--map-root-user"]
    usable = shutil.which("unshare") is not None
    if not usable or subprocess.run([*unprivileged, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    arguments = [str(open_dir / "data"), str(newest.bin_dir)]
    answer = subprocess.run(
        [*unprivileged, sys.executable, "-m", "tests.store.embedded.engine_process", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    last = answer.stderr.splitlines()[-1]
    assert "EmbeddedServerError: PostgreSQL refuses to run as root, and this root cannot" in last
    assert "start the engine as another user" in last


async def test_without_a_usable_temporary_directory_the_socket_is_in_the_last_resort(
    fast_dir: Path, data_dir: Path, settings: EmbeddedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_directory() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", no_directory)
    async with EmbeddedServer(data_dir, settings) as server:
        assert socket_dir_of(server.conninfo).parent == Path("/tmp")
    last_resort = fast_dir / "gone"
    monkeypatch.setattr(socket_directory, "_LAST_RESORT", last_resort)
    said = str(await refusal(data_dir, settings))
    assert f"can be made in {last_resort} (No such file or directory): set embedded_" in said


async def test_what_the_system_refuses_in_an_unforeseen_place_is_told_in_a_line(
    data_dir: Path, settings: EmbeddedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    write(data_dir / "cluster" / "postmaster.pid", f"{os.getpid()}\n/\n0\n".encode())
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    said = str(await refusal(data_dir, settings))
    assert "cannot be run here ([Errno 1] Operation not permitted)" in said


def test_every_setting_that_a_remedy_names_can_be_set() -> None:
    package = Path(socket_directory.__file__).parent
    texts = [re.sub(r'"\s*\n\s*f?"', "", module.read_text()) for module in package.glob("*.py")]
    named = {name for text in texts for name in re.findall(r'(?<!["\w])embedded_\w+', text)}
    settable = {name for name in attrs.fields_dict(Settings) if name.startswith("embedded_")}
    assert named == settable


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
