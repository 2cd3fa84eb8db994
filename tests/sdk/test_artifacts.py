"""Artifacts by SDK and command line: against a real engine, and a server that breaks off."""

import hashlib
import io
import os
import random
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from jobengine.auth.tokens import Tokens
from jobengine.sdk import ApiError, ArtifactDamagedError, AsyncClient, Client, JobContext, Worker
from jobengine.sdk.addresses import api_url_of
from tests.cli.conftest import Run, run
from tests.http.opened import Opened, opened

__all__ = ["run"]

BYTES = random.Random(3).randbytes(700_000)
DIGEST = "sha256:" + hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
async def node() -> AsyncIterator[Opened]:
    async with opened() as node:
        yield node


def token(node: Opened, *scopes: str) -> str:
    wanted = scopes or ("orch:submit", "orch:read", "orch:work")
    return Tokens(node.key).issue("demo", wanted, "tester", 600, node.engine.clock.moment().at)


def client_of(node: Opened) -> Client:
    return Client(node.doors.http_url, token=token(node), tenant="demo", retries_max=2)


async def test_a_file_goes_there_and_back_with_its_progress(node: Opened, tmp_path: Path) -> None:
    source, target = tmp_path / "sbom.json", tmp_path / "copy.json"
    source.write_bytes(BYTES)
    seen: list[tuple[int, int]] = []

    def there_and_back(client: Client) -> None:
        with client:
            stored = client.upload_artifact(source, progress=lambda *told: seen.append(told))
            assert (stored.digest, stored.size_bytes) == (DIGEST, len(BYTES))
            assert stored.mime == "application/json"
            assert client.artifact(stored.digest) == stored
            assert client.download_artifact(DIGEST, target) == stored
            assert client.download_artifact(DIGEST.removeprefix("sha256:")) == BYTES

    await trio.to_thread.run_sync(there_and_back, client_of(node))
    assert target.read_bytes() == BYTES
    assert target.stat().st_mode == source.stat().st_mode
    assert [done for done, _ in seen] == [262_144, 524_288, 700_000]
    assert {size for _, size in seen} == {700_000}


async def test_bytes_open_files_and_pipes_can_be_stored(node: Opened) -> None:
    def store_all(client: Client) -> None:
        with client:
            assert client.upload_artifact(b"", mime="text/plain").size_bytes == 0
            file = io.BytesIO(b"head" + BYTES)
            file.seek(4)
            assert client.upload_artifact(file).digest == DIGEST
            assert not file.closed
            read_end, write_end = os.pipe()
            os.write(write_end, b"through a pipe")
            os.close(write_end)
            with os.fdopen(read_end, "rb") as pipe:
                piped = client.upload_artifact(pipe)
            assert client.download_artifact(piped.digest) == b"through a pipe"

    await trio.to_thread.run_sync(store_all, client_of(node))


