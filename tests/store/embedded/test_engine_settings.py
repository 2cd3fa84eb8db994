"""The engine's settings reach the server that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobengine.engine import EmbeddedServerError, embedded_address, open_database
from jobengine.engine.database import embedded_settings
from jobengine.settings import Settings
from jobengine.store.embedded import Binaries, EmbeddedSettings, running_url
from tests.store.embedded.conftest import ask, initialised_data_dir


async def test_the_server_of_an_engine_runs_as_its_settings_say(
    fast_dir: Path, newest: Binaries, free_port: int
) -> None:
    runtime_dir = fast_dir / "run"
    runtime_dir.mkdir(mode=0o755)
    initialised_data_dir(fast_dir / "postgres", newest)
    settings = Settings(
        data_dir=fast_dir,
        pool_size_max=100,
        commits_in_flight_max=16,
        embedded_bin_dir=newest.bin_dir,
        embedded_runtime_dir=runtime_dir,
        embedded_shared_buffers_mib=16,
        embedded_tcp_port=free_port,
    )
    async with open_database(settings):
        url = running_url(fast_dir / "postgres")
        assert f"port={free_port}" in url
        assert (await embedded_address(settings))[1] == newest.bin_dir
        assert ask(url, "SHOW shared_buffers") == "16MB"
        assert str(ask(url, "SHOW unix_socket_directories")).strip('"').startswith(str(runtime_dir))
        usable = "SELECT current_setting('max_connections')::int - 3 - 1"
        assert int(str(ask(url, usable))) >= 100 + 3 + 16


def test_by_default_the_server_is_what_it_is_by_itself() -> None:
    assert embedded_settings(Settings()) == EmbeddedSettings()


async def test_a_directory_without_programs_is_an_order_too(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, embedded_bin_dir=tmp_path)
    with pytest.raises(EmbeddedServerError, match="set embedded_bin_dir to that of a"):
        async with open_database(settings):
            pass
