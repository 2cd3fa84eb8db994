"""TLS on both listeners, certificates of workers, and files that cannot be used."""

import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio

from jobengine.actors.runtime.clock import SystemClock
from jobengine.http.tls import Tls, TlsFiles, TlsUnusableError
from jobengine.sdk import Client, Worker
from tests.http.certificates import Authority, Pair
from tests.http.opened import Opened, hear, opened, say

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
HELLO = {"op": "hello", "workerId": "w", "queues": ["scan"], "capacity": 1}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files_of(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=client_ca)


async def test_both_listeners_speak_tls_and_are_announced_so(authority: Authority) -> None:
    trusted = authority.trusted()
    async with opened(tls=files_of(authority.sign()), verify=trusted) as node:
        assert node.doors.http_url.startswith("https://")
        assert node.doors.worker_url.startswith("wss://")
        over_https = node.doors.http_url.replace("http", "ws") + "/api/v1/jobengine/worker"
        for url in (None, over_https):
            answer = await node.client.post("/jobs", json={"jobType": "scan"})
            assert answer.status_code == 201
            async with node.worker(tls=trusted, url=url) as worker:
                await say(worker, HELLO, {"op": "credit", "slots": 1})
                assert (await hear(worker, "lease"))["jobId"] == answer.json()["jobId"]


async def test_every_answer_over_tls_asks_browsers_to_stay_with_it(authority: Authority) -> None:
    trusted = authority.trusted()
    async with opened(tls=files_of(authority.sign()), verify=trusted) as node:
        client = node.client
        root = node.doors.http_url
        answers = [
            await client.post("/jobs", json={"jobType": "scan"}),
            await client.get("/jobs"),
            await client.get("/nothing", headers={"Authorization": ""}),
            await client.get(root + "/livez"),
            await client.get(root + "/console"),
            await client.get("/worker", headers=UPGRADE),
            await client.get("/jobs", headers={"Expect": "miracles"}),
            await client.get("/jobs", headers={"X-Long": "x" * 40_000}),
        ]
        assert [answer.status_code for answer in answers] == [
            201,
            200,
            404,
            200,
            200,
            400,
            417,
            431,
        ]
        for answer in answers:
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000", answer.url
    async with opened() as node:
        for path in ("/livez", "/nothing", "/api/v1/jobengine/jobs"):
            answer = await node.client.get(node.doors.http_url + path)
            assert "Strict-Transport-Security" not in answer.headers


async def test_a_client_without_tls_or_with_an_old_version_ends_nothing(
    authority: Authority,
) -> None:
    trusted = authority.trusted()
    old = authority.trusted()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with opened(tls=files_of(authority.sign()), verify=trusted) as node:
        for url in (node.doors.http_url, node.doors.worker_url.replace("ws", "http")):
            async with httpx.AsyncClient(trust_env=False) as plain:
                with pytest.raises(httpx.TransportError):
                    await plain.get(url.replace("https", "http") + "/livez")
            async with httpx.AsyncClient(trust_env=False, verify=old) as outdated:
                with pytest.raises(httpx.ConnectError):
                    await outdated.get(url + "/livez")
        assert (await node.client.get("/jobs")).status_code == 200
        await _greet(node, trusted)


async def test_a_worker_shows_a_certificate_and_its_name_stands_in_the_ledger(
    authority: Authority,
) -> None:
    files = files_of(authority.sign(), client_ca=authority.file)
    shown = authority.trusted(authority.sign("agent 7"))
    async with opened(tls=files, verify=authority.trusted()) as node:
        async with node.worker(tls=shown) as worker:
            job = {"jobType": "scan"}
            await say(worker, {**HELLO, "capacity": 0}, {"op": "submit", "ref": 1, "jobs": [job]})
            job_id = (await hear(worker, "ack"))["jobs"][0]["jobId"]
        history = (await node.client.get(f"/jobs/{job_id}/history")).json()["items"]
        assert history[0]["actor"] == "tester (CN=agent 7)"