async def test_the_async_client_does_the_same(node: Opened, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    async with AsyncClient(node.doors.http_url, token=token(node), tenant="demo") as client:
        stored = await client.upload_artifact(BYTES, mime="text/plain")
        assert await client.artifact(DIGEST) == stored
        assert await client.download_artifact(DIGEST, target) == stored
        assert await client.download_artifact(DIGEST) == BYTES
        with pytest.raises(ApiError) as refused:
            await client.artifact("sha256:" + "0" * 64)
    assert (refused.value.code, target.read_bytes()) == ("NOT_FOUND", BYTES)


async def test_what_is_not_there_leaves_no_file(node: Opened, tmp_path: Path) -> None:
    def fetch(client: Client) -> None:
        with client, pytest.raises(ApiError, match="NOT_FOUND"):
            client.download_artifact("sha256:" + "0" * 64, tmp_path / "file")
        assert list(tmp_path.iterdir()) == []

    await trio.to_thread.run_sync(fetch, client_of(node))


async def test_a_handler_stores_and_names_bytes_in_one_go(node: Opened, tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_bytes(b"# found")
    bearer = token(node, "orch:work")
    worker = Worker(f"{node.doors.worker_url}/worker", bearer, "demo", api_url=node.doors.http_url)

    @worker.handler("scan")
    def scan(job: JobContext) -> None:
        assert job.artifact("sbom.json", BYTES, mime="application/json") == DIGEST
        job.artifact("report.md", file)
        with pytest.raises(ValueError, match="name: 1026 bytes are more than 1024"):
            job.artifact(file, name="é" * 513)
        with pytest.raises(ValueError, match="name: 1026 bytes are more than 1024"):
            job.artifact("é" * 513, b"never stored")

    def one_job(client: Client) -> str:
        with client:
            job = client.submit("scan")
            assert client.wait(job.job_id, 20).state == "completed"
            assert client.download_artifact(DIGEST) == BYTES
            return job.job_id

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_async)
        job_id = await trio.to_thread.run_sync(one_job, client_of(node))
        worker.drain()
    named = (await node.client.get(f"/jobs/{job_id}/artifacts")).json()["items"]
    assert {(one["name"], one["mime"], one["sizeBytes"]) for one in named} == {
        ("sbom.json", "application/json", 700_000),
        ("report.md", "text/markdown", 7),
    }
    digests = {one["name"]: one["digest"] for one in named}
    assert digests["sbom.json"] == DIGEST
    # What is named stays, however old it is; what is not goes.
    far_at = node.engine.clock.moment().at + 10**15
    await node.client.post("/artifacts", content=b"nobody names it")
    swept = await node.engine.store.sweep_artifacts(None, far_at, far_at, 100)
    assert swept.removed == 1
    assert (await node.client.get(f"/artifacts/{DIGEST}")).status_code == 200


@pytest.mark.parametrize(
    ("worker_url", "rest"),
    [
        ("ws://127.0.0.1:7071/worker", "http://127.0.0.1:7070"),
        ("wss://engine.example/worker", "https://engine.example:7070"),
        ("ws://[::1]:7071/worker", "http://[::1]:7070"),
        ("wss://engine.example:9/api/v1/jobengine/worker", "https://engine.example:9"),
    ],
)
def test_a_worker_finds_the_rest_interface_of_its_engine(worker_url: str, rest: str) -> None:
    assert api_url_of(worker_url) == rest


class Breaking(BaseHTTPRequestHandler):
    """Gives so many bytes of `data` a connection, from where it is asked, and breaks off."""

    data = BYTES
    each = 300_000
    ranges: list[str | None]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.data) - first))
        self.end_headers()
        self.wfile.write(self.data[first : first + self.each])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def breaking() -> Iterator[tuple[type[Breaking], Client]]:
    kind: Any = type("Once", (Breaking,), {"ranges": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with Client(f"http://127.0.0.1:{server.server_port}", token="t", tenant="demo") as client:
        yield kind, client
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_that_breaks_off_goes_on_where_it_ended(
    breaking: tuple[type[Breaking], Client], tmp_path: Path
) -> None:
    door, client = breaking
    stored = client.download_artifact(DIGEST, tmp_path / "copy")
    assert stored.size_bytes == len(BYTES)
    assert (tmp_path / "copy").read_bytes() == BYTES
    assert door.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_damaged_bytes_do_not_get_the_name_of_the_file(
    breaking: tuple[type[Breaking], Client], tmp_path: Path
) -> None:
    door, client = breaking
    door.each, door.data = 10**6, b"x" + BYTES[1:]
    (tmp_path / "copy").write_bytes(b"as it was")
    with pytest.raises(ArtifactDamagedError):
        client.download_artifact(DIGEST, tmp_path / "copy")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"as it was"]


async def test_the_commands_put_get_and_show(node: Opened, run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.json"
    source.write_bytes(BYTES)
    asks = {
        "JOBENGINE_URL": node.doors.http_url,
        "JOBENGINE_TOKEN": token(node),
        "JOBENGINE_TENANT": "demo",
    }

    def commands() -> None:
        put = run("artifact", "put", source, **asks)
        assert (put.exit_code, put.stderr) == (0, "")
        assert DIGEST in put.stdout
        assert "700,000 bytes" in put.stdout
        got = run("artifact", "get", DIGEST, "--to", target, "--output", "json", **asks)
        assert got.exit_code == 0
        assert f'"digest":"{DIGEST}"' in got.stdout
        assert target.read_bytes() == BYTES
        assert "application/json" in run("artifact", "show", DIGEST, **asks).stdout
        missing = run("artifact", "show", "sha256:" + "0" * 64, **asks)
        assert (missing.exit_code, "NOT_FOUND" in missing.stderr) == (1, True)
        unread = run("artifact", "put", tmp_path / "nothing", **asks)
        assert (unread.exit_code, "No such file" in unread.stderr) == (1, True)

    await trio.to_thread.run_sync(commands)
