"""The commands for webhooks, against a real engine and a receiver on loopback."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobengine.cli.failure import ExitCode
from tests.cli.conftest import Done, Run
from tests.end_to_end.processes import LOOPBACK, PATIENCE_S, RunningEngine, Stage, wait_for

SIGNED = ("--reason", "a test", "--ticket", "T-1")


@attrs.define
class Receiver:
    """What was posted, as signature and body."""

    url: str = ""
    http_status: int = 204
    posts: list[tuple[str, bytes]] = attrs.field(factory=list)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.posts.append((self.headers["X-JobEngine-Signature"], body))
            self.send_response(receiver.http_status)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/in"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def engine(stage: Stage) -> RunningEngine:
    """One that may post to this machine."""
    file = stage.directory / "webhooks.toml"
    file.write_text('webhook_allow = "127.0.0.1"\n')
    return stage.engine(*LOOPBACK, "--config", str(file))


def _document(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def _json(cli: Run, *arguments: object) -> Any:
    return _document(cli("webhook", *arguments, "--output", "json"))


def test_a_webhook_from_its_first_event_to_its_end(
    cli: Run, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    options = ("--type", "job.created", "--type", "run.*", "--description", "pager")
    made = _json(cli, "create", receiver.url, *options, "--secret-file", str(secret), *SIGNED)
    assert made["secret"] == "0123456789abcdef"
    assert made["types"] == ["job.created", "run.*"]
    webhook_id = made["webhookId"]
    assert cli("job", "submit", "scan").exit_code == 0
    wait_for(lambda: receiver.posts, PATIENCE_S, "an event")
    signature, body = receiver.posts[0]
    digest = hmac.new(b"0123456789abcdef", body, hashlib.sha256).hexdigest()
    assert signature == f"sha256={digest}"
    assert json.loads(body)["eventType"] == "job.created"

    def caught_up() -> Any:
        return not _json(cli, "show", webhook_id)["delivery"]["lag"]

    wait_for(caught_up, PATIENCE_S, "the confirmation")
    shown = cli("webhook", "show", webhook_id).stdout
    assert "0123456789abcdef" not in shown
    assert "job.created, run.*" in shown
    assert "204" in shown
    table = cli("webhook", "list").stdout.splitlines()
    assert table[0].split()[:4] == ["WEBHOOK", "URL", "TYPES", "STATE"]
    assert table[1].split()[:4] == [webhook_id, receiver.url, "job.created,run.*", "active"]

    assert _json(cli, "pause", webhook_id, *SIGNED)["reason"] == "paused_by_operator"
    assert _json(cli, "resume", webhook_id, "--after", "now", *SIGNED)["state"] == "active"
    changed = _json(cli, "update", webhook_id, "--all-types", "--wrapping", "dsse", *SIGNED)
    assert (changed["types"], changed["wrapping"]) == ([], "dsse")
    late = cli(
        "webhook", "update", webhook_id, "--to", "https://a.example/", "--revision", "1", *SIGNED
    )
    assert late.exit_code == ExitCode.REFUSED
    assert "REVISION_MISMATCH" in late.stderr
    rotated = cli("webhook", "rotate-secret", webhook_id, *SIGNED).stdout
    assert "secret" in rotated
    assert "jws_" in rotated
    assert _json(cli, "delete", webhook_id, *SIGNED)["name"] == webhook_id
    gone = cli("webhook", "show", webhook_id)
    assert (gone.exit_code, gone.stdout) == (ExitCode.ERROR, "")


def test_a_test_exits_with_how_it_went(cli: Run, receiver: Receiver) -> None:
    webhook_id = _json(cli, "create", receiver.url, "--type", "dag.*", *SIGNED)["webhookId"]
    went = cli("webhook", "test", webhook_id, *SIGNED)
    assert went.exit_code == ExitCode.OK, went.stderr
    assert went.stdout.splitlines()[:2] == ["delivered  yes", "status     204"]
    receiver.http_status = 503
    failed = cli("webhook", "test", webhook_id, "--output", "json", *SIGNED)
    receiver.http_status = 204
    assert failed.exit_code == ExitCode.ERROR
    said = json.loads(failed.stdout)
    assert (said["delivered"], said["httpStatus"]) == (False, 503)


def test_what_makes_no_sense_is_a_matter_of_usage(cli: Run, receiver: Receiver) -> None:
    usage = partial(_refused, cli, ExitCode.USAGE)
    usage("webhook_allow", "create", "https://10.0.0.1/", *SIGNED)
    usage("jobs.done", "create", receiver.url, "--type", "jobs.done", *SIGNED)
    usage("neither a seq nor 'begin'", "create", receiver.url, "--after", "now", *SIGNED)
    usage("--reason is missing", "create", receiver.url)
    usage("name what to change", "update", "w1", *SIGNED)
    usage("exclude each other", "update", "w1", "--type", "job.*", "--all-types", *SIGNED)


def _refused(cli: Run, exit_code: ExitCode, says: str, *arguments: object) -> None:
    done = cli("webhook", *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert says in done.stderr
