"""An engine reduced to its embedded server: `python -m … <data_dir> <bin_dir>`.

Prints one line of JSON once the server accepts connections, then lives until it is killed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from jobengine.store.embedded import EmbeddedServer, EmbeddedSettings
from tests.store.embedded.conftest import parent_of


async def main(data_dir: str, bin_dir: str) -> None:
    settings = EmbeddedSettings(bin_dir=Path(bin_dir), stop_fast_s=2, stop_immediate_s=0.2)
    async with EmbeddedServer(Path(data_dir), settings) as server:
        assert server.pid is not None
        guard = parent_of(server.pid)
        answer = {"conninfo": server.conninfo, "postmaster": server.pid, "guard": guard}
        print(json.dumps(answer), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