async def test_without_a_certificate_of_the_right_authority_no_worker_comes_in(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    files = files_of(authority.sign(), client_ca=authority.file)
    foreign = authority.trusted(other.sign("stranger"))
    async with opened(tls=files, verify=authority.trusted()) as node:
        for context in (authority.trusted(), foreign):
            assert not await _is_answered(node, context)
        assert await _is_answered(node, authority.trusted(authority.sign("agent")))
        for answer in (
            await node.client.get("/worker"),
            await node.client.get("/worker", headers=UPGRADE),
            await node.client.post("/worker/claim", json={"workerId": "w", "queues": ["scan"]}),
        ):
            assert answer.status_code == 404


async def _is_answered(node: Opened, context: ssl.SSLContext) -> bool:
    """Whether the workers' listener says anything to a request over TLS."""
    port = int(node.doors.worker_url.rpartition(":")[2])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    try:
        with trio.fail_after(15):
            await stream.send_all(b"GET /worker HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return bool(await stream.receive_some())
    except trio.BrokenResourceError:
        return False
    finally:
        await trio.aclose_forcefully(stream)


async def _greet(node: Opened, context: ssl.SSLContext) -> None:
    async with node.worker(tls=context) as worker:
        await say(worker, HELLO)
        await hear(worker, "welcome")


async def test_a_renewed_certificate_is_taken_without_a_restart(authority: Authority) -> None:
    pair = authority.sign()
    async with opened(tls=files_of(pair), verify=authority.trusted()) as node:
        before = await _serial(node.doors.http_url, authority)
        renewed = authority.sign("renewed")
        shutil.copy(renewed.certificate, pair.certificate)
        with pytest.raises(TlsUnusableError, match="is not the key of the certificate"):
            node.doors.reload_tls()
        assert await _serial(node.doors.http_url, authority) == before
        shutil.copy(renewed.key, pair.key)
        node.doors.reload_tls()
        for url in (node.doors.http_url, node.doors.worker_url):
            assert await _serial(url, authority) != before


async def _serial(url: str, authority: Authority) -> str:
    port = int(url.rpartition(":")[2])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=authority.trusted())
    with trio.fail_after(15):
        await stream.do_handshake()
        serial: str = stream.getpeercert()["serialNumber"]
    await trio.aclose_forcefully(stream)
    return serial


def _missing(authority: Authority, files: TlsFiles) -> None:
    files.certificate.unlink()


def _no_pem(authority: Authority, files: TlsFiles) -> None:
    files.certificate.write_text("nothing")


def _no_key(authority: Authority, files: TlsFiles) -> None:
    shutil.copy(files.certificate, files.key)


def _a_directory(authority: Authority, files: TlsFiles) -> None:
    files.key.unlink()
    files.key.mkdir()


def _of_another(authority: Authority, files: TlsFiles) -> None:
    shutil.copy(authority.sign("other").key, files.key)


def _expired(authority: Authority, files: TlsFiles) -> None:
    authority.sign(ends=datetime(2024, 3, 1, tzinfo=UTC))


def _encrypted(authority: Authority, files: TlsFiles) -> None:
    authority.sign(password=b"hunter2")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing, r"node\.pem cannot be read: No such file or directory$"),
        (_no_pem, r"node\.pem holds no certificate in PEM form$"),
        (_no_key, r"node\.key holds no private key in PEM form$"),
        (_a_directory, r"node\.key cannot be read: Is a directory$"),
        (_of_another, r"node\.key is not the key of the certificate in .*node\.pem; name the two"),
        (_expired, r"node\.pem: the certificate expired on 2024-03-01; renew it$"),
        (_encrypted, r"node\.key: the key is encrypted; store it without a password$"),
    ],
)
async def test_what_is_wrong_with_a_file_is_one_line_that_names_it(
    authority: Authority, spoil: Callable[[Authority, TlsFiles], None], said: str
) -> None:
    files = files_of(authority.sign())
    Tls(files, SystemClock())
    spoil(authority, files)
    with pytest.raises(TlsUnusableError, match=said) as caught:
        Tls(files, SystemClock())
    assert "\n" not in str(caught.value)


async def test_the_sdk_reaches_both_doors_with_a_ca_file(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(authority.sign(), client_ca=authority.file)
    shown = authority.trusted(authority.sign("agent"))
    async with opened(tls=files, verify=authority.trusted()) as node:
        token = node.headers()["Authorization"].removeprefix("Bearer ")
        worker = Worker(node.doors.worker_url, token, "demo", tls=shown)

        @worker.handler("scan")
        async def scan(_: object) -> str:
            return "done"

        def wait() -> object:
            with Client(node.doors.http_url, token=token, tenant="demo") as client:
                return client.wait(client.submit("scan").job_id, timeout_s=20).state

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run_async)
            monkeypatch.setenv("JOBENGINE_CA_FILE", str(authority.file))
            assert await trio.to_thread.run_sync(wait) == "completed"
            nursery.cancel_scope.cancel()


async def test_a_worker_that_tls_keeps_out_says_why_and_what_to_do_once(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    files = files_of(authority.sign(), client_ca=authority.file)
    astray = other.trusted(), "name its authority in JOBENGINE_CA_FILE"
    bare = authority.trusted(), "takes workers with a certificate only, give Worker(tls=…)"
    foreign = authority.trusted(other.sign("stranger")), "--tls-client-ca has signed"
    async with opened(tls=files, verify=authority.trusted()) as node:
        token = node.headers()["Authorization"].removeprefix("Bearer ")
        for context, said in (astray, bare, foreign):
            caplog.clear()
            worker = Worker(node.doors.worker_url, token, "demo", tls=context, reconnect_max_s=0.01)
            worker.handler("scan")(lambda _: None)
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.run_async)
                    refused = await _refused(node)
                    while await _refused(node) < refused + 3:
                        await trio.lowlevel.checkpoint()
                    worker.drain()
            warnings = [each.message for each in caplog.records if each.name == "jobengine.sdk"]
            assert len([text for text in warnings if said in text]) == 1, warnings
            assert node.doors.worker_url.partition("://")[2] in warnings[0]
            assert len(warnings) == 1


async def _refused(node: Opened) -> float:
    """How many handshakes with the workers' listener have failed."""
    url = node.doors.http_url + "/metrics"
    lines = (await node.client.get(url)).text.splitlines()
    name = "jobengine_worker_handshakes_refused_total "
    (count,) = [line.removeprefix(name) for line in lines if line.startswith(name)]
    return float(count)


async def test_a_worker_that_meets_a_port_without_tls_says_so(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as node:
        url = node.doors.worker_url.replace("ws://", "wss://")
        worker = Worker(url, "token", "demo", tls=authority.trusted(), reconnect_max_s=0.01)
        worker.handler("scan")(lambda _: None)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run_async)
                while "speaks no TLS: use ws://" not in caplog.text:
                    await trio.lowlevel.checkpoint()
                worker.drain()


def test_a_ca_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"none\.pem: No such file or directory"):
        Client(verify=tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    monkeypatch.setenv("JOBENGINE_CA_FILE", str(tmp_path / "empty.pem"))
    with pytest.raises(ValueError, match=r"empty\.pem: it holds no certificate in PEM form"):
        Worker("wss://localhost")
